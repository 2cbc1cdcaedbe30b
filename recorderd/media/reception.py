"""What the far end says of a stream: reports of RTCP, one by one, to a few figures.

The recorder stands between the speaker and the listener. What was lost on the way to it the listener did not
get either; what the listener lacks beyond that was lost behind it, and what the listener has and the recorder
has not was lost on the way into the recorder alone. A receiver's reports tell these apart.

All times are by the recorder's clock, so that nobody's clock need be right.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from recorderd.wire.rtcp import ReportBlock, SenderReport, VoipMetrics

SENT_KEPT: Final = 8
"""A sender's reports that may still be answered."""

MAX_REPORTERS: Final = 8
"""Receivers of one stream: who takes a call over reports of it anew."""

LONGEST_TRIP_US: Final = 10e6
"""A longer round trip is a mistake."""

BASELINE_S: Final = 300.0
"""From one report to another, to tell the drift of a sender's media clock against its own wall clock: a
report may be some 20 ms off."""

MOST_PPM: Final = 1_000.0


class Delivery(NamedTuple):
    """How a speaker's packets came to the listener, by the listener's word."""

    reports: int
    """Of receivers."""
    receiver_lost: int
    """Packets that the listener lacked, at its last report."""
    lost_here: int
    """Those that had not come here either by then."""
    receiver_jitter_ms: float | None
    """Mean of the reports."""
    round_trip_ms: float | None
    """From here to the listener and back, mean of the reports."""
    sender_drift_ppm: float | None
    """By how much the speaker's media clock is fast by the speaker's own wall clock."""
    discarded: float | None
    """Share of the packets that came to the listener too late to be played."""
    mos: float | None
    """The listener's own estimate of how it sounded."""

    @property
    def lost_behind(self) -> int:
        """Packets that were lost between the recorder and the listener."""
        return max(0, self.receiver_lost - self.lost_here)

    @property
    def lost_here_alone(self) -> int:
        """Packets that the listener had, and the recorder did not see."""
        return max(0, self.lost_here - self.receiver_lost)


class Reception:
    """Follows the reports that concern one stream."""

    __slots__ = (
        "_delay",
        "_first",
        "_jitter_ms",
        "_last",
        "_lost",
        "_metrics",
        "_reports",
        "_sent",
        "_trips",
        "lost_here",
    )

    def __init__(self) -> None:
        self._lost: dict[int, int] = {}
        """By receiver."""
        self.lost_here = 0
        self._reports = 0
        self._jitter_ms = 0.0
        self._trips = 0
        self._delay = 0.0
        self._sent: deque[tuple[int, int]] = deque(maxlen=SENT_KEPT)
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int, int] | None = None
        self._metrics: VoipMetrics | None = None

    def sender(self, report: SenderReport, time_us: int, clock_rate: int) -> None:
        """The stream's sender told what time it is."""
        self._sent.append((report.ntp >> 16 & 0xFFFF_FFFF, time_us))
        if not report.ntp:
            return  # RFC 3550 section 6.4.1: it has no clock
        told = (report.ntp / 2**32, report.timestamp)
        if self._first is None:
            self._first = told
        self._last = (*told, clock_rate)

    def receiver(
        self, reporter: int, block: ReportBlock, time_us: int, clock_rate: int, lost_here: int
    ) -> None:
        """A receiver told what of the stream it got; ``lost_here`` is what is missing here by now."""
        if reporter in self._lost or len(self._lost) < MAX_REPORTERS:
            self._lost[reporter] = max(0, block.lost)
        self._reports += 1
        self.lost_here = lost_here
        self._jitter_ms += block.jitter * 1000 / clock_rate
        for ntp, sent_us in self._sent if block.last_report else ():
            trip = time_us - sent_us - block.delay_s * 1e6
            if ntp == block.last_report and -1000 <= trip <= LONGEST_TRIP_US:
                self._trips += 1
                self._delay += max(0.0, trip) / 1000
                break

    def metrics(self, metrics: VoipMetrics) -> None:
        """The receiver told how the stream sounds."""
        self._metrics = metrics

    @property
    def drift_ppm(self) -> float | None:
        """By how much the sender's media clock is fast by its own wall clock; None where that is unknown."""
        if self._first is None or self._last is None:
            return None
        (ntp, timestamp), (last_ntp, last_timestamp, rate) = self._first, self._last
        lasts = last_ntp - ntp
        if lasts < BASELINE_S:
            return None
        ticks = (last_timestamp - timestamp - round(lasts * rate) + 2**31) % 2**32 - 2**31
        ppm = ticks / rate / lasts * 1e6
        return round(ppm, 1) if abs(ppm) <= MOST_PPM else None

    @property
    def delivery(self) -> Delivery | None:
        """What the reports come down to; None before the first of a receiver."""
        if not self._reports:
            return None
        metrics = self._metrics
        return Delivery(
            self._reports,
            sum(self._lost.values()),
            self.lost_here,
            round(self._jitter_ms / self._reports, 1),
            round(self._delay / self._trips, 1) if self._trips else None,
            self.drift_ppm,
            round(metrics.discarded, 4) if metrics else None,
            metrics.mos if metrics else None,
        )


def together(deliveries: Iterable[Delivery | None]) -> Delivery | None:
    """What is said of a speaker's streams as of one: losses add up, the rest is of the one most reported."""
    known = [delivery for delivery in deliveries if delivery is not None]
    if len(known) < 2:
        return known[0] if known else None
    main = max(known, key=lambda delivery: delivery.reports)
    return Delivery(
        sum(delivery.reports for delivery in known),
        sum(delivery.receiver_lost for delivery in known),
        sum(delivery.lost_here for delivery in known),
        main.receiver_jitter_ms,
        main.round_trip_ms,
        main.sender_drift_ppm,
        main.discarded,
        main.mos,
    )
