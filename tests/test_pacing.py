"""When a remote is used, and how fast."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.config.loader import parse_config
from recorderd.errors import ConfigError
from recorderd.spool.pacing import (
    LONGEST_PAUSE_S,
    Meter,
    Terms,
    Timetable,
    TokenBucket,
    is_sampled,
    is_waiting,
    longest_pause_s,
    pause_ns,
)

S = 1_000_000_000
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Timetable(((20 * 60, 6 * 60),), zone=BERLIN)


def ns(text: str) -> int:
    """Of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


@pytest.mark.parametrize(
    ("time", "is_open"),
    [
        ("2026-11-21T18:59:59", False),  # 19:59:59 in Berlin
        ("2026-11-21T19:00:00", True),
        ("2026-11-21T23:30:00", True),
        ("2026-11-22T04:59:59", True),
        ("2026-11-22T05:00:00", False),
        ("2026-07-01T18:00:00", True),  # summer time: 20:00
        ("2026-07-01T04:00:00", False),
        # The end of summer time repeats 02:00 to 03:00: an hour more of the night.
        ("2026-10-25T00:30:00", True),
        ("2026-10-25T01:30:00", True),
        ("2026-10-25T04:59:59", True),
        ("2026-10-25T05:00:00", False),
        # Its beginning skips that hour.
        ("2026-03-29T03:59:59", True),
        ("2026-03-29T04:00:00", False),
    ],
)
def test_hours_go_over_midnight_and_by_the_zones_clock(time: str, is_open: bool) -> None:
    assert NIGHT.is_open(ns(time)) is is_open


def test_an_hour_that_summer_time_skips_does_not_come_and_one_repeated_counts_twice() -> None:
    table = Timetable(((2 * 60, 3 * 60),), zone=BERLIN)

    def minutes(day: str) -> int:
        begun = ns(f"{day}T00:00:00") - 2 * 3600 * S
        return sum(table.is_open(begun + n * 60 * S) for n in range(26 * 60))

    assert minutes("2026-03-28") == 60
    assert minutes("2026-03-29") == 0
    assert minutes("2026-10-25") == 120


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    friday = Timetable(((22 * 60, 4 * 60),), frozenset({4}), UTC)
    assert friday.is_open(ns("2026-11-20T22:00:00"))  # a Friday
    assert friday.is_open(ns("2026-11-21T03:59:00"))
    assert not friday.is_open(ns("2026-11-20T03:59:00"))
    assert not friday.is_open(ns("2026-11-21T22:00:00"))
    assert Timetable((), frozenset({5}), UTC).is_open(ns("2026-11-21T12:00:00"))
    assert not Timetable((), frozenset({5}), UTC).is_open(ns("2026-11-22T12:00:00"))


def test_when_it_opens_is_told() -> None:
    at = ns("2026-11-21T12:00:30")
    assert NIGHT.opens_ns(at) == ns("2026-11-21T19:00:00")
    assert NIGHT.opens_ns(ns("2026-11-21T20:00:00")) == ns("2026-11-21T20:00:00")
    assert Timetable().opens_ns(at) == at
    assert Timetable().is_open(-(1 << 62))
    assert NIGHT.is_open(1 << 62) in (True, False)


@given(st.lists(st.tuples(st.integers(0, 50_000), st.floats(0, 5)), min_size=1, max_size=60))
def test_a_bucket_never_lets_more_through_than_its_rate_and_burst(steps: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(1000.0, 2000.0)
    now, passed, last = 100.0, 0, 0.0
    for count, idle in steps:
        now += idle
        last = bucket.take(count, now)
        passed += count
        now += last
        assert passed <= 1000.0 * (now - 100.0) + 2000.0 + 1.0
    assert last >= 0.0


def test_a_bucket_without_a_rate_and_a_clock_that_stands_still() -> None:
    assert TokenBucket(None).take(1 << 40, 0.0) == 0.0
    bucket = TokenBucket(10.0, 10.0)
    assert bucket.take(10, 5.0) == 0.0
    assert bucket.take(10, 4.0) == pytest.approx(1.0)


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_pauses_are_anything_up_to_a_bound_that_grows(failures: int, drawn: float) -> None:
    pause = pause_ns(failures, lambda: drawn)
    assert 0 < pause <= longest_pause_s(failures) * S + 1
    assert longest_pause_s(failures) <= longest_pause_s(failures + 1) <= LONGEST_PAUSE_S


@given(st.integers(-(1 << 61), 1 << 61), st.integers(-(1 << 61), 1 << 61))
def test_no_clock_makes_a_pause_longer_than_the_longest(until: int, now: int) -> None:
    if is_waiting(until, now):
        assert not is_waiting(until, now + LONGEST_PAUSE_S * S)
        assert not is_waiting(until, now - LONGEST_PAUSE_S * S - 1)


def test_the_sample_is_of_the_size_asked_for_and_nobody_else_can_tell_it() -> None:
    ids = [f"20261121T200501Z-{number:010x}" for number in range(4000)]
    drawn = {key: {each for each in ids if is_sampled(each, 0.1, key)} for key in (b"a" * 32, b"b" * 32)}
    for chosen in drawn.values():
        assert 320 < len(chosen) < 480
    first, second = drawn.values()
    assert len(first & second) < 80
    assert all(is_sampled(each, 1.0, b"") for each in ids)
    assert not any(is_sampled(each, 0.0, b"k" * 32) for each in ids)


def test_the_meter_forgets() -> None:
    meter = Meter()
    assert meter.rates(0.0) == (0.0, 0.0)
    for second in range(100):
        meter.add(2, 1000, 1000.0 + second)
    recordings, size = meter.rates(1100.0)
    assert recordings == pytest.approx(2.0, rel=0.15)
    assert size == pytest.approx(1000.0, rel=0.15)
    assert meter.rates(1100.0 + timedelta(hours=1).total_seconds()) == (0.0, 0.0)


def configured(text: str) -> Terms:
    whole = (
        "spool: {path: s}\nencryption: {recipients: [a.pub]}\nsync: {remotes: [{name: a, type: file, path: /a"
    )
    config = parse_config(f"{whole}{text}}}]}}\n".encode(), "c.yaml", Path("/etc"))
    return config.sync.remotes[0].terms()


def test_terms_are_what_the_configuration_says() -> None:
    terms = configured("")
    assert (terms.parallel, terms.bandwidth, terms.sample, terms.newest_first) == (4, None, 1.0, False)
    assert terms.timetable.is_open(0)
    text = ', between: "20:00-06:00", days: mon-fri, timezone: Europe/Berlin, bandwidth: 10M'
    terms = configured(text + ", order: newest-first, verify: {sample: 0.25}, key_slots: false")
    assert terms.timetable == Timetable(((1200, 360),), frozenset(range(5)), BERLIN)
    assert (terms.bandwidth, terms.sample, terms.newest_first) == (10_000_000, 0.25, True)
    assert not terms.key_slots
    assert configured(", bandwidth: 500k").bandwidth == 500_000
    assert configured(", between: [08:00-12:00, 13:00-17:00]").timetable.hours == ((480, 720), (780, 1020))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (", verify: some", "verify: must be full, or {sample: SHARE}"),
        (", verify: {sample: 2}", "verify: must be full, or {sample: SHARE}"),
        (", bandwidth: 1", "bandwidth: must be at least 1000, is 1"),
        (", bandwidth: fast", "bandwidth: must be a whole number, is 'fast'"),
        (", between: noon", "between[0]: must be hours such as 08:00-18:30, is 'noon'"),
        (", parallel: 0", "parallel: must be at least 1, is 0"),
        (", timezone: Mars", "timezone: 'Mars' is no time zone that this host knows"),
    ],
)
def test_wrong_terms_are_told(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured(text)
    assert f"sync.remotes[0].{error}" in str(raised.value)
