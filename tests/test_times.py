"""Times as they are shown, and read again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.spool.times import microseconds, rfc3339

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The first and the last microsecond of the calendar."""


@given(st.integers(FIRST_US, LAST_US))
def test_a_time_is_shown_in_whole_milliseconds_and_read_again(time_us: int) -> None:
    shown = rfc3339(time_us)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    assert shown == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if moment.year > 1:  # what is before the calendar in another zone cannot be read
        assert microseconds(shown) == time_us // 1000 * 1000


@pytest.mark.parametrize(
    ("time_us", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (999, "1970-01-01T00:00:00.000Z"),
        (FIRST_US, "0001-01-01T00:00:00.000Z"),
        (FIRST_US - 1, "0001-01-01T00:00:00.000Z"),
        (-(1 << 90), "0001-01-01T00:00:00.000Z"),
        (LAST_US, "9999-12-31T23:59:59.999Z"),
        (LAST_US + 1, "9999-12-31T23:59:59.999Z"),
        (1 << 90, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_broken_clock_is_shown_as_the_calendar_ends(time_us: int, shown: str) -> None:
    assert rfc3339(time_us) == shown


def test_texts_compare_as_times() -> None:
    times_us = [FIRST_US, -1_000, 0, 1_000, 999_999_000, 1_000_000_000, LAST_US]
    assert sorted(map(rfc3339, times_us)) == [rfc3339(each) for each in times_us]
