"""Finds the call of each new stream: by what signalling announced, or, as a last resort, by its hosts."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from recorderd.calls.binding import PATIENCE_NS, Binding, Expectations, Held
from recorderd.calls.events import Side
from recorderd.calls.table import Call, CallTable
from recorderd.media.streams import UNBOUND, StreamTable
from recorderd.wire.endpoint import Endpoint

MAX_CLAIMS: Final = 50
"""Streams looked at in a window that only their hosts could explain."""


@dataclass(slots=True, eq=False)
class Origin:
    """Where an RTP stream comes from and goes to, and since when it waits for an explanation."""

    source: Endpoint
    destination: Endpoint
    ssrc: int
    since_ns: int
    kept_out: bool = False
    """Another source was heard in its place."""
    kept_from: str = ""
    """The call that it was last kept out of."""
    explained: bool = False
    """It belonged to a call."""
    sealed: bool = False
    """It belongs to a call once its packets show that the keys of that one open it."""
    looked_at: bool = False
    """Its hosts were asked whose it is."""
    handed: bool = False
    """Another worker handed it over."""


Leaves = Callable[[int, Origin, str], bool]
"""Whether a stream (its row and origin) that belongs to a call is left to others, or not bound yet."""


class Binder:
    """The streams that wait for their call, and the calls that wait for their streams."""

    def __init__(
        self, streams: StreamTable, calls: CallTable, pending_ns: int, counters: Counter[str]
    ) -> None:
        """Streams wait ``pending_ns`` at most."""
        self._streams, self._calls, self._counters = streams, calls, counters
        self._pending_ns = pending_ns
        self._patience_ns = min(PATIENCE_NS, pending_ns // 2)
        self.expectations = Expectations(lambda call, host: host in calls.get(call).hosts, self._patience_ns)
        self._origins: dict[int, Origin] = {}
        self.doubtful: Callable[[str], None] = lambda call: None
        """Called with each call that a stream may belong to, where there are several such."""
        self.kept_out: Callable[[int, Origin, str], None] = lambda row, origin, call: None
        """Called with each stream (its row and origin) that does not get the place it wants in a call."""
        self.kinds: Callable[[int], set[int]] = lambda row: set()
        """Called with a row for the payload types of what waits of it."""
        self.let_in: Callable[[int], None] = lambda row: None
        """Called with the row of such a stream that gets it later."""
        self.rival: Callable[[int, Origin, Binding, int], Held | None] = lambda *of: None
        """Called with a stream and what is found of it, at the end of a window: whether another stream
        between the same addresses keeps it from its place."""

    def note(self, row: int, origin: Origin) -> None:
        """A stream that was not seen before has ``row`` in the stream table."""
        self._origins[row] = origin
        self._streams.last_seen_ns[row] = origin.since_ns

    def origin(self, row: int) -> Origin:
        """Where a stream comes from."""
        return self._origins[row]

    def knows(self, row: int, origin: Origin) -> bool:
        """Whether a row still is the stream that it was, and waits."""
        return self._origins.get(row) is origin and bool(self._streams.owner[row] == UNBOUND)

    def offer(self, row: int, now_ns: int) -> None:
        """A stream that was left out is to be bound again, as if it began now."""
        origin = self._origins[row]
        origin.since_ns, origin.explained = now_ns, False

    def bind(
        self, end_ns: int, heard_from: Callable[[str, Side], bool], leaves: Leaves | None = None
    ) -> Iterator[tuple[int, Origin, Binding]]:
        """Explain the streams that began before ``end_ns`` and are not explained yet, as far as possible.

        ``heard_from(call, speaker)`` tells whether a call has a stream of that speaker already; ``leaves``
        which streams are left alone.
        """
        claims, is_announced = MAX_CLAIMS, self.expectations.is_announced
        # What ended calls left behind waits, too, and is asked for in each window.
        waiting = [
            (origin, row)
            for row in self._streams.unbound().tolist()
            if not (origin := self._origins[row]).explained or is_announced(origin.source, origin.destination)
        ]
        for origin, row in sorted(waiting, key=lambda one: one[0].since_ns):
            if origin.since_ns >= end_ns:
                break
            if leaves is not None and self._left(row, origin, leaves):
                continue
            known = origin.explained and not origin.sealed
            found = self.expectations.match(
                origin.source, origin.destination, origin.since_ns, end_ns, only_signalled=known
            )
            if found is None:
                if not claims or not self._waited(origin, end_ns):
                    continue
                origin.looked_at = True
                claims -= 1
                found = self._claim(origin, heard_from)
                if found is None or (leaves is not None and leaves(row, origin, found.call)):
                    continue
            if isinstance(found, Binding) and not origin.explained:
                found = self.rival(row, origin, found, end_ns) or found
            if isinstance(found, Binding):
                if origin.kept_out:
                    self.let_in(row)
                origin.explained = True
                # What waited longer than packets do is gone; the recording begins with what is left.
                origin.since_ns = max(origin.since_ns, end_ns - self._pending_ns)
                yield row, origin, found
            elif found is Held.TAKEN:
                self._keep_out(row, origin)

    def _keep_out(self, row: int, origin: Origin) -> None:
        if not origin.kept_out:
            origin.kept_out = True
            self._counters["streams_kept_out"] += 1
        call = self.expectations.whose(origin.source, origin.destination, origin.since_ns)
        # What a call left behind is no intruder, unless it was one then.
        if call is not None and call != origin.kept_from and (origin.kept_from or not origin.explained):
            origin.kept_from = call
            self.kept_out(row, origin, call)

    def set_apart(self, row: int, call: str) -> None:
        """A stranger was taken for a speaker until the real one came."""
        origin = self._origins[row]
        origin.kept_out, origin.kept_from = True, call
        self.kept_out(row, origin, call)

    def _left(self, row: int, origin: Origin, leaves: Leaves) -> bool:
        call = self.expectations.whose(origin.source, origin.destination, origin.since_ns)
        return call is not None and leaves(row, origin, call)

    def _waited(self, origin: Origin, end_ns: int) -> bool:
        """Whether only the hosts are left to ask; what an ended call left behind is no other call's."""
        waited = end_ns - origin.since_ns >= self._patience_ns
        return waited and not origin.looked_at and not origin.explained

    def _claim(self, origin: Origin, heard_from: Callable[[str, Side], bool]) -> Binding | None:
        """Media at addresses that nobody announced, as where both ends are behind NAT: the hosts that the
        signalling runs between tell, where they are of one such call only.
        """
        speakers = {
            call.key: speaker
            for call in self._calls.active()
            if call.answered_at is not None
            and call.first_seen <= origin.since_ns
            and (speaker := call.speaker_between(origin.source.host, origin.destination.host))
            and not heard_from(call.key, speaker)
        }
        bindings = [self.expectations.claim(call, speaker, origin.source, origin.destination)
                    for call, speaker in speakers.items()]  # fmt: skip
        if len(bindings) != 1 or bindings[0] is None:
            for call in speakers:
                if self._may_be(call, origin):
                    self.doubtful(call)
            return None
        self._counters["streams_claimed_by_host"] += 1
        return bindings[0]

    def unannounced(self, call: Call) -> bool:
        """Whether streams that may be of a call, and that nobody could claim, run between the hosts of its
        signalling.
        """
        if call.answered_at is None:
            return False
        waiting = (self._origins[row] for row in self._streams.unbound().tolist())
        return any(
            call.speaker_between(origin.source.host, origin.destination.host)
            for origin in waiting
            if not origin.explained and self._may_be(call.key, origin)
        )

    def _may_be(self, call: str, origin: Origin) -> bool:
        """Whether a stream that nobody announced may be of a call: what that one announced is at other
        hosts, and no other one announced an end of the stream.
        """
        source, destination = origin.source, origin.destination
        if self.expectations.is_elsewhere(call, source, destination) is False:
            return False
        return self.expectations.whose(source, destination, origin.since_ns) in (None, call)

    def give_back(self, row: int, now_ns: int) -> None:
        """A stream's call is over. Its 5-tuple and SSRC may serve another one at once; what still comes waits
        for that one's SDP.
        """
        if self._streams.leave(row):
            del self._origins[row]
            return
        self._streams.restart(row)
        self._origins[row].since_ns, self._origins[row].sealed = now_ns, False

    def expire(self, expired_ns: int, waiting: Mapping[int, int]) -> None:
        """Forget the streams that were last heard before ``expired_ns`` and belong to no session.

        ``waiting`` has the time of the first packet, in ns, of those that later packets wait of: their row is
        still named, so they begin anew in it.
        """
        unowned = self._streams.unowned()
        gone = unowned[self._streams.last_seen_ns[unowned] < expired_ns].tolist()
        for row in gone:
            old = self._origins.pop(row)
            # What ended calls left behind was explained while they ran.
            self._counters["streams_unclaimed"] += not old.explained
            if row in waiting:
                self._streams.restart(row)
                self._streams.last_seen_ns[row] = waiting[row]
                self._origins[row] = Origin(old.source, old.destination, old.ssrc, waiting[row])
        self._streams.remove([row for row in gone if row not in waiting])
