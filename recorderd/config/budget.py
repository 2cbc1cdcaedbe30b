"""How much of the disk the spool may use."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from recorderd.config.section import Section
from recorderd.spool.budget import GB, MARKS, Limits


def _rising(marks: tuple[float, ...]) -> tuple[float, ...]:
    if not marks or sorted(set(marks)) != list(marks):
        raise ValueError("must rise from mark to mark")
    return marks


Share = Annotated[float, Field(gt=0.0, le=1.0)]
Days = Annotated[float, Field(ge=0.0, le=36_500.0)]


class BudgetConfig(Section):
    """How much of the disk the spool may use, and how long recordings stay on it."""

    max_gb: Annotated[float, Field(gt=0.0, le=1e9)] | None = Field(
        default=None,
        description="recordings here may take so many GB (10^9 bytes); not both this and `share`",
    )
    share: Share | None = Field(
        default=None, description="recordings here may take this share of the file system"
    )
    keep_free_gb: Annotated[float, Field(ge=0.0, le=1e6)] | None = Field(
        default=None,
        description="the reserve: with so many GB left, calls that begin are not recorded and those in"
        " progress go on; if not given 2 % of the file system, 1 GB at most",
    )
    marks: Annotated[tuple[Share, ...], Field(strict=False, max_length=8), AfterValidator(_rising)] = Field(
        default=MARKS, description="how full is told to syslog: shares of what the recordings may take"
    )
    keep_days: Days | None = Field(
        default=None,
        description="older recordings go from here once every remote has them, verified; if not given they"
        " stay as long as there is room",
    )
    recheck_days: Days = Field(
        default=30.0,
        description="before a recording goes from here, a remote's copy that was not read back for so many"
        " days is; of others the sizes are compared. The only copy is not believed longer than a day",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_gb is not None and self.share is not None:
            raise ValueError("max_gb and share: only one of them")
        return self

    @property
    def limits(self) -> Limits:
        """The same for :mod:`recorderd.spool.budget`."""
        return Limits(
            most_bytes=None if self.max_gb is None else int(self.max_gb * GB),
            most_share=self.share,
            reserve_bytes=None if self.keep_free_gb is None else int(self.keep_free_gb * GB),
            marks=self.marks,
            keep_days=self.keep_days,
            recheck_days=self.recheck_days,
        )
