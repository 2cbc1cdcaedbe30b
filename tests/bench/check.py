"""Checks what the bench recorded: every call, every packet, the right way round; some tracks to the sample as
they are exported, or each one packet by packet.
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

from recorderd.spool.keys import load_identities
from recorderd.spool.layout import Spool
from tests.bench.load import staged
from tests.bench.replay import BINARIES
from tests.bench.scene import Scene
from tests.bench.tracks import differences, recorded
from tests.simulators.compare import first_difference, place_of
from tests.simulators.payloads import opus_decode
from tests.simulators.truth import CallTruth, TrackTruth

_PLACE_S = 0.020  # a track starts within this of its true place
_SAMPLED = 4
_SHOWN = 20


class Check:
    """Compares one spool with the calls that were sent; ``folder`` has the identity."""

    def __init__(self, folder: Path, spool: Path, calls: list[CallTruth]) -> None:
        self.folder, self.spool, self.calls = folder, spool, calls
        self.rows = self._control("list")
        self.by_call = {row["call_ids"][0]: row for row in self.rows if row["call_ids"]}

    def accounts(self) -> Iterator[str]:
        """What is wrong with what the recorder says of each call, one line a problem."""
        if len(self.rows) != len(self.calls):
            yield f"{len(self.rows)} recordings of {len(self.calls)} calls"
        for call in self.calls:
            row = self.by_call.get(call.call_id)
            if row is None:
                yield f"{call.call_id}: not recorded"
                continue
            if (row["from"], row["to"]) != (call.script.caller, call.script.callee):
                yield f"{call.call_id}: recorded from {row['from']} to {row['to']}"
            said = {
                side: (track.packets, track.lost_between, track.duplicates)
                for side, track in call.tracks.items()
            }
            found = {
                track["label"]: (track["packets"], track["lost"], track["duplicates"])
                for track in row["tracks"]
            }
            if found != said:
                yield f"{call.call_id}: sent {said}, recorded {found} (packets, lost, doubled)"

    def samples(self) -> Iterator[str]:
        """What is wrong with the sound of a few calls, spread over all, as `recorderctl export` gives it."""
        for call in self.calls[:: max(1, len(self.calls) // _SAMPLED)]:
            if call.call_id in self.by_call:
                yield from self._sound(call, self.by_call[call.call_id])

    def packets(self) -> Iterator[str]:
        """What is wrong with any packet of any track."""
        identities = load_identities([self.folder / "identity"])
        spool = Spool(self.spool)
        for call in self.calls:
            if (row := self.by_call.get(call.call_id)) is None:
                continue
            tracks, problems = recorded(spool.record_path(row["id"]), identities)
            yield from (f"{call.call_id}: {problem}" for problem in problems)
            for side, truth in call.tracks.items():
                found = tracks.get(side, [])
                if len(found) != 1:
                    yield f"{call.call_id} {side}: {len(found)} streams"
                    continue
                sent = truth.arrived
                head = sent["payload_type"] | sent["marker"].astype(np.uint8) << 7
                coded = np.frombuffer(b"".join(truth.payloads()), np.uint8)
                wrong = differences(found[0], sent["seq"], sent["timestamp"], head, coded)
                yield from (f"{call.call_id} {side}: {what}" for what in wrong)

    def _sound(self, call: CallTruth, row: dict[str, Any]) -> Iterator[str]:
        out, identity = str(self.folder / "checked.wav"), str(self.folder / "identity")
        options = ["--identity", identity, "--layout", "tracks", "--format", "wav"]
        self._control("export", row["id"], "-o", out, *options)
        began_ns = datetime.fromisoformat(row["started_at"]).timestamp() * 1e9
        for side, track in call.tracks.items():
            if track.codec == "opus" and track.lost:
                continue  # what stands in a lost packet's place is the decoder's choice
            with wave.open(str(self.folder / f"checked-{side}.wav"), "rb") as file:
                heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
                rate = file.getframerate()
            said, first = _said(track)
            near = round((track.time_of(first) - began_ns) / 1e9 * rate)
            if rate != track.clock_rate:
                yield f"{call.call_id} {side}: exported at {rate} Hz"
            elif place_of(said, heard, near=near, within=round(_PLACE_S * rate)) is None:
                yield f"{call.call_id} {side}: not exact: {first_difference(said, heard[max(0, near) :])}"

    def _control(self, *arguments: str) -> Any:
        command = [str(BINARIES / "recorderctl"), "--spool", str(self.spool), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)


def _said(track: TrackTruth) -> tuple[NDArray[np.int16], int]:
    """What was heard of a track, and the position at which that begins."""
    if track.codec == "opus":
        return opus_decode(track.payloads())[:, 0], track.heard_from
    last = track.arrived[-1]
    end = int(last["position"]) + int(last["length"])
    return track.samples()[track.heard_from : end], track.heard_from


def main(arguments: list[str]) -> int:
    """Print the problems; 0 where there are none."""
    parser = argparse.ArgumentParser(prog="tests.bench.check")
    parser.add_argument("scene", type=Scene.from_json)
    parser.add_argument("folder", type=Path)
    parser.add_argument("spool", type=Path)
    parser.add_argument("--packets", action="store_true", help="look at every packet of every track too")
    parsed = parser.parse_args(arguments)
    check = Check(parsed.folder, parsed.spool, staged(parsed.scene).calls)
    found = [*check.accounts(), *check.samples(), *(check.packets() if parsed.packets else ())]
    print("\n".join([*found[:_SHOWN], *([f"... {len(found)} problems"] if len(found) > _SHOWN else [])]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
