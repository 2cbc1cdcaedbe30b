"""The live load: who sends what, and when. Sender and checker work from the same numbers: every packet
can be told from every other without keeping any.

Time is a count of ticks of one millisecond from the first INVITE. A stream sends every 20th tick, on the tick
of its slot; streams take the slots in turns, so that in each tick the same share of them sends.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.simulators import g711
from tests.simulators.dialog import SipPacket, stage
from tests.simulators.encapsulation import Address
from tests.simulators.script import SIDES, CallScript
from tests.simulators.signals import Speech
from tests.simulators.sip_text import Party

TICK_NS: Final = 1_000_000
PERIOD: Final = 20  #: ticks from packet to packet of a stream: a slot each
BYTES: Final = 160  #: of a packet: 20 ms of G.711
SETTLE_S: Final = 2  #: from the last call's beginning to the steady part

_RING_S = 0.5
_RECORDED = 17_600  # bytes a call and second
_CALLS_A_HOST = 3000  # of the PBX: a port each
_POOL = 8000 * 67 + 3  # samples of speech; prime to the stride, so each stream begins elsewhere in it
_STRIDE = 7919
_SPREAD = 7  # prime to PERIOD: the two ends of a call are in different slots


@dataclass(frozen=True)
class Load:
    """Two-way G.711 calls that begin one after the other, then all talk for ``seconds``, then end.

    Streams are numbered: 2 * call for its caller, 2 * call + 1 for its callee. A hundred starts a second are
    three times those of 4,000 calls that last two minutes each.
    """

    calls: int
    seconds: int
    starts_per_s: int = 100

    @property
    def ramp_s(self) -> int:
        """How long calls begin, and later end."""
        return math.ceil(self.calls / self.starts_per_s)

    @property
    def talk_s(self) -> int:
        """From each call's answer to its BYE."""
        return self.ramp_s + SETTLE_S + self.seconds

    @property
    def steady_from_s(self) -> float:
        """When all calls talk; until ``seconds`` later, when the first one ends."""
        return _RING_S + self.ramp_s + SETTLE_S

    @property
    def packets(self) -> int:
        """Of each stream."""
        return self.talk_s * 1000 // PERIOD - 3  # the last one before the BYE, whatever the slot

    @property
    def ends(self) -> int:
        """The tick by which everything was sent."""
        return round((_RING_S + self.ramp_s + self.talk_s + 0.2) * 1000)

    @property
    def spool_bytes(self) -> int:
        """What its recordings take, at most."""
        return round(self.calls * self.talk_s * _RECORDED * 1.05) + self.calls * 20_000 + 50_000_000

    def to_json(self) -> str:
        """The argument for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Load":
        """What :meth:`to_json` wrote."""
        return cls(**json.loads(text))

    @cached_property
    def slot(self) -> NDArray[np.int64]:
        """The tick of the period at which each stream sends."""
        return np.arange(2 * self.calls) * _SPREAD % PERIOD

    @cached_property
    def first_tick(self) -> NDArray[np.int64]:
        """When each stream sends its first packet: within 40 ms of the answer, which the callee gives."""
        call, side = np.divmod(np.arange(2 * self.calls), 2)
        ready = self._answered_ms(call) + np.where(side == 0, 20, 1)
        return np.asarray(ready + (self.slot - ready) % PERIOD)

    @cached_property
    def ssrc(self) -> NDArray[np.uint32]:
        """All different: an odd factor permutes the numbers of 32 bits."""
        return (np.arange(1, 2 * self.calls + 1, dtype=np.uint64) * 2_654_435_761).astype(np.uint32)

    @cached_property
    def first_seq(self) -> NDArray[np.uint16]:
        """Anywhere, so that in each second some streams wrap."""
        return (self.ssrc >> 16).astype(np.uint16)

    @cached_property
    def first_timestamp(self) -> NDArray[np.uint32]:
        return self.ssrc ^ np.uint32(0x5BD1E995)

    def payload_at(self, streams: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in :func:`speech` the payloads of these packets (counted from 0) of these streams begin."""
        return (streams * _STRIDE + number * BYTES) % _POOL

    def media(self, stream: int) -> tuple[Address, Address]:
        """Source and destination of a stream."""
        caller, callee = self._ends(stream // 2)
        return (callee, caller) if stream % 2 else (caller, callee)

    def call_id(self, call: int) -> str:
        return f"{call:05d}.{self.calls}@live.example"

    def signalling(self, call: int) -> list[SipPacket]:
        """A call's messages; their times are nanoseconds from tick 0."""
        answered_s = int(self._answered_ms(np.int64(call))) / 1000
        script = CallScript(str(10_000 + call), str(70_000 + call), start_s=answered_s - _RING_S,
                            ring_s=_RING_S, talk_s=self.talk_s)  # fmt: skip
        parties = [
            Party(side, user, Address(media.host, 5060), media, media, f"{side[-1]}{call}")
            for side, user, media in zip(SIDES, (script.caller, script.callee), self._ends(call), strict=True)
        ]
        return stage(script, parties[0], parties[1], self.call_id(call), 0).messages

    def _answered_ms(self, call: NDArray[np.int64] | np.int64) -> NDArray[np.int64]:
        return np.asarray(round(_RING_S * 1000) + call * self.ramp_s * 1000 // self.calls)

    def _ends(self, call: int) -> tuple[Address, Address]:
        """Each caller has a host of its own; the callees are behind the PBX, on ports of their own."""
        host, port = divmod(call, _CALLS_A_HOST)
        high, low = divmod(call + 256, 256)
        return Address(f"10.1.{high}.{low}", 40_000), Address(f"10.0.0.{1 + host}", 10_000 + 2 * port)


def speech() -> NDArray[np.uint8]:
    """mu-law speech that goes round: the payload that begins at any place of the pool can be read from it."""
    places = np.arange(0, _POOL + BYTES, BYTES, dtype=np.int64)
    samples = Speech(1).window(places, BYTES, 8000).ravel()[:_POOL]
    return g711.encode("pcmu", np.concatenate([samples, samples[: BYTES - 1]]))


def payloads(pool: NDArray[np.uint8]) -> NDArray[np.void]:
    """The pool as its overlapping payloads, an item each: indexing copies whole payloads."""
    return np.ndarray(_POOL, f"V{BYTES}", pool, strides=(1,))
