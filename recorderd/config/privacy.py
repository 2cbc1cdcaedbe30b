"""The section `privacy`: what of a recorded call is not kept, or not shown."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from recorderd.calls.privacy import Masks
from recorderd.config.policy import header_name
from recorderd.config.section import Part, Section

Key = Annotated[str, Field(pattern=r"^[0-9A-D*#]{1,16}$")]


class MaskConfig(Section):
    """Where numbers are shown without their middle."""

    manifest: bool = Field(
        default=False,
        description="numbers are masked in manifests and the index, and so in all that `recorderctl` lists;"
        " the sealed recording has them whole",
    )
    syslog: bool = Field(default=False, description="numbers are masked in alerts")
    keep_first: Annotated[int, Field(ge=0, le=16)] = Field(
        default=3, description="characters shown at the beginning"
    )
    keep_last: Annotated[int, Field(ge=0, le=16)] = Field(
        default=4, description="characters shown at the end; of a short number never more than half is shown"
    )

    def masks(self) -> Masks:
        """As they are applied."""
        return Masks(self.manifest, self.syslog, self.keep_first, self.keep_last)


class PauseConfig(Section):
    """What pauses a recording; `recorderctl pause` does in any case."""

    header: Annotated[str, AfterValidator(header_name)] | None = Field(
        default=None,
        description="a SIP header, such as `X-Record`, whose value `pause`, `resume` or `off` in an INVITE,"
        " re-INVITE, UPDATE or INFO is obeyed; whoever can send it can stop a recording",
    )
    pause_keys: Key | None = Field(
        default=None, description="keys, such as `*7`, that pause when either end presses them"
    )
    resume_keys: Key | None = Field(
        default=None,
        description="keys, such as `*8`, that resume; the same as `pause_keys`: each time the other",
    )
    max_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = Field(
        default=600.0,
        description="a pause ends by itself after so long, in seconds, with an alert; 0: never",
    )

    @field_validator("resume_keys")
    @classmethod
    def _apart(cls, value: str | None, info: ValidationInfo) -> str | None:
        pauses = info.data.get("pause_keys")
        if value and pauses and value != pauses and (value.startswith(pauses) or pauses.startswith(value)):
            raise ValueError(
                f"{value} and the pause_keys {pauses} begin alike: whoever presses the longer one has pressed"
                " the shorter one already; take others, or the same for both"
            )
        return value


class PrivacyConfig(Section):
    """What is not kept, or not shown."""

    mask_numbers: Part[MaskConfig] = Field(default_factory=MaskConfig.model_construct)
    dtmf: Literal["keep", "digits", "remove"] = Field(
        default="keep",
        description="keys pressed (RFC 4733): `keep` them; `digits`: keep that and when, not which;"
        " `remove`: keep nothing of them",
    )
    dtmf_tones: Literal["keep", "silence"] = Field(
        default="keep",
        description="keys heard as tones in G.711: `keep` them or `silence` the audio while one sounds",
    )
    pause: Part[PauseConfig] = Field(default_factory=PauseConfig.model_construct)
