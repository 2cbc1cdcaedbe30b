"""The calls of a scene; made the same each time, so that the checker knows what the recorder was given."""

import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.scene import Scene
from tests.simulators.pbx import PbxSimulator
from tests.simulators.scenes import mixed_calls
from tests.simulators.script import Impairment
from tests.simulators.signals import Speech

_OPUS_VOICES = 4  # encoding is slow: the calls share a few voices, a caller's never a callee's


def staged(scene: Scene) -> PbxSimulator:
    """The simulator with all calls staged, not yet written."""
    simulator = PbxSimulator(seed=2026)
    network = _network(scene.impaired)
    scripts = mixed_calls(scene.calls, seed=7, talk_s=scene.seconds, codec=scene.codec)
    for number, script in enumerate(scripts):
        script = replace(script, caller_network=network, callee_network=network)
        if scene.codec == "opus":
            voice = number % _OPUS_VOICES
            script = replace(script, caller_signal=Speech(1 + voice), callee_signal=Speech(101 + voice))
        simulator.add(script)
    return simulator


def _network(impaired: float) -> Impairment:
    """Two fifths are lost, in bursts of two; the others are doubled, or so late that others overtake them."""
    return Impairment(loss=0.4 * impaired, burst=2, duplicate=0.3 * impaired, reorder=0.3 * impaired)


def main(arguments: list[str]) -> int:
    """Write the capture file of a scene: ``SCENE FILE``."""
    scene, path = arguments
    staged(Scene.from_json(scene)).write(Path(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
