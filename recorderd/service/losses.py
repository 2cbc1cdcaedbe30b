"""What the recorder itself lost, and when: which packets they were, nobody knows.

A call is told what was lost while it lasted. That is looked up at its end: the call's first packets may have
been lost before anything of it could be recorded, and its last ones leave no hole in any stream.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from recorderd.media.lane import Span

MOST: Final = 4096
"""Losses remembered one by one; then neighbours are put together."""


class Lost(NamedTuple):
    """So many packets, some time in these spans, which are in order."""

    packets: int = 0
    spans: tuple[Span, ...] = ()

    def overlap(self, span: Span) -> bool:
        """Whether any of it may have been in a span."""
        return any(span.start_us < mine.end_us and mine.start_us < span.end_us for mine in self.spans)


_NOTHING: Final = Lost()


class Losses:
    """All losses of a recorder, as far as calls that are not over may need them."""

    def __init__(self) -> None:
        self._counts: list[int] = []
        self._spans: list[Span] = []

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, count: int, span: Span) -> None:
        """Take note of a loss, some time within a span."""
        at = bisect_right(self._spans, span.start_us, key=lambda known: known.start_us)
        self._counts.insert(at, count)
        self._spans.insert(at, span)
        if len(self._spans) > MOST:
            self._put_together()

    def during(self, start_us: float, end_us: float) -> Lost:
        """What was, or may have been, lost in a stretch of time."""
        if not self._spans:
            return _NOTHING
        found = [
            (count, span)
            for count, span in zip(self._counts, self._spans, strict=True)
            if span.start_us < end_us and start_us < span.end_us
        ]
        return Lost(sum(count for count, _ in found), tuple(span for _, span in found))

    def forget(self, before_us: float) -> None:
        """No call began before this."""
        while self._spans and self._spans[0].end_us <= before_us:
            del self._spans[0], self._counts[0]

    def _put_together(self) -> None:
        """Half as many, each of two neighbours."""
        pairs = list(zip(self._spans[::2], [*self._spans[1::2], self._spans[-1]], strict=False))
        counts = [sum(self._counts[at : at + 2]) for at in range(0, len(self._counts), 2)]
        self._spans = [Span(a.start_us, max(a.end_us, b.end_us)) for a, b in pairs]
        self._counts = counts


def uncovered(spans: Sequence[Span], start_us: float, end_us: float) -> list[Span]:
    """The parts of a stretch of time that no span has."""
    out, at = [], start_us
    for span in sorted(spans, key=lambda span: span.start_us):
        if span.start_us > at:
            out.append(Span(at, min(span.start_us, end_us)))
        at = max(at, span.end_us)
        if at >= end_us:
            return out
    return [*out, Span(at, end_us)]
