"""One stream's SRTP: which of the keys that its speaker announced is in use, and how often its sequence
numbers have wrapped.

The packets tell neither, but a packet authenticates under the right key and roll-over counter and under no
other. So the key is found by trying, and followed from there on: a new one after an offer in mid-call, the
counter as in RFC 3711 section 3.3.1.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.media.srtp import Opened, Sealed, SrtpKey
from recorderd.wire.sdes import Crypto

WRAPS: Final = 64
"""Roll-over counters tried where nothing is known: a stream joined in its first 20 hours of 20 ms packets."""

DEEP: Final = 3
"""How often all of them are tried with the same keys."""

PATIENCE: Final = 8
"""How often a search with the same keys may find nothing before it is given up."""

PROBES: Final = 3
"""Packets looked at in a search: others may be somebody else's."""

ROUNDS: Final = 4
"""Changes of key or counter followed in one window."""

MAX_KEYS: Final = 32


class Unsealer:
    """Opens the packets of one stream."""

    def __init__(self) -> None:
        self.opened = 0
        """Packets that were authentic."""
        self._cryptos: tuple[Crypto, ...] = ()
        self._keys: dict[tuple[int, int], SrtpKey] = {}
        self._current: SrtpKey | None = None
        self._highest: int | None = None
        self._failures = 0

    @property
    def suite(self) -> str:
        """The suite in use; empty before the first packet was opened."""
        return self._current.suite if self._current else ""

    @property
    def hopeless(self) -> bool:
        """Whether it is time to give up until there are other keys."""
        return self._failures >= PATIENCE

    def learn(self, cryptos: tuple[Crypto, ...]) -> bool:
        """Take note of what the speaker announced; whether that is news."""
        if cryptos == self._cryptos:
            return False
        self._cryptos, self._keys, self._failures = cryptos[:MAX_KEYS], {}, 0
        return True

    def open(self, packets: Sealed) -> Opened:
        """Open packets in the order of their arrival, as far as they are authentic."""
        count = len(packets)
        good, size = np.zeros(count, np.bool_), np.zeros(count, np.int32)
        payload = np.zeros((count, packets.data.shape[1]), np.uint8)
        left = np.arange(count)
        for _ in range(ROUNDS):
            if self._current is not None and len(left):
                found = self._opened(packets if len(left) == count else packets.select(left))
                here = left[found.good]
                good[here], size[here] = True, found.size[found.good]
                payload[here, : found.payload.shape[1]] = found.payload[found.good]
                left = left[~found.good]
            if not len(left) or not self._search(packets, left):
                break
        self.opened += count - len(left)
        return Opened(good, size, payload)

    def open_rtcp(self, packet: bytes) -> bytes | None:
        """Open an RTCP packet with the key in use; None where that does not fit."""
        return self._current.open_rtcp(packet) if self._current else None

    def _opened(self, packets: Sealed) -> Opened:
        assert self._current is not None
        index = self._index(packets.seq)
        found = self._current.open(packets, index)
        if found.good.any():
            self._highest = max(self._highest or 0, int(index[found.good].max()))
        return found

    def _index(self, seq: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index nearest to the highest authentic one."""
        highest = self._highest or 0
        step = (seq - highest + 0x8000 & 0xFFFF) - 0x8000
        index: NDArray[np.int64] = np.maximum(highest + step, seq)  # there is none below 0
        return index

    def _search(self, packets: Sealed, left: NDArray[np.intp]) -> bool:
        """Find key and counter for packets that the present ones do not open."""
        if self.hopeless:
            return False
        probes = dict.fromkeys(left[[0, len(left) // 2, -1]].tolist())
        deep = self._failures < DEEP and not self.opened
        for at in list(probes)[: PROBES if deep or self.opened else 1]:
            probe = packets.select(np.array([at]))
            for counters in (self._near(probe), *([range(WRAPS)] if deep else [])):
                if any(self._fits(key, probe, counters) for key in self._candidates()):
                    return True
        if not self.opened:
            self._failures += 1
        return False

    def _near(self, probe: Sealed) -> Iterable[int]:
        """The counters that are worth trying first."""
        near = int(self._index(probe.seq)[0]) >> 16
        return dict.fromkeys([near, 0, near + 1, max(0, near - 1)])

    def _candidates(self) -> list[SrtpKey]:
        for number, crypto in enumerate(self._cryptos):
            for place, key in enumerate(crypto.keys):
                if (number, place) not in self._keys:
                    self._keys[number, place] = SrtpKey(crypto, key)
        return list(self._keys.values())[:MAX_KEYS]

    def _fits(self, key: SrtpKey, probe: Sealed, counters: Iterable[int]) -> bool:
        """Try one packet with all these counters at once: the same packet, a row for each."""
        index = np.array([counter << 16 | int(probe.seq[0]) for counter in counters], np.int64)
        found = key.open(probe.select(np.zeros(len(index), np.intp)), index)
        if not found.good.any():
            return False
        self._current, self._highest = key, int(index[found.good][0])
        return True
