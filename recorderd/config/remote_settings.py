"""What every remote has, whatever its kind."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from recorderd.config.fields import Bandwidth
from recorderd.config.hours import as_days, as_hours, day_text, hours_text, zone_of, zone_text
from recorderd.config.section import Section
from recorderd.spool.pacing import Terms, Timetable


def _one_is_a_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _verify(value: object) -> str | dict[str, float]:
    if value == "full":
        return "full"
    share = value.get("sample") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0.0 <= share <= 1.0:
        raise ValueError("must be full, or {sample: SHARE} with a share of 0 to 1 such as 0.1")
    return {"sample": float(share)}


class RemoteSettings(Section):
    """The keys that all remotes share; ``type`` and what it needs are each kind's own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")] = Field(
        description="the remote's name in lists and lines: letters, digits, `-` and `_`"
    )
    key_slots: bool = Field(
        default=True,
        description="whether it gets `<id>.key` too: a remote without them cannot open a recording alone",
    )
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="how many recordings are under way to it at once"
    )
    bandwidth: Bandwidth | None = Field(
        default=None,
        description="the most that is sent to it and read back, in bytes a second, such as `500k` or `10M`",
    )
    between: Annotated[
        tuple[Annotated[str, AfterValidator(hours_text)], ...],
        Field(strict=False),
        BeforeValidator(_one_is_a_list),
    ] = Field(
        default=(),
        description="the hours in which it is used, such as `20:00-06:00`, which goes on into the next day",
    )
    days: Annotated[
        tuple[Annotated[str, AfterValidator(day_text)], ...],
        Field(strict=False),
        BeforeValidator(_one_is_a_list),
    ] = Field(default=(), description="the days on which these begin, such as `sat` or `mon-fri`")
    timezone: Annotated[str, AfterValidator(zone_text)] | None = Field(
        default=None,
        description="the zone of `between` and `days`, such as `Europe/London`; the host's if not given",
    )
    order: Literal["oldest-first", "newest-first"] = Field(
        default="oldest-first", description="which recordings go first: `oldest-first` or `newest-first`"
    )
    verify: Annotated[Literal["full"] | dict[str, float], PlainValidator(_verify)] = Field(
        default="full",
        description="`full`: every copy is read back; `{sample: 0.1}`: one in ten, the others are `stored`,"
        " never `verified`",
    )

    def terms(self) -> Terms:
        """As the outbox has it."""
        return Terms(
            key_slots=self.key_slots,
            parallel=self.parallel,
            bandwidth=self.bandwidth,
            timetable=Timetable(
                tuple((hours.first, hours.last) for hours in map(as_hours, self.between)),
                frozenset(day for days in self.days for day in as_days(days)),
                None if self.timezone is None else zone_of(self.timezone),
            ),
            newest_first=self.order == "newest-first",
            sample=1.0 if self.verify == "full" else self.verify["sample"],
        )
