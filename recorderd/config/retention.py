"""The section `retention`: how long recordings are kept, and who may approve their destruction.

A profile is a file ``retention-NAME.yaml`` with such a section, beside the configuration or, for those that
come with recorderd, where it is installed.
"""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, model_validator

from recorderd.calls.patterns import pattern
from recorderd.calls.policy import Match, Policy, Rule
from recorderd.config.fields import AbsolutePath, unique
from recorderd.config.policy import MatchConfig, Patterns
from recorderd.config.section import Part, Section
from recorderd.config.yaml_lines import parse_yaml
from recorderd.spool.retention import RetentionClass, Schedule, check_period

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_PROFILE = r"^[a-z0-9][a-z0-9-]{0,31}$"
_COMING_WITH = (Path(sys.prefix) / "share/recorderd", Path(__file__).resolve().parents[2] / "config")
"""Where the profiles are that come with recorderd: installed, and in its source tree."""


class RetentionClassConfig(Section):
    """A kind of recording."""

    name: Annotated[str, Field(pattern=_NAME)] = Field(description="what lists and manifests call it")
    keep: Annotated[str, AfterValidator(check_period)] = Field(
        description="how long from the end of the recording: `90d`, `6w`, `18m` (months), `5y`, or `forever`"
    )
    review: bool = Field(
        default=False,
        description="whether somebody has to look at those that are over before they are proposed for"
        " destruction",
    )
    sites: Patterns = Field(
        default=(), description="only at recorders whose `site.name` is one of these: patterns"
    )
    match: Part[MatchConfig] = Field(default_factory=MatchConfig.model_construct)


def _named_once(classes: tuple[RetentionClassConfig, ...]) -> tuple[RetentionClassConfig, ...]:
    unique(tuple(each.name for each in classes))
    return classes


class RetentionConfig(Section):
    """How long recordings are kept."""

    profile: Annotated[str, Field(pattern=_PROFILE)] | None = Field(
        default=None,
        description="the file `retention-NAME.yaml` with classes: `finance`, `healthcare`, `retail`,"
        " `government`, or one of your own beside the configuration",
    )
    classes: Annotated[tuple[RetentionClassConfig, ...], Field(strict=False), AfterValidator(_named_once)] = (
        Field(
            default=(),
            description="the first class whose `match` fits a call is its recording's; before those of the"
            " profile, and instead of those of the same name",
        )
    )
    default: Annotated[str, Field(pattern=_NAME)] | None = Field(
        default=None,
        description="the class of a recording that no `match` fits; without one it is kept for ever",
    )
    approvers: Annotated[tuple[AbsolutePath, ...], Field(strict=False), AfterValidator(unique)] = Field(
        default=(),
        description="public keys (`FILE.pub` of `recorderctl retention keygen`) of those who may approve a"
        " destruction",
    )
    approvals: Annotated[int, Field(ge=2, le=16)] = Field(
        default=2, description="how many of them have to approve each"
    )
    approval_days: Annotated[int, Field(ge=1, le=365)] = Field(
        default=30, description="for how many days an approval holds"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_profile(cls, value: Any, info: ValidationInfo) -> Any:
        """The profile's classes behind the own ones."""
        name = value.get("profile") if isinstance(value, dict) else None
        if not isinstance(name, str) or not re.fullmatch(_PROFILE, name):
            return value  # the field says what is wrong with it
        base = info.context["base"] if info.context else Path()
        profile = read_profile(name, base)
        own = value.get("classes")
        own = [] if own is None else own
        if not isinstance(own, list | tuple):
            return value
        names = [each.get("name") for each in own if isinstance(each, dict)]
        more = [each.model_dump(by_alias=True) for each in profile.classes if each.name not in names]
        return {**value, "classes": [*own, *more], "default": value.get("default") or profile.default}

    @model_validator(mode="after")
    def _default_is_a_class(self) -> Self:
        names = [each.name for each in self.classes]
        if self.default is not None and self.default not in names:
            raise ValueError(f"default: {self.default} is no class; there are {', '.join(names) or 'none'}")
        for each in self.classes:
            if each.match == MatchConfig() and each.name != self.default:
                raise ValueError(
                    f"classes: {each.name} has no match, so no call has it: name it as the default, or say"
                    " what it is for"
                )
        if self.approvers and len(self.approvers) < self.approvals:
            raise ValueError(f"approvers: {len(self.approvers)}, and approvals asks for {self.approvals}")
        return self

    def schedule(self, site: str) -> Schedule:
        """The classes of a site, as the spool has them."""
        classes = tuple(RetentionClass(each.name, each.keep, each.review) for each in self._of(site))
        names = {each.name for each in classes}
        return Schedule(classes, self.default if self.default in names else None)

    def policy(self, policy: Policy, site: str) -> Policy | None:
        """The rules that give a call its class, by the name of the rule; None where there are none.
        ``policy`` tells inside from outside."""
        rules = tuple(Rule(each.name, each.match.match(), "record") for each in self._of(site))
        rules = tuple(rule for rule in rules if rule.match != Match())
        return policy._replace(rules=rules, default="record") if rules else None

    def _of(self, site: str) -> list[RetentionClassConfig]:
        return [
            each
            for each in self.classes
            if not each.sites or any(pattern(written)(site) for written in each.sites)
        ]


def read_profile(name: str, base: Path) -> RetentionConfig:
    """A profile: the one in the folder ``base``, or one that comes with recorderd. Raises ValueError."""
    file = f"retention-{name}.yaml"
    found = [folder / file for folder in (base, *_COMING_WITH) if (folder / file).is_file()]
    if not found:
        raise ValueError(f"profile: there is no {base / file}, and none of this name comes with recorderd")
    path = found[0]
    try:
        document = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ValueError(f"profile: {path}: {error.strerror}") from None
    values = document.values if isinstance(document.values, dict) else {}
    section = values.get("retention")
    if document.faults or list(values) != ["retention"] or not isinstance(section, dict):
        raise ValueError(f"profile: {path} is not a file with a section retention alone")
    if section.get("profile") is not None:
        raise ValueError(f"profile: {path} names a profile itself")
    try:
        return RetentionConfig.model_validate(section, context={"base": path.parent})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"profile: {path}: {where}: {first['msg']}") from None
