"""The calls of the bench; made the same each time, so that the checker knows what the recorder was given."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from tests.simulators.pbx import PbxSimulator
from tests.simulators.scenes import mixed_calls
from tests.simulators.signals import Speech

Codec = Literal["pcmu", "pcma", "opus"]
CODECS: tuple[Codec, ...] = get_args(Codec)
_OPUS_VOICES = 4  # encoding is slow: the calls share a few voices, a caller's never a callee's


def bench_calls(calls: int, seconds: float, codec: Codec) -> PbxSimulator:
    """The simulator with all calls staged, not yet written."""
    simulator = PbxSimulator(seed=2026)
    for number, script in enumerate(mixed_calls(calls, seed=7, talk_s=seconds, codec=codec)):
        if codec == "opus":
            voice = number % _OPUS_VOICES
            script = replace(script, caller_signal=Speech(1 + voice), callee_signal=Speech(101 + voice))
        simulator.add(script)
    return simulator


def main(arguments: list[str]) -> int:
    """Write the capture file."""
    parser = argparse.ArgumentParser(prog="tests.bench.scene")
    parser.add_argument("calls", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("codec", choices=CODECS)
    parser.add_argument("path", type=Path)
    parsed = parser.parse_args(arguments)
    bench_calls(parsed.calls, parsed.seconds, parsed.codec).write(parsed.path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
