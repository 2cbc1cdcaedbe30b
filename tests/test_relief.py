"""However much is to be done at once, the rings can be emptied meanwhile."""

from pathlib import Path

from recorderd.capture.files import open_capture
from recorderd.service.engine import Engine
from tests.recorder import record_by
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript


def test_much_signalling_in_one_window_is_interrupted(tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=3)
    for _ in range(60):
        simulator.add(CallScript(ending="busy"))
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)
    reliefs = []

    def feed(engine: Engine) -> None:
        engine.handout.relief = lambda: reliefs.append(engine.counters["sip_messages"])
        for frames in open_capture(capture):
            engine.feed(frames)
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    assert any(0 < messages < 120 for messages in reliefs)  # the INVITEs of one second and what answers them
    assert len(recorded.calls) == 60
