"""Measures all tracks of a recorder, a window at a time: a call each window, none for each packet or track.

What is kept of a track is a row in a few columns, however long the call is. G.711 is measured as it came
(:mod:`recorderd.quality.coded`), Opus heard in turns (:mod:`recorderd.quality.opus_turns`), and both filed
frame by frame (:mod:`recorderd.quality.tallies`) and judged when somebody asks
(:mod:`recorderd.quality.voice`). How the sound is cut into windows changes nothing where packets of G.711 are
of 20 ms. Where they are not, what is left over at a window's end has a peak and no level; and Opus is heard
window by window.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.g711 import RATE
from recorderd.media.columns import counts, grown, picked
from recorderd.media.streams import OPUS, OTHER, PCMA, PCMU
from recorderd.quality.coded import FRAME, SILENCE, CodedFrames, Loudness
from recorderd.quality.figures import Figures
from recorderd.quality.framing import ranges, recut, runs
from recorderd.quality.levels import dbov
from recorderd.quality.opus_turns import OpusTurns, Packets
from recorderd.quality.share import Share
from recorderd.quality.tallies import CHANGING, FRAME_S, STEADY
from recorderd.quality.turns import AT_FIRST_S, AT_MOST_S, ENOUGH_S, EVERY_S, TURN_S, asked_now, in_turn
from recorderd.quality.voice import Activity, judge

CHUNK: Final = 49_152
"""Packets taken in at once: enough that each step costs little, few enough to stay in the cache."""

Places = NDArray[np.int64]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]


class Meters:
    """The measuring state of all tracks; a track is a number."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._used = 0
        self._room = 0
        self._coded = CodedFrames()
        self._opus = OpusTurns()
        self._spoken = Share()
        """All of G.711, and seconds of Opus in which somebody speaks,"""
        self._quiet = Share()
        """and the other seconds of Opus, of which less is heard."""
        self._unsent: Places = np.zeros(0, np.int64)
        self._known: Flags = np.zeros(0, np.bool_)
        """Tracks of G.711 of which enough was heard to listen in turns."""

    def open(self) -> int:
        """Begin a track: its number. Numbers are given again after :meth:`close`."""
        if self._free:
            meter = self._free.pop()
            self._clear(meter)
            return meter
        self._used += 1
        if self._used > self._room:
            self._grow(max(64, 2 * self._room))
        return self._used - 1

    def close(self, meter: int) -> None:
        """The track is over, and its number free. Nothing of it may be taken in any more."""
        self._free.append(meter)

    def _clear(self, meter: int) -> None:
        """Begin with nothing, just before something comes: its rows are at hand then."""
        self._spoken.clear(meter)
        if self._quiet.samples[meter]:
            self._quiet.clear(meter)
        self._opus.clear(meter)
        self._unsent[meter] = 0
        self._known[meter] = False

    def figures(self, meter: int) -> Figures:
        """Work out the figures of all that a track took in; more may be taken in afterwards."""
        return self.figures_of([meter])[0]

    def figures_of(self, meters: Sequence[int]) -> list[Figures]:
        """The same of several tracks, all different: together they cost less than one by one."""
        tracks = np.array(meters, np.int64)
        tallied, quiet = self._spoken.counts(tracks), self._quiet.samples[tracks] > 0
        if quiet.any():
            tallied[quiet] += self._quiet.counts(tracks[quiet])
        silent = tallied[:, CHANGING, 0] + tallied[:, STEADY, 0]
        return [*map(self._figures, meters, silent.tolist(), judge(tallied))]

    def _figures(self, meter: int, silent: float, activity: Activity) -> Figures:
        """Those of a track with so many frames of digital silence."""
        samples, peak = self._spoken.samples.item(meter), self._spoken.peak.item(meter)
        clipped, unsent = self._spoken.clipped(meter), self._unsent.item(meter)
        if quiet := self._quiet.samples.item(meter):
            samples += quiet
            peak = max(peak, self._quiet.peak.item(meter))
            clipped += self._quiet.clipped(meter)
        return Figures(
            speech_level_dbov=activity.speech_level_dbov,
            noise_dbov=activity.noise_dbov,
            speech_s=activity.speech_frames * FRAME_S,
            total_s=(samples + unsent) / RATE,
            digital_silence_s=silent * FRAME_S + unsent / RATE,
            peak_dbov=dbov(float(peak) ** 2) if peak else None,
            clipped=clipped,
            clipped_s=clipped / RATE,
        )

    def window(
        self,
        payload: Codes,
        size: NDArray[np.int32],
        kind: Codes,
        starts: NDArray[np.integer],
        ends: NDArray[np.integer],
        meter: NDArray[np.integer],
        stream: NDArray[np.integer],
        seconds: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Take in a window: n packets in m stretches, each of one stream, in order.

        ``payload`` (n, w) holds a packet a row, of which ``size`` (n) bytes count; ``kind`` (n) says what
        they are, as in :mod:`recorderd.media.streams`. Stretch j is the rows ``starts[j]`` to ``ends[j]``, of
        the stream ``stream[j]``, and belongs to the track ``meter[j]``. Stretches are in the order of their
        rows, and none is empty. With ``seconds`` (m), how many seconds of each stream went before, G.711 is
        listened to in turns (:mod:`recorderd.quality.turns`); without, always.

        Returns how many packets of each stretch (m) cannot be decoded.
        """
        undecodable = np.zeros(len(starts), np.int32)
        first, after = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        tracks = np.asarray(meter, np.int64)
        if seconds is not None:
            law = kind[first]
            coded = (law == PCMU) | (law == PCMA)
            listen = ~coded | in_turn(seconds, stream, self._known[tracks])
            asked = tracks[coded & ~self._known[tracks] & asked_now(seconds, stream)]
            self._known[asked] = self._spoken.changing_s(asked) >= ENOUGH_S
            # Where one second in three is heard, each counts for three.
            often = coded & (seconds >= AT_FIRST_S) & (self._known[tracks] | (seconds >= AT_MOST_S))
            self._spoken.weight[tracks] = np.where(often, EVERY_S / TURN_S, 1)
            if not listen.all():
                self._not_heard(size, first[~listen], after[~listen], tracks[~listen])
                first, after, tracks = first[listen], after[listen], tracks[listen]
                undecodable[listen] = self._hear(payload, size, kind, first, after, tracks)
                return undecodable
        return self._hear(payload, size, kind, first, after, tracks)

    def _not_heard(self, size: NDArray[np.int32], first: Places, after: Places, tracks: Places) -> None:
        edges = np.stack((first, after), axis=1).ravel()
        # The last goes on to the end by itself.
        samples = np.add.reduceat(size, edges[:-1] if edges[-1] == len(size) else edges)[::2]
        self._spoken.sounded(tracks, samples.astype(np.int64))

    def _hear(
        self,
        payload: Codes,
        size: NDArray[np.int32],
        kind: Codes,
        first: Places,
        after: Places,
        tracks: Places,
    ) -> NDArray[np.int32]:
        undecodable = np.zeros(len(first), np.int32)
        end = np.cumsum(after - first)
        begin = end - (after - first)
        at = 0
        while at < len(first):
            upto = max(int(np.searchsorted(end, begin[at] + CHUNK, side="right")), at + 1)
            part = slice(at, upto)
            stretches = begin[part] - begin[at], tracks[part], undecodable[part]
            if np.array_equal(first[part][1:], after[part][:-1]):
                span = slice(int(first[at]), int(after[upto - 1]))
                self._chunk(payload[span], size[span], kind[span], None, *stretches)
            else:
                rows = ranges(first[part], after[part])
                self._chunk(payload, size[rows], kind[rows], rows, *stretches)
            at = upto
        return undecodable

    def _chunk(
        self,
        payload: Codes,
        size: NDArray[np.int32],
        kind: Codes,
        rows: Places | None,
        starts: Places,
        tracks: Places,
        undecodable: NDArray[np.int32],
    ) -> None:
        """Take in packets in stretches that begin at ``starts``: ``rows`` of the payload, or all of it."""
        coded, law = (kind == PCMU) | (kind == PCMA), (kind == PCMA).view(np.uint8)
        frames = coded & (size == FRAME)
        if frames.all():
            # What nearly every window is.
            self._usual(self._coded.measure(payload[:, :FRAME], law, rows), starts, tracks)
            return
        payload = payload if rows is None else picked(payload, rows)
        owner = np.repeat(np.arange(len(starts)), counts(starts, len(kind)))
        undecodable += np.bincount(owner[kind == OTHER], minlength=len(starts)).astype(np.int32)
        odd = np.zeros(len(starts), np.bool_)
        odd[owner[coded & (size != FRAME)]] = True
        usual = frames & ~odd[owner]
        if usual.any():
            first, of = runs(owner[usual])
            self._usual(self._frames(payload, law, usual), first, tracks[of])
        unusual = coded & (size > 0) & odd[owner]
        for number in range(2):
            which = unusual & (law == number)
            if which.any():
                first, of = runs(owner[which])
                self._recut(payload[which], size[which], first, tracks[of], number)
        opus = np.flatnonzero(kind == OPUS)
        if len(opus):
            undecodable += self._turns(Packets(payload, opus, size[opus], owner[opus], tracks))

    def _frames(self, payload: Codes, law: Codes, which: Flags) -> Loudness:
        """Measure those packets ``which`` are frames."""
        if 2 * np.count_nonzero(which) > len(which):
            # The others may hold anything, and cost less than picking rows does.
            return self._coded.measure(payload[:, :FRAME], law).only(which)
        return self._coded.measure(payload[:, :FRAME], law[which], np.flatnonzero(which))

    def _recut(
        self, payload: Codes, size: NDArray[np.int32], starts: Places, tracks: Places, law: int
    ) -> None:
        """Measure packets of one law that are not of 20 ms."""
        cut = recut(payload, size, starts, int(SILENCE[law]))
        loudness = self._coded.measure(cut.codes, np.full(len(cut.codes), law, np.uint8))
        self._spoken.sounded(tracks, cut.samples)
        self._spoken.extremes(loudness, cut.starts, tracks, cut.samples)
        so_far = np.concatenate((np.zeros(1, np.int64), np.cumsum(cut.whole)))
        left = np.diff(so_far[np.append(cut.starts, len(cut.whole))]) > 0
        if left.any():
            self._spoken.levels(loudness.power[cut.whole], so_far[cut.starts[left]], tracks[left])

    def _usual(self, loudness: Loudness, starts: Places, tracks: Places) -> None:
        """Take in what was measured of whole frames, in runs."""
        samples = FRAME * counts(starts, len(loudness.power))
        self._spoken.sounded(tracks, samples)
        self._spoken.extremes(loudness, starts, tracks, samples)
        self._spoken.levels(loudness.power, starts, tracks)

    def _turns(self, packets: Packets) -> NDArray[np.int32]:
        """Hear some of the Opus packets of a window; returns how many of each stretch are malformed."""
        heard = self._opus.hear(packets)
        np.add.at(self._unsent, packets.tracks, heard.unsent)
        lengths = counts(heard.starts, len(heard.loudness.power))
        of = np.repeat(heard.stretches, lengths)
        for share, which in ((self._spoken, heard.speech), (self._quiet, ~heard.speech)):
            share.sounded_in_part(packets.tracks[which], heard.samples[which])
            loudness = heard.loudness.only(which[of])
            mine = which[heard.stretches]
            if mine.any():
                starts, tracks = (
                    np.cumsum(lengths[mine]) - lengths[mine],
                    packets.tracks[heard.stretches[mine]],
                )
                share.extremes(loudness, starts, tracks, FRAME * lengths[mine])
                share.turns(loudness.power, starts, tracks)
        return heard.malformed

    def decoded(
        self, loudness: Loudness | None, starts: Places, stretches: Places, tracks: Places, samples: Places
    ) -> None:
        """Take in what others decoded of a window, in turns: k runs of frames of m stretches.

        A run begins at each of ``starts`` (k) and is of the stretch ``stretches`` (k), a stretch of the track
        ``tracks`` (m) and ``samples`` long (m, at 8 kHz), heard or not. Without ``loudness`` none was.
        """
        self._spoken.sounded_in_part(tracks, samples)
        if loudness is not None:
            lengths = counts(starts, len(loudness.power))
            self._spoken.extremes(loudness, starts, tracks[stretches], FRAME * lengths)
            self._spoken.turns(loudness.power, starts, tracks[stretches])

    def _grow(self, size: int) -> None:
        self._room = size
        for part in (self._spoken, self._quiet, self._opus):
            part.grow(size)
        self._unsent, self._known = grown(self._unsent, size), grown(self._known, size)
