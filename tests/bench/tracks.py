"""What a recording holds of each track, packet by packet, and how that differs from what was sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recorderd.errors import RecorderError
from recorderd.spool.container import PACKET_ROW
from recorderd.spool.keys import Identity
from recorderd.spool.reader import COMPLETE, Recording


@dataclass(frozen=True)
class RecordedStream:
    """One stream's packets in the order recorded: rows of PACKET_ROW, their payloads one behind the other."""

    ssrc: int
    rows: NDArray[np.void]
    payload: NDArray[np.uint8]


def recorded(
    path: Path, identities: Sequence[Identity]
) -> tuple[dict[str, list[RecordedStream]], tuple[str, ...]]:
    """The streams of each track label of a recording, and what is wrong with the file."""
    try:
        with Recording.open(path, identities) as recording:
            named = {e["stream"]: e for e in recording.events if e["event"] == "stream"}
            rows: dict[int, list[NDArray[np.void]]] = {number: [] for number in named}
            payloads: dict[int, list[NDArray[np.uint8]]] = {number: [] for number in named}
            for media in recording.media():
                ends = np.cumsum(media.rows["size"], dtype=np.int64)
                cuts = np.flatnonzero(np.diff(media.rows["stream"])) + 1
                for part in np.split(np.arange(len(media.rows)), cuts):
                    number = int(media.rows["stream"][part[0]])
                    start = int(ends[part[0]]) - int(media.rows["size"][part[0]])
                    rows[number].append(media.rows[part])
                    payloads[number].append(media.payload[start : int(ends[part[-1]])])
            problems = recording.problems if recording.status != COMPLETE else ()
    except RecorderError as error:
        return {}, (str(error),)
    tracks: dict[str, list[RecordedStream]] = {}
    for number, event in named.items():
        joined = np.concatenate([np.empty(0, PACKET_ROW), *rows[number]])
        payload = np.concatenate([np.empty(0, np.uint8), *payloads[number]])
        tracks.setdefault(event["track"], []).append(RecordedStream(event["ssrc"], joined, payload))
    return tracks, problems


def differences(
    found: RecordedStream,
    seq: NDArray[np.uint16],
    timestamp: NDArray[np.uint32],
    head: NDArray[np.uint8],
    payload: NDArray[np.uint8],
) -> Iterator[str]:
    """How a stream differs from the packets that arrived; ``head`` is payload type and marker bit."""
    rows = found.rows
    if len(rows) != len(seq):
        yield f"{len(rows)} packets of {len(seq)}"
        return
    for name, got, sent in (
        ("sequence numbers", (rows["seq"] & 0xFFFF).astype(np.uint16), seq),
        ("timestamps", rows["timestamp"], timestamp),
        ("payload types or markers", rows["payload_type"], head),
        ("bytes", found.payload, payload),
    ):
        if not np.array_equal(got, sent):
            count = int(np.count_nonzero(got != sent)) if len(got) == len(sent) else abs(len(got) - len(sent))
            yield f"{count} {name} differ"
