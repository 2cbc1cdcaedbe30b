"""From an opened recording to what can be heard: each speaker's track, and layouts of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import STATIC, Format
from recorderd.media.assembly import LanePackets, TrackAudio
from recorderd.media.lane import Lane
from recorderd.spool.reader import Recording

Samples = NDArray[np.int16]

BLOCK_S = 1.0
ORDER = ("caller", "callee")
STRANGER = "stranger"
"""The label of streams that were taken for a speaker's until the real one came; in no layout but `tracks`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The tracks of one recording by label, caller first, and when the earliest of them begins."""

    tracks: dict[str, TrackAudio]
    start_us: float

    @property
    def speakers(self) -> dict[str, TrackAudio]:
        """The tracks of the call's own speakers."""
        return {label: track for label, track in self.tracks.items() if label != STRANGER}

    def rate(self) -> int:
        """The highest rate among the tracks, in Hz."""
        return max((track.rate() for track in self.speakers.values()), default=8000)


def hear(recording: Recording) -> Heard:
    """Gather a recording's packets into tracks. Raises SpoolCorrupt, WrongKey."""
    lanes: dict[int, LanePackets] = {}
    until_us: dict[int, int] = {}
    labels: dict[int, str] = {}
    for event in recording.events:
        _event(event, lanes, labels)
        if event.get("event") == "covered":
            until_us[int(event["stream"])] = int(event["time_us"])
    for media in recording.media():
        _media(media.base_time_us, media.rows, media.payload, lanes, until_us)
    tracks: dict[str, TrackAudio] = {}
    for label in sorted(set(labels.values()), key=_place):
        audio = TrackAudio([lanes[n] for n in sorted(lanes) if labels[n] == label and lanes[n].size])
        if audio.span_us() is not None:
            tracks[label] = audio
    spans = {label: audio.span_us() for label, audio in tracks.items()}
    starts = [span[0] for label, span in spans.items() if span and (label != STRANGER or len(spans) == 1)]
    return Heard(tracks, min(starts, default=0.0))


def _place(label: str) -> tuple[int, str, int]:
    """Caller and callee first, then who came in later, in order; strangers last."""
    kind, _, number = label.partition("-")
    if label in ORDER:
        return ORDER.index(label), "", 0
    return (2 if kind in ORDER else 3), kind, int(number) if number.isdecimal() else 0


def _event(event: dict[str, Any], lanes: dict[int, LanePackets], labels: dict[int, str]) -> None:
    if event.get("event") not in ("stream", "formats", "displaced"):
        return
    number = int(event["stream"])
    if event["event"] == "displaced":
        labels[number] = STRANGER
        return
    formats = {int(pt): Format(**described) for pt, described in event["formats"].items()}
    if event["event"] == "stream":
        lanes[number] = LanePackets(Lane({**STATIC, **formats}))
        labels[number] = str(event["track"])
    else:
        lanes[number].lane.learn(formats)


def _media(
    base_us: int,
    rows: NDArray[np.void],
    payload: NDArray[np.uint8],
    lanes: dict[int, LanePackets],
    until_us: dict[int, int],
) -> None:
    """``until_us`` tells from when on a stream has nothing but a copy of another one."""
    ends = np.cumsum(rows["size"], dtype=np.int64)
    edges = [0, *(np.flatnonzero(np.diff(rows["stream"])) + 1).tolist(), len(rows)]
    for first, last in pairwise(edges):
        part = rows[first:last]
        if int(part["stream"][0]) not in lanes:
            continue  # nothing says whose it is
        begin = int(ends[first]) - int(rows["size"][first])
        until = until_us.get(int(part["stream"][0]))
        if until is not None and base_us + int(part["time"].max()) >= until:
            keep = base_us + part["time"].astype(np.int64) < until
            part, coded = part[keep], payload[begin : int(ends[last - 1])][np.repeat(keep, part["size"])]
            if not len(part):
                continue
        else:
            coded = payload[begin : int(ends[last - 1])]
        lanes[int(part["stream"][0])].add(
            part["seq"].astype(np.int64),
            part["timestamp"],
            base_us + part["time"].astype(np.int64),
            (part["payload_type"] & 0x7F).astype(np.uint8),
            part["size"].astype(np.int32),
            coded.tobytes(),
        )


def even_blocks(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """The same samples in blocks of ``size`` (the last may be shorter)."""
    held: list[Samples] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= size:
            joined = np.concatenate(held)
            whole = len(joined) - len(joined) % size
            for at in range(0, whole, size):
                yield joined[at : at + size]
            held, count = [joined[whole:]], len(joined) - whole
    if count:
        yield np.concatenate(held)


def together(heard: Heard, rate: int) -> Iterator[list[Samples]]:
    """All tracks in step: for each block, one mono array a track, all of one length."""
    size = int(BLOCK_S * rate)
    streams = [even_blocks(track.blocks(heard.start_us, rate), size) for track in heard.speakers.values()]
    for blocks in zip_longest(*streams):
        longest = max(len(block) for block in blocks if block is not None)
        yield [_padded(block, longest) for block in blocks]


def _padded(block: Samples | None, length: int) -> Samples:
    out = np.zeros(length, np.int16)
    if block is not None:
        out[: len(block)] = block[:, 0]
    return out


def stereo(heard: Heard, rate: int) -> Iterator[Samples]:
    """Who called left, who was called right: blocks of shape (n, 2). Whoever was not recorded is silent;
    where several are on one side their sum is limited to 16 bits.
    """
    sides = [0 if label.partition("-")[0] == "caller" else 1 for label in heard.speakers]
    for blocks in together(heard, rate):
        total = np.zeros((len(blocks[0]), 2), np.int32)
        for side, block in zip(sides, blocks, strict=True):
            total[:, side] += block
        yield np.clip(total, -32768, 32767).astype(np.int16)


def mix(heard: Heard, rate: int) -> Iterator[Samples]:
    """Everybody on one channel: blocks of shape (n, 1), the sum of the tracks, limited to 16 bits."""
    for blocks in together(heard, rate):
        total = np.sum([block.astype(np.int32) for block in blocks], axis=0)
        yield np.clip(total, -32768, 32767).astype(np.int16)[:, None]
