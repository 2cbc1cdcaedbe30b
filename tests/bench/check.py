"""Checks what the bench recorded: every call, every packet, the right way round, and some tracks to the
sample.
"""

import argparse
import json
import subprocess
import sys
import wave
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.scene import CODECS, bench_calls
from tests.simulators.compare import first_difference, place_of
from tests.simulators.payloads import opus_decode
from tests.simulators.truth import CallTruth, TrackTruth

_PLACE_S = 0.020  # a track starts within this of its true place
_SAMPLED = 4


def problems(folder: Path, spool: Path, calls: list[CallTruth]) -> Iterator[str]:
    """What is wrong with the recordings, one line a problem."""
    rows = _control(spool, "list")
    by_call = {row["call_ids"][0]: row for row in rows if row["call_ids"]}
    if len(rows) != len(calls):
        yield f"{len(rows)} recordings of {len(calls)} calls"
    for call in calls:
        row = by_call.get(call.call_id)
        if row is None:
            yield f"{call.call_id}: not recorded"
            continue
        if (row["from"], row["to"]) != (call.script.caller, call.script.callee):
            yield f"{call.call_id}: recorded from {row['from']} to {row['to']}"
        said = {side: (track.packets, track.lost_between) for side, track in call.tracks.items()}
        found = {track["label"]: (track["packets"], track["lost"]) for track in row["tracks"]}
        if found != said:
            yield f"{call.call_id}: sent {said}, recorded {found}"
    for call in calls[:: max(1, len(calls) // _SAMPLED)]:
        if call.call_id in by_call:
            yield from _exactness(folder, spool, call, by_call[call.call_id])


def _exactness(folder: Path, spool: Path, call: CallTruth, row: dict[str, Any]) -> Iterator[str]:
    out, identity = str(folder / "checked.wav"), str(folder / "identity")
    options = ["--identity", identity, "--layout", "tracks", "--format", "wav"]
    _control(spool, "export", row["id"], "-o", out, *options)
    began_ns = datetime.fromisoformat(row["started_at"]).timestamp() * 1e9
    for side, track in call.tracks.items():
        with wave.open(str(folder / f"checked-{side}.wav"), "rb") as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
            rate = file.getframerate()
        said = _said(track)
        near = round((track.start_ns - began_ns) / 1e9 * rate)
        if rate != track.clock_rate:
            yield f"{call.call_id} {side}: exported at {rate} Hz"
        elif place_of(said, heard, near=near, within=round(_PLACE_S * rate)) is None:
            yield f"{call.call_id} {side}: not exact: {first_difference(said, heard[max(0, near) :])}"


def _said(track: TrackTruth) -> NDArray[np.int16]:
    return opus_decode(track.payloads())[:, 0] if track.codec == "opus" else track.samples()


def _control(spool: Path, *arguments: str) -> Any:
    command = [str(Path(sys.executable).parent / "recorderctl"), "--spool", str(spool), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main(arguments: list[str]) -> int:
    """Print the problems; 0 where there are none."""
    parser = argparse.ArgumentParser(prog="tests.bench.check")
    parser.add_argument("calls", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("codec", choices=CODECS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("spool", type=Path)
    parsed = parser.parse_args(arguments)
    simulator = bench_calls(parsed.calls, parsed.seconds, parsed.codec)
    found = list(problems(parsed.folder, parsed.spool, simulator.calls))
    print("\n".join(found[:20]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
