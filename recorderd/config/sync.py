"""Where recordings are carried to."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from recorderd.config.fields import Bandwidth, unique
from recorderd.config.section import Part, Section


class _OfAKind:
    """Loads the models of the kinds of remotes, the largest there are, for a file that has a remote."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from recorderd.config import remotes

        return handler.generate_schema(remotes.Remote)


if TYPE_CHECKING:
    from recorderd.config.remotes import Remote
else:
    Remote = Annotated[Any, _OfAKind]


def _names_differ(remotes: tuple[Remote, ...]) -> tuple[Remote, ...]:
    unique(tuple(remote.name for remote in remotes))
    return remotes


class ScrubConfig(Section):
    """How copies are read again that were verified once."""

    every_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        default=30, description="every copy is read back again after so many days; 0: never"
    )
    bandwidth: Bandwidth = Field(
        default=4_000_000, description="the most that is read for this from a remote, in bytes a second"
    )
    local: bool = Field(
        default=True,
        description="whether the files of the spool are read again as well, and restored from a remote",
    )


class SyncConfig(Section):
    """Where recordings are carried to."""

    interval_s: Annotated[float, Field(ge=0.1, le=86_400.0)] = Field(
        default=5.0, description="how often the outbox looks for something to carry, in seconds"
    )
    scrub: Part[ScrubConfig] = Field(default_factory=ScrubConfig.model_construct)
    remotes: Annotated[tuple[Remote, ...], Field(strict=False), AfterValidator(_names_differ)] = Field(
        default=(), description="every recording goes to each of these"
    )
