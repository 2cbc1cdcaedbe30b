"""Compares what was recorded of a live load with what was sent, packet by packet."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorderd.spool.index import Index
from recorderd.spool.keys import Identity, load_identities
from recorderd.spool.layout import Spool
from tests.bench.live.load import BYTES, Load, payloads, speech
from tests.bench.tracks import RecordedStream, recorded
from tests.simulators.script import SIDES

_PROBLEMS = 5


@dataclass(frozen=True)
class Recount:
    """``lost_said`` is what the recorder says that it lost; ``packets`` what is there and as it was sent."""

    calls_exact: int
    calls_complete: int
    packets_sent: int
    packets: int
    lost_said: int
    problems: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Every byte of every packet of every call is there, and nothing was said to be missing."""
        return not self.problems and self.packets == self.packets_sent and not self.lost_said

    def figures(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "problems"}


def recount(load: Load, folder: Path, path: Path) -> Recount:
    """Open every recording of the spool with the identity in the folder."""
    identities = load_identities([folder / "identity"])
    spool = Spool(path)
    with Index.open(spool) as index:
        rows, calls = index.recordings(), index.calls()
    by_call: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        for call_id in row["call_ids"]:
            by_call.setdefault(call_id, []).append(row)
    pool = payloads(speech())
    exact = found = 0
    problems: list[str] = []
    for call in range(load.calls):
        of_call = by_call.get(load.call_id(call), [])
        wrong = [] if len(of_call) == 1 else [f"{len(of_call)} recordings"]
        for row in of_call:
            good, more = _call(load, call, spool, row["id"], identities, pool)
            found += good
            wrong += more
        exact += not wrong
        problems += [f"call {call}: {what}" for what in wrong]
    complete = sum(call["outcome"] == "complete" for call in calls)
    if complete != load.calls or len(calls) != load.calls:
        problems.append(f"{complete} of {len(calls)} calls are complete")
    lost = sum(track["lost"] for row in rows for track in row["tracks"])
    return Recount(exact, complete, 2 * load.calls * load.packets, found, lost, tuple(problems))


def shown(problems: tuple[str, ...]) -> Iterator[str]:
    """The first problems, and how many there are."""
    yield from problems[:_PROBLEMS]
    if len(problems) > _PROBLEMS:
        yield f"... {len(problems)} problems"


def _call(
    load: Load,
    call: int,
    spool: Spool,
    recording: str,
    identities: tuple[Identity, ...],
    pool: NDArray[np.void],
) -> tuple[int, list[str]]:
    """How many packets are as they were sent, and what else there is to say."""
    tracks, problems = recorded(spool.locate(recording), identities)
    found, wrong = 0, list(problems)
    for side, label in enumerate(SIDES):
        for stream in tracks.get(label, []):
            good = as_sent(load, 2 * call + side, stream, pool)
            found += good
            if good != len(stream.rows):
                wrong.append(f"{label}: {len(stream.rows) - good} packets are not as they were sent")
            if good != load.packets:
                wrong.append(f"{label}: {good} of {load.packets} packets")
        if label not in tracks:
            wrong.append(f"{label}: no track")
    return found, wrong


def as_sent(load: Load, stream: int, found: RecordedStream, pool: NDArray[np.void]) -> int:
    """How many packets of a recorded stream are those that were sent, each counted once."""
    return len(np.unique(numbers_as_sent(load, stream, found, pool)))


def numbers_as_sent(
    load: Load, stream: int, found: RecordedStream, pool: NDArray[np.void]
) -> NDArray[np.int64]:
    """Which packets of a stream, counted from 0, were recorded as they were sent, in the order recorded."""
    rows = found.rows
    if found.ssrc != load.ssrc[stream] or (rows["size"] != BYTES).any():
        return np.empty(0, np.int64)
    number = (rows["seq"].astype(np.int64) - int(load.first_seq[stream])) & 0xFFFF
    # Longer than 65,536 packets, a stream's wraps are counted from the first, which may be the one lost.
    number += np.cumsum(np.diff(number, prepend=number[:1]) < -0x8000) * 0x10000
    sent_at = load.first_timestamp[stream].astype(np.int64) + number * BYTES & 0xFFFFFFFF
    expected = pool[load.payload_at(np.full(len(rows), stream), number)]
    payload = np.frombuffer(expected.tobytes(), np.uint8).reshape(-1, BYTES)
    right = (number < load.packets) & (rows["timestamp"] == sent_at)
    right &= rows["payload_type"] == (number == 0).astype(np.uint8) << 7
    right &= (found.payload.reshape(-1, BYTES) == payload).all(axis=1)
    return np.asarray(number[right])
