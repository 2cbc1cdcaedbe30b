"""Hears Opus in turns: decoding all of it would cost as much as everything else together, several times over.

The senders' own packets say when somebody speaks (:func:`recorderd.codecs.opus_toc.quiet`), and what was not
sent at all is silence. A second of speech is worth a turn of 0.4 s, while the track has credit left
for it: a share of what it sounds, and some to begin with, so that of a short call nearly everything is heard.
Seconds in which nobody speaks get a turn now and then: noise does not change much.

A turn begins with a decoder that knows nothing of what came before. It is right after a few frames: by then
the energies that CELT predicts from those before are (RFC 6716 section 4.3.2.1), and SILK has had a pitch
period to go by.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs import opus_toc
from recorderd.codecs.opus import OpusRuns
from recorderd.media.columns import grown
from recorderd.quality.coded import FRAME, Loudness
from recorderd.quality.decoded import loudness
from recorderd.quality.framing import ranges, runs

RATE: Final = 8000
"""Hz to decode to: speech level and noise need no more."""

SHARE: Final = 0.24
"""The part of a track that may be heard, if it is of the costliest kind."""

COSTS: Final[NDArray[np.float64]] = np.repeat(
    (0.33,) * 4 + (0.45,) * 4 + (0.75,) * 4 + (1.0,) * 20, 8
) * np.where(np.arange(256) & 4, 1.5, 1.0)
"""What decoding costs by TOC byte, in proportion: narrowband SILK, medium, wide, everything else; stereo."""

CREDIT_S: Final = 3.0
"""What a track may save up, and has at first."""

TURN_S: Final = 0.4
"""A turn in a second of speech. While there is credit for two seconds, a turn is all of one."""

QUIET_TURN_S: Final = 0.4
QUIET_EVERY_S: Final = 3.0
"""A turn in so many seconds without speech."""

LEAST_TURN_S: Final = 0.24
"""Less than this at a time is not heard: too little follows the first frames."""

SPEECH_SHARE: Final = 0.2
"""A window is one of speech if the sender says so of this part of it."""

DTX_BYTES: Final = 2
"""Packets this short say that nothing is sent (RFC 6716 section 2.1.9)."""

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Packets(NamedTuple):
    """The Opus packets of a window, in order: n of them, in m stretches of streams."""

    payload: NDArray[np.uint8]
    """All packets of the window, a packet a row."""
    rows: Places
    """Which rows they are (n)."""
    size: NDArray[np.int32]
    """How many bytes of each count (n)."""
    owner: Places
    """Which stretch each is of (n)."""
    tracks: Places
    """The track of each stretch (m)."""

    def heads(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """First and second byte of each; 0 where there is none."""
        heads = np.zeros((2, len(self.rows)), np.uint8)
        # Where all packets are empty there is not even a first byte.
        for at in range(min(2, self.payload.shape[1])):
            heads[at] = np.where(self.size > at, self.payload[self.rows, at], 0)
        return heads[0], heads[1]


class Heard(NamedTuple):
    """What there was in the stretches (m), and what of it was heard: k runs of frames."""

    samples: Places
    """Samples that were sent (m)."""
    unsent: Places
    """Samples of silence that were not (m)."""
    malformed: NDArray[np.int32]
    """Packets that cannot be decoded (m): judged by those that were tried."""
    speech: Flags
    """Whether the stretch is one of speech (m)."""
    loudness: Loudness
    starts: Places
    """Where each run begins (k)."""
    stretches: Places
    """Which stretch each run is of (k)."""


class OpusTurns:
    """Decides who is heard, and hears them."""

    def __init__(self) -> None:
        self._decoder = OpusRuns(RATE)
        self._credit: Places = np.zeros(0, np.int64)
        self._rested: Places = np.zeros(0, np.int64)
        self._heard: Places = np.zeros(0, np.int64)

    def grow(self, size: int) -> None:
        """Make room for ``size`` tracks."""
        before = len(self._heard)
        for name in ("_credit", "_rested", "_heard"):
            setattr(self, name, grown(getattr(self, name), size))
        self.clear(slice(before, size))

    def clear(self, tracks: int | slice) -> None:
        """Begin with nothing."""
        self._credit[tracks] = int(CREDIT_S * RATE)
        self._rested[tracks] = int(QUIET_EVERY_S * RATE)
        self._heard[tracks] = 0

    def hear(self, packets: Packets) -> Heard:
        """Take in the packets of a window, and hear some of them."""
        count, owner = len(packets.tracks), packets.owner
        toc, second = packets.heads()
        length = opus_toc.ticks(toc, second, packets.size).astype(np.int64) // (opus_toc.CLOCK // RATE)
        sent = np.where(packets.size > DTX_BYTES, length, 0)
        total = _sums(owner, sent, count)
        speech = _sums(owner, np.where(opus_toc.quiet(toc, second), 0, sent), count) > SPEECH_SHARE * total
        cost = np.bincount(owner, COSTS[toc] * sent, count) / np.maximum(total, 1)
        turns = self._turns(packets.tracks, total, speech, cost)
        rows = np.flatnonzero(_within(owner, sent, *turns))
        measured, starts, failed = self._decode(packets, rows, sent[rows])
        tried, wrong = np.bincount(owner[rows], None, count), np.bincount(owner[rows[failed]], None, count)
        malformed = np.bincount(owner[length == 0], None, count)
        malformed += wrong * np.bincount(owner[sent > 0], None, count) // np.maximum(tried, 1)
        return Heard(
            samples=total,
            unsent=_sums(owner, length - sent, count),
            malformed=malformed.astype(np.int32),
            speech=speech,
            loudness=measured,
            starts=starts,
            stretches=runs(owner[rows])[1],
        )

    def _turns(
        self, tracks: Places, total: Places, speech: Flags, cost: NDArray[np.float64]
    ) -> tuple[Places, Places]:
        """From where to where to hear each stretch, in samples of those sent; nothing where both are 0."""
        np.add.at(self._credit, tracks, (SHARE * total).astype(np.int64))
        self._credit[tracks] = np.minimum(self._credit[tracks], int(CREDIT_S * RATE))
        np.add.at(self._rested, tracks, np.where(speech, 0, total))
        worth = self._credit[tracks] / np.maximum(cost, COSTS.min())
        due = self._rested[tracks] >= QUIET_EVERY_S * RATE
        turn = np.where(speech, worth >= TURN_S * RATE, due)
        short = np.where(speech, int(TURN_S * RATE), int(QUIET_TURN_S * RATE))
        length = np.where(turn, np.minimum(np.where(worth >= 2 * total, total, short), total), 0)
        length[length < LEAST_TURN_S * RATE] = 0
        self._rested[tracks[~speech & (length > 0)]] = 0
        np.subtract.at(self._credit, tracks, (cost * length).astype(np.int64))
        # Turns lie at another place of the window each time.
        begin = ((total - length) * (self._heard[tracks] * 0.618 % 1)).astype(np.int64)
        np.add.at(self._heard, tracks, length > 0)
        return begin, begin + length

    def _decode(
        self, packets: Packets, rows: Places, samples: Places
    ) -> tuple[Loudness, Places, NDArray[np.intp]]:
        """Decode some of the packets: how loud their frames are, where each run begins, what is malformed."""
        first, _ = runs(packets.owner[rows])
        payload = packets.payload[packets.rows[rows]]
        pcm, failed = self._decoder.decode(payload, packets.size[rows], samples, first)
        if len(first):
            # What does not fill a frame at a run's end is left out.
            lengths = np.add.reduceat(samples, first)
            begin, frames = np.cumsum(lengths) - lengths, lengths // FRAME
            if (lengths % FRAME).any():
                pcm = pcm[ranges(begin, begin + frames * FRAME)]
            first = np.cumsum(frames) - frames
        return loudness(pcm.reshape(-1, FRAME)), first, np.flatnonzero(failed)


def _within(owner: Places, samples: Places, begin: Places, end: Places) -> Flags:
    """Which packets begin between two places of their stretch: packets of no samples do not."""
    before = np.cumsum(samples) - samples
    before -= before[np.searchsorted(owner, owner)]
    within: Flags = (samples > 0) & (before >= begin[owner]) & (before < end[owner])
    return within


def _sums(owner: Places, values: Places, count: int) -> Places:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, owner, values)
    return sums
