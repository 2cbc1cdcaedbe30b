"""`make bench`: generate calls, replay them through the whole recorder, check the result, print one line of
JSON a scene.

This process stays small on purpose: the peak memory that the kernel reports for a child is never less than
that of the process it was started from. Captures, spools and everything else are on a tmpfs and removed
again.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.replay import Run, empty_capture, prepare, replay, touch
from tests.bench.scene import CODECS, PLOTTED, SCENES, Scene
from tests.bench.tmpfs import folder_for

PLOT = Path(__file__).parents[2] / "var" / "bench" / "cost.png"

#: What a whole run measures besides, a line each: programs of their own, 1 where a figure is out of bounds.
BESIDES = ("tests.bench.durability", "tests.bench.index")


class Bench:
    """Measures scenes in one folder."""

    def __init__(self, folder: Path, runs: int, exact: str) -> None:
        self._folder, self._runs, self._exact = folder, runs, exact
        self._config = prepare(folder)
        self._empty = empty_capture(folder)
        self.correct = True

    def measure(self, scene: Scene) -> dict[str, Any]:
        """The figures of the median run, and whether every run recorded everything rightly."""
        capture = self._folder / "calls.pcap"
        self._python("tests.bench.load", scene.to_json(), str(capture))
        starts, done, exact = [], [], 0
        correct = True
        for number in range(self._runs):
            started, spool = self._run(self._empty, number)
            starts.append(started.cpu_s)
            shutil.rmtree(spool)
            touch(scene.bytes)
            run, spool = self._run(capture, number)
            done.append(run)
            every = self._exact == "every" or (self._exact == "first" and number == 0)
            correct &= self._check(scene, spool, every)
            exact += every
            shutil.rmtree(spool)
        capture.unlink()
        self.correct &= correct
        return figures(scene, done, median(starts)) | {"correct": correct, "runs_exact_throughout": exact}

    def _run(self, capture: Path, number: int) -> tuple[Run, Path]:
        spool = self._folder / f"spool-{capture.stem}-{number}"
        return replay(capture, self._config, spool, self._folder), spool

    def _check(self, scene: Scene, spool: Path, every: bool) -> bool:
        options = ["--packets"] if every else []
        checked = self._python(
            "tests.bench.check", scene.to_json(), str(self._folder), str(spool), *options, check=False
        )
        if checked.returncode:
            sys.stderr.write(checked.stdout + checked.stderr)
        return not checked.returncode

    def _python(self, module: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=None if check else subprocess.PIPE, text=True, check=check
        )


def figures(scene: Scene, done: list[Run], start_s: float) -> dict[str, Any]:
    """One line of the bench: the median run, ``start_s`` of which went into starting and stopping."""
    run = sorted(done, key=lambda run: run.cpu_s)[len(done) // 2]
    net = run.cpu_s - start_s
    shares = {name: round(seconds / run.cpu_s, 4) for name, seconds in run.stages.items()}
    if shares:
        shares["start"] = round(start_s / run.cpu_s, 4)
        shares["other"] = round(1 - sum(shares.values()), 4)
    return {
        "bench": scene.name,
        "calls": scene.calls,
        "seconds": round(scene.seconds),
        "call_seconds_per_cpu_second": round(scene.calls * scene.seconds / run.cpu_s),
        "cpu_s": round(run.cpu_s, 3),
        "cpu_start_s": round(start_s, 3),
        "cpu_net_s": round(net, 3),
        "cpu_net_ms_per_call": round(net / scene.calls * 1000, 3),
        "wall_s": round(run.wall_s, 3),
        "peak_rss_mb": round(run.peak_rss_mb),
        "stages": shares,
        "cpu_s_runs": [round(run.cpu_s, 3) for run in done],
    }  # fmt: skip


def growth(few: dict[str, Any], many: dict[str, Any]) -> dict[str, Any]:
    """What a call costs among many calls, as a multiple of what it costs among few."""
    return {
        "bench": f"{few['bench']} growth",
        "calls": [few["calls"], many["calls"]],
        "cost_per_call_ratio": round(many["cpu_net_ms_per_call"] / few["cpu_net_ms_per_call"], 3),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Replays generated calls and says what recording them cost. Without options: all"
        " scenes, the plot of cost against calls in var/bench/, and what durability and the index cost.",
    )
    parser.add_argument("--scene", action="append", choices=tuple(SCENES), help="only this one; repeatable")
    parser.add_argument("--runs", type=int, default=3, help="the median run is told (%(default)s)")
    parser.add_argument(
        "--exact",
        choices=("first", "every", "none"),
        default="first",
        help="in which runs every packet of every track is compared (%(default)s)",
    )
    parser.add_argument("--plot", action=argparse.BooleanOptionalAction, help="draw cost against calls")
    own = parser.add_argument_group("one scene of your own")
    own.add_argument("--calls", type=int)
    own.add_argument("--seconds", type=float, help="talk time of each call")
    own.add_argument("--codec", choices=CODECS)
    own.add_argument("--impaired", type=float, metavar="SHARE", help="of the packets: lost, doubled, late")
    return parser


def _scenes(parsed: argparse.Namespace) -> list[Scene]:
    chosen = {name: getattr(parsed, name) for name in ("calls", "seconds", "codec", "impaired")}
    own = {name: value for name, value in chosen.items() if value is not None}
    if own:
        codec = own.get("codec", "pcmu")
        name = {"pcmu": "g711", "pcma": "g711a"}.get(codec, codec)
        return [Scene(f"{name}-impaired" if own.get("impaired") else name, **own)]
    return [SCENES[name] for name in parsed.scene or SCENES]


def main() -> int:
    """Run the command line; 1 where what was recorded is not what was sent."""
    parsed = _parser().parse_args()
    scenes = _scenes(parsed)
    whole = not parsed.scene and scenes == list(SCENES.values())
    plotted = [SCENES["g711-200"].with_calls(calls) for calls in PLOTTED]
    draw = whole if parsed.plot is None else parsed.plot
    if draw:
        scenes += [scene for scene in plotted if scene not in scenes]
    lines: dict[Scene, dict[str, Any]] = {}
    with folder_for(max(scene.bytes for scene in scenes)) as folder:
        bench = Bench(folder, parsed.runs, parsed.exact)
        for scene in scenes:
            lines[scene] = bench.measure(scene)
            print(json.dumps(lines[scene]), flush=True)
    if draw:
        points = [(scene.calls, lines[scene]["cpu_net_ms_per_call"]) for scene in plotted]
        subprocess.run([sys.executable, "-m", "tests.bench.plot", json.dumps(points), str(PLOT)], check=True)
    few, many = SCENES["g711-200"], SCENES["g711-1000"]
    if few in lines and many in lines:
        print(json.dumps(growth(lines[few], lines[many])), flush=True)
    besides = [subprocess.run([sys.executable, "-m", name], check=False) for name in BESIDES if whole]
    return 0 if bench.correct and not any(run.returncode for run in besides) else 1


if __name__ == "__main__":
    sys.exit(main())
