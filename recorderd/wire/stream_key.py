"""A 64-bit key for each packet's stream: a seeded hash of addresses, ports and SSRC.

The multipliers and offsets come from the seed, so that a sender who does not know it cannot make the packets
of one stream collide with those of another: with fixed multipliers, differences in the top bits would cancel
whatever the seed.
"""

import numpy as np
from numpy.typing import NDArray

from recorderd.wire.columns import column

MASK = 0xFFFFFFFFFFFFFFFF


def _split_mix(state: int) -> int:
    """One output of the SplitMix64 generator (Steele, Lea, Flood 2014): several secrets of one seed."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


class StreamKey:
    """Hashes columns of addresses, ports and SSRCs with the secrets of one seed."""

    def __init__(self, seed: int) -> None:
        secrets = [_split_mix(seed + n * 0x9E3779B97F4A7C15 & MASK) for n in range(1, 5)]
        self._start4, self._start6 = np.uint64(secrets[0]), np.uint64(secrets[1])
        self._multiply1, self._multiply2 = np.uint64(secrets[2] | 1), np.uint64(secrets[3] | 1)

    def addresses4(self, header: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """From IPv4 headers, uint8 (n, >=20): what of the key depends on both addresses, uint64 (n,)."""
        state = column(header, 12, "<u8")
        state ^= self._start4
        return self._mix(state)

    def addresses6(self, header: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """From IPv6 headers, uint8 (n, >=40): what of the key depends on both addresses, uint64 (n,)."""
        state = self._mix(column(header, 8, "<u8") ^ self._start6)
        for at in (16, 24, 32):
            state ^= column(header, at, "<u8")
            state = self._mix(state)
        return state

    def key(
        self, addresses: NDArray[np.uint64], ports: NDArray[np.uint32], ssrc: NDArray[np.uint32]
    ) -> NDArray[np.uint64]:
        """The whole key. ``ports`` is the source port << 16 | the destination port."""
        state = ports.astype(np.uint64)
        state <<= np.uint64(32)
        state |= ssrc
        state ^= addresses
        return self._mix(state)

    def _mix(self, state: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """A bijection of 64 bits that spreads each bit over all others; works in place."""
        shifted = state >> np.uint64(32)
        state ^= shifted
        state *= self._multiply1
        state ^= np.right_shift(state, np.uint64(29), out=shifted)
        state *= self._multiply2
        state ^= np.right_shift(state, np.uint64(32), out=shifted)
        return state
