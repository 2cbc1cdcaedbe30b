"""The section `ledger`: the tamper-evident account of everything that happened."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from recorderd.config.fields import AbsolutePath, some
from recorderd.config.section import Section


class TimestampsConfig(Section):
    """A time-stamp authority (RFC 3161) that confirms when a checkpoint existed."""

    url: str = Field(description="the authority's address, such as `http://tsa.example/tsr`")
    ca: AbsolutePath = Field(
        description="the certificate (PEM) that its answers must be signed under; any other answer is refused"
    )
    every_s: Annotated[float, Field(ge=1.0, le=31_536_000.0)] = Field(
        default=3_600.0, description="how often the newest checkpoint is stamped, in seconds"
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=300.0)] = Field(
        default=10.0, description="how long an answer may take, in seconds"
    )

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} does not begin with http:// or https://")
        return value


Calendar = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]


class OpenTimestampsConfig(Section):
    """Calendars of OpenTimestamps."""

    calendars: Annotated[tuple[Calendar, ...], Field(strict=False), AfterValidator(some)] = Field(
        description="calendars to ask, such as `https://alice.btc.calendar.opentimestamps.org`; one answer"
        " is enough"
    )
    every_s: Annotated[float, Field(ge=60.0, le=31_536_000.0)] = Field(
        default=86_400.0, description="how often the newest checkpoint is anchored, in seconds"
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=300.0)] = Field(
        default=10.0, description="how long an answer may take, in seconds"
    )


class LedgerConfig(Section):
    """The ledger of recordings, calls and alerts."""

    enabled: bool = Field(
        default=True,
        description="every recording, outcome and alert is entered into a ledger that shows later changes"
        " (docs/ledger.md)",
    )
    checkpoint_s: Annotated[float, Field(ge=1.0, le=86_400.0)] = Field(
        default=60.0,
        description="how often what was entered is signed, in seconds; what is changed before that is not"
        " detected",
    )
    numbers: bool = Field(
        default=True,
        description="entries about calls have the numbers of both sides; entries are kept for ever,"
        " recordings are not",
    )
    exports: Literal["enter", "require"] = Field(
        default="enter",
        description="`export` enters who took which recording; `require`: where that cannot be entered,"
        " nothing is exported",
    )
    timestamps: TimestampsConfig | None = Field(
        default=None, description="have checkpoints stamped with the time by an authority"
    )
    opentimestamps: OpenTimestampsConfig | None = Field(
        default=None, description="have checkpoints anchored in the Bitcoin block chain"
    )

    @model_validator(mode="after")
    def _somewhere_to_enter(self) -> Self:
        if self.exports == "require" and not self.enabled:
            raise ValueError("exports: `require` needs the ledger that `enabled: false` switches off")
        return self
