"""Periods never end early, and a recording has the class that keeps it longest."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.spool.retention import (
    RetentionClass,
    Schedule,
    check_period,
    end_of,
    stamp,
    stamped_later,
    time_text,
)
from recorderd.spool.times import microseconds, rfc3339

DAY_US = 86_400_000_000


def us(text: str) -> int:
    return microseconds(f"{text}T12:00:00.000Z")


@pytest.mark.parametrize(
    ("since", "keep", "end"),
    [
        ("2026-11-21", "90d", "2027-02-19"),
        ("2026-11-21", "6w", "2027-01-02"),
        ("2026-11-21", "18m", "2028-05-21"),
        ("2026-11-21", "5y", "2031-11-21"),
        ("2028-02-29", "1y", "2029-03-01"),
        ("2028-02-29", "4y", "2032-02-29"),
        ("2026-10-31", "1m", "2026-12-01"),
        ("2026-12-31", "2m", "2027-03-01"),
        ("2026-11-30", "1m", "2026-12-30"),
        ("2027-01-31", "1m", "2027-03-01"),
        ("2026-12-15", "12m", "2027-12-15"),
    ],
)
def test_when_a_period_ends(since: str, keep: str, end: str) -> None:
    assert end_of(us(since), keep) == us(end)


@pytest.mark.parametrize("keep", ["forever", "8000y", "99999m"])
def test_what_never_ends(keep: str) -> None:
    assert end_of(us("2026-11-21"), keep) is None


@pytest.mark.parametrize(
    "keep", ["", "5", "y", "0d", "-5y", "5 y", "5Y", "1.5y", "05d", "100000d", "5y5m", "\u0665y"]
)
def test_what_is_no_period(keep: str) -> None:
    with pytest.raises(ValueError, match="must be a period"):
        check_period(keep)


@given(
    since=st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
    count=st.integers(1, 600),
    unit=st.sampled_from("dwmy"),
)
def test_no_period_is_shorter_than_it_says(since: datetime, count: int, unit: str) -> None:
    since_us = round(since.replace(tzinfo=UTC).timestamp() * 1e6)
    end = end_of(since_us, f"{count}{unit}")
    assert end is not None
    least = {"d": 1, "w": 7, "m": 28, "y": 365}[unit] * count
    assert end - since_us >= least * DAY_US
    assert microseconds(time_text(end)) >= end
    then = since.replace(tzinfo=UTC) + timedelta(microseconds=end - since_us)
    if unit in "my":
        assert (then.year - since.year) * 12 + then.month - since.month - count * (
            12 if unit == "y" else 1
        ) in (
            0,
            1,
        )


SCHEDULE = Schedule(
    (RetentionClass("a", "90d"), RetentionClass("b", "5y"), RetentionClass("c", "forever")), default="a"
)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([""], "a"),
        (["a", "b"], "b"),
        (["b", ""], "b"),
        (["a", "c", "b"], "c"),
        (["gone", "a"], None),
        ([], None),
    ],
)
def test_the_class_that_keeps_longest(names: list[str], chosen: str | None) -> None:
    found = SCHEDULE.longest(names)
    assert (found and found.name) == chosen


def test_without_a_default_it_is_kept_for_ever() -> None:
    assert Schedule(SCHEDULE.classes).longest(["a", ""]) is None


def test_a_stamp_of_a_crash_is_made_later() -> None:
    first = stamp("a", "90d", us("2026-11-21"))
    assert first["expires_at"] == "2027-02-19T12:00:00.000Z"
    later = stamped_later(first, us("2026-11-22"))
    assert later is not None
    assert later["expires_at"] == "2027-02-20T12:00:00.000Z"
    for broken in (None, "a", {}, {"class": "a", "keep": "soon"}, {"class": "a", "keep": 5}):
        assert stamped_later(broken, 0) is None


def test_an_expiry_is_rounded_up() -> None:
    assert time_text(1) == "1970-01-01T00:00:00.001Z"
    assert time_text(1000) == rfc3339(1000)
