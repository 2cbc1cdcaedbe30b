"""SRTP on its way to the recordings: kept whole until the keys are known, opened at the close of a window.

What SRTP carries can be told only by its keys, and those may come after it. So while signalling has any, the
packets of streams that nobody has explained yet, and of those that are SRTP, wait here with all that UDP
carried. At the close of a window they go on as what everything else is: opened, where the keys of their
speaker fit; unwrapped, where they turned out to be plain. What is not authentic waits as long as other
packets may for an explanation (a new key may be announced a moment after its first packet), and goes nowhere.

A stream is nobody's until one of its packets was authentic: a call whose media cannot be opened gets no
recording full of noise, but an outcome that says why.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.binding import Binding, Expectations
from recorderd.calls.events import MediaExpected, Side, other
from recorderd.media.gathering import as_sealed, gathered_whole
from recorderd.media.srtp import Opened, unwrapped
from recorderd.media.streams import AWAY, IGNORED, UNBOUND, StreamTable
from recorderd.media.table import Packets, PacketTable, concatenate
from recorderd.media.unsealing import Unsealer
from recorderd.service.binder import Origin
from recorderd.service.session import Session
from recorderd.wire.dissect import ControlPacket
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.media_packets import MediaPackets
from recorderd.wire.sdes import Crypto
from recorderd.wire.signalling import Signalling

KEEN_NS: Final = 600_000_000_000
"""How long after the last keys in signalling new streams may still be SRTP, if no known one is."""

NO_KEY: Final = "no key in the signalling"
WRONG_KEY: Final = "the packets do not authenticate with the keys of the signalling"

NEVER_US: Final = 1 << 62


@dataclass(slots=True, eq=False)
class _Stream:
    """A stream of SRTP."""

    key: int
    origin: Origin | None
    """None for one that became SRTP in mid-call."""
    call: str
    speaker: Side
    source: Endpoint
    ssrc: int
    crypto: tuple[Crypto, ...] = ()
    unsealer: Unsealer = field(default_factory=Unsealer)
    tried_us: int = 0
    """Packets that came before have been tried with what is known."""
    counted_us: int = 0
    """Those that came before and failed have been counted."""
    failed: int = 0
    """Packets that were not authentic."""


class Settled:
    """What became of waiting packets at the close of a window."""

    def __init__(self, too_late: dict[int, int]) -> None:
        self.newly = False
        """Whether there are streams that showed just now whose they are."""
        self.packets: list[Packets] = []
        """Opened or unwrapped, as all others are."""
        self.too_late = too_late
        """Since when, in us, what waits elsewhere of a stream is SRTP, and of no use."""
        self.waiting: dict[int, int] = {}
        """When the first of those came that wait of each stream without a call, in ns."""


class Secured:
    """Packets that are SRTP, or may be, and the streams that are."""

    def __init__(
        self, streams: StreamTable, expectations: Expectations, counters: Counter[str], limit_bytes: int
    ) -> None:
        """Have room for ``limit_bytes`` of waiting packets."""
        self.table = PacketTable(limit_bytes)
        self._streams, self._expectations, self._counters = streams, expectations, counters
        self._known: dict[int, _Stream] = {}
        self._given_up: dict[int, _Stream] = {}
        self._refusals: dict[str, dict[int, str]] = {}
        self._until_ns = 0
        self._too_late: dict[int, int] = {}
        self._by_ssrc: dict[int, list[_Stream]] = {}

    @property
    def active(self) -> bool:
        """Whether packets may have to be kept whole, or are."""
        return self._streams.sealing or len(self.table) > 0

    def listen(self, signalling: Iterable[Signalling]) -> None:
        """Learn from signalling, before it is heeded, that there may be SRTP from now on."""
        for signal in signalling:
            if b"inline:" in signal.payload:
                self._until_ns = max(self._until_ns, signal.time_ns + KEEN_NS)
                if not self._streams.sealing:
                    self._streams.sealing = True
                    self._streams.sealed[self._streams.unbound()] = True

    def without_invalid(self, media: MediaPackets) -> MediaPackets:
        """What has no place for its padding is SRTP or nothing."""
        return media if self._streams.sealing else media.where(media.payload_len >= 0)

    def split(
        self, media: MediaPackets, rows: NDArray[np.int32], packets: Packets
    ) -> tuple[Packets, Packets]:
        """Of captured packets, of streams ``rows``, those that go on, and those that are kept, whole."""
        owner = self._streams.owner[rows]
        kept = self._streams.sealed[rows] & ((owner >= UNBOUND) | (owner == AWAY))
        going = ~kept & (packets.size >= 0)
        if going.all():
            return packets, packets.select(kept)
        whole = gathered_whole(media.where(kept), rows[kept]) if kept.any() else packets.select(kept)
        return packets.select(going), whole

    def keep(self, packets: Packets) -> NDArray[np.int64] | None:
        """Have whole packets wait. Returns when packets of calls came that were dropped for lack of room, in
        us.
        """
        self.table.add(packets)
        return self.table.make_room(self._streams.owner >= 0) if self.table.overfull else None

    def awaits(self, row: int, origin: Origin, binding: Binding) -> bool:
        """Whether a stream that was told to be of a call is SRTP that nothing has opened yet."""
        if not binding.encrypted:
            self._known.pop(row, None)
            self._streams.sealed[row] = False
            return False
        known = self._known.get(row)
        if known is None or known.origin is not origin or known.call != binding.call:
            who = binding.call, binding.speaker, origin.source, origin.ssrc
            known = self._known[row] = _Stream(int(self._streams.key[row]), origin, *who)
        if known.unsealer.opened:
            return False
        origin.sealed = True
        known.crypto = binding.crypto
        usable = any(crypto.keys for crypto in binding.crypto)
        if not usable:
            self._refuse(row, binding.call, binding.refusal or NO_KEY)
        if known.unsealer.hopeless or (not usable and binding.refusal is not None):
            self._give_up(row, known)
        return True

    def expected(self, session: Session, event: MediaExpected) -> None:
        """A call that is recorded goes on as SRTP. What came since was not kept whole."""
        for stream in session.streams if event.encrypted else ():
            row, mine = stream.row, self._streams.owner[stream.row] == session.number
            if (
                not mine
                or row in self._known
                or (stream.call, stream.speaker) != (event.call, other(event.side))
            ):
                continue
            who = stream.call, stream.speaker, stream.source, stream.ssrc
            self._known[row] = _Stream(int(self._streams.key[row]), None, *who)
            self._streams.sealed[row] = True
            self._too_late[row] = event.now // 1000

    def open_rtcp(self, packet: ControlPacket) -> bytes:
        """An RTCP packet, opened if it is of a stream whose keys are known."""
        ssrc = int.from_bytes(packet.payload[4:8], "big")
        for known in self._by_ssrc.get(ssrc, ()):
            if known.source.host == packet.source.host:
                return known.unsealer.open_rtcp(packet.payload) or packet.payload
        return packet.payload

    def settle(self, end_ns: int, grace_us: int, expired_us: int) -> Settled:
        """Look at what waits at the close of the window that ends at ``end_ns``. Nobody's packets from before
        ``expired_us`` are dropped.
        """
        self._reconsider(end_ns)
        out, end_us = Settled(self._too_late), end_ns // 1000
        self._too_late = {}
        streams = self._streams
        secret, tried = self._columns()

        def choose(packets: Packets) -> tuple[list[NDArray[np.intp]], NDArray[np.bool_]]:
            stream, time = packets.stream, packets.time_us
            heard = time < end_us
            streams.seen(stream[heard], time[heard])
            owner, mine = streams.owner[stream], secret[stream]
            due = time < end_us + grace_us
            plain = (owner >= 0) & ~mine & due
            try_now = mine & (owner >= UNBOUND) & (time >= tried[stream]) & due
            stay = ((owner == UNBOUND) | (mine & (owner >= 0))) & (time >= expired_us) & ~try_now
            stay |= (owner == AWAY) | ((owner >= 0) & ~due)
            left = np.flatnonzero(stay & (owner == UNBOUND))
            _note(out.waiting, stream[left], time[left])
            of_secret = np.flatnonzero(try_now)
            of_secret = of_secret[np.lexsort((time[of_secret], stream[of_secret]))]
            return [np.flatnonzero(plain), of_secret], stay

        groups = self.table.take(choose)
        if groups and len(groups[0]):
            out.packets += _as_usual(groups[0], unwrapped(as_sealed(groups[0])))
        if groups and len(groups[1]):
            self._open(groups[1], end_us, expired_us, out)
        if out.packets:
            out.packets = [concatenate(out.packets)]  # a window has thousands of streams
        return out

    def _open(self, packets: Packets, end_us: int, expired_us: int, out: Settled) -> None:
        """Open packets that are sorted by stream and arrival."""
        edges = np.flatnonzero(np.diff(packets.stream, prepend=-1)).tolist()
        left: list[NDArray[np.intp]] = []
        for first, last in zip(edges, [*edges[1:], len(packets)], strict=True):
            row = int(packets.stream[first])
            part = packets.select(np.arange(first, last))
            good = self._open_stream(row, self._known[row], part, end_us, out)
            left.append(first + np.flatnonzero(~good & (part.time_us >= expired_us)))
        failed = np.concatenate(left)
        if len(failed):
            waiting = packets.select(failed)
            self.keep(waiting)
            nobodys = self._streams.owner[waiting.stream] == UNBOUND
            _note(out.waiting, waiting.stream[nobodys], waiting.time_us[nobodys])

    def _open_stream(
        self, row: int, known: _Stream, packets: Packets, end_us: int, out: Settled
    ) -> NDArray[np.bool_]:
        """Open packets of one stream; which of them were authentic."""
        new = known.unsealer.opened == 0
        found = known.unsealer.open(as_sealed(packets))
        before = packets.time_us < known.counted_us
        again, failed = found.good & before, ~found.good & ~before & (packets.time_us < end_us)
        more = int(np.count_nonzero(failed)) - int(np.count_nonzero(again))
        known.failed += more
        self._counters["srtp_packets_opened"] += int(np.count_nonzero(found.good))
        self._counters["srtp_packets_failed"] += more
        known.tried_us = known.counted_us = end_us
        if found.good.any():
            self._refusals.get(known.call, {}).pop(row, None)
            if new:
                out.newly = True
                known.tried_us = 0  # with the key and the counter at hand, all that waits is worth a try
            out.packets += _as_usual(packets, found)
        elif new and known.crypto:
            self._refuse(row, known.call, WRONG_KEY)
        return found.good

    def _columns(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """By row of the stream table: which streams are SRTP with keys, and from when on packets are news."""
        secret = np.zeros(len(self._streams.owner), np.bool_)
        tried = np.zeros(len(secret), np.int64)
        for row, known in self._known.items():
            has_keys = any(crypto.keys for crypto in known.crypto)
            secret[row], tried[row] = True, known.tried_us if has_keys else NEVER_US
        return secret, tried

    def _reconsider(self, end_ns: int) -> None:
        """Take note of what signalling has changed."""
        streams, expectations = self._streams, self._expectations
        for row, known in list(self._known.items()):
            call, speaker, owner = known.call, known.speaker, streams.owner[row]
            encrypted = expectations.is_encrypted(call, speaker)
            if streams.key[row] != known.key or owner < UNBOUND or (encrypted is None and owner < 0):
                del self._known[row]
            elif encrypted is None:
                pass  # the recording goes on with another call
            elif not encrypted and owner >= 0:
                del self._known[row]  # the call goes on without: what comes now is plain
            else:
                known.crypto = expectations.keys(call, speaker)
                if known.unsealer.learn(known.crypto):
                    known.tried_us = 0
        for row, known in list(self._given_up.items()):
            if streams.key[row] != known.key or streams.owner[row] != IGNORED:
                del self._given_up[row]
            elif expectations.keys(known.call, known.speaker) != known.crypto:
                del self._given_up[row]
                streams.owner[row] = UNBOUND
        self._by_ssrc = {}
        for known in self._known.values():
            self._by_ssrc.setdefault(known.ssrc, []).append(known)
        if end_ns > self._until_ns and not self._known:
            streams.sealing = False

    def _give_up(self, row: int, known: _Stream) -> None:
        """Nothing opens a stream: its packets need not be kept, unless other keys are announced."""
        self._streams.owner[row] = IGNORED
        self._known.pop(row, None)
        self._given_up[row] = known

    def _refuse(self, row: int, call: str, why: str) -> None:
        self._refusals.setdefault(call, {})[row] = why

    # -- the end of calls

    def refusal(self, call: str) -> str:
        """Why media of a call could not be opened; empty where there is none such."""
        return next(iter(self._refusals.get(call, {}).values()), "")

    def tell(self, session: Session, time_us: int) -> None:
        """Write into a recording that ends which of its streams were opened, and what of them was not."""
        for stream in session.streams:
            known = self._known.get(stream.row)
            if known is not None and known.unsealer.suite:
                suite, failed = known.unsealer.suite, known.failed
                session.event("srtp", time_us, stream=stream.number, suite=suite, failed=failed)

    def over(self, call: str) -> None:
        """Forget a call's keys and streams."""
        self._counters["streams_encrypted"] += len(self._refusals.pop(call, {}))
        for known in (self._known, self._given_up):
            for row in [row for row, stream in known.items() if stream.call == call]:
                if self._streams.owner[row] < 0:
                    del known[row]


def _as_usual(packets: Packets, opened: Opened) -> list[Packets]:
    """Whole packets as what is in them, those that are good."""
    good = np.flatnonzero(opened.good)
    width = int(opened.size[good].max(initial=0))
    found = replace(packets, size=opened.size, payload=opened.payload[:, :width])
    return [found.select(good)] if len(good) else []


def _note(waiting: dict[int, int], stream: NDArray[np.int32], time_us: NDArray[np.int64]) -> None:
    """Keep when the first packet of each stream came."""
    rows, place = np.unique(stream, return_inverse=True)
    first = np.full(len(rows), np.iinfo(np.int64).max)
    np.minimum.at(first, place, time_us)
    for row, since_us in zip(rows.tolist(), first.tolist(), strict=True):
        waiting[row] = min(since_us * 1000, waiting.get(row, since_us * 1000))
