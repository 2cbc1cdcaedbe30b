"""Engines that share the media record what one engine would, whichever of them gets the packets."""

from pathlib import Path
from typing import Any

import pytest

from tests.recorder import assert_exact, record
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Move, OpusSettings
from tests.team import record_by_team
from tests.test_record_scenes import SCENES

SECOND = 1_000_000_000
OTHERS = {
    "busy": CallScript(ending="busy"),
    "cancelled": CallScript(ending="cancel", early=frozenset({"callee"})),
    "one way": CallScript(callee_sends=False),
    "opus": CallScript(codec="opus", opus=OpusSettings()),
    "long packets": CallScript(ptime_ms=60),
    "moves behind NAT": CallScript(nat=frozenset({"caller"}), happenings=(Move(3), Move(5, side="callee"))),
}


VARYING = {"id", "sha256", "bytes", "sync"}
MEASURED = {"speech_level_dbov", "noise_dbov", "mos"}
"""By samples: which of them depends on what else is measured."""


def facts(row: dict[str, Any]) -> dict[str, Any]:
    """What is said of a recording, but for what is never the same twice."""
    tracks = [{key: track[key] for key in track if key not in MEASURED} for track in row["tracks"]]
    return {**{key: row[key] for key in row if key not in VARYING}, "tracks": tracks}


def every_scene(*, sip_mtu: int = 65_000, seed: int = 5) -> PbxSimulator:
    simulator = PbxSimulator(seed=seed, sip_mtu=sip_mtu)
    for number, script in enumerate([*SCENES.values(), *OTHERS.values()] * 2):
        simulator.add(CallScript(**{**vars(script), "start_s": 0.37 * number}))
    return simulator


@pytest.mark.parametrize(("count", "sip_mtu"), [(2, 65_000), (3, 900)])
def test_a_team_records_what_one_engine_does(tmp_path: Path, count: int, sip_mtu: int) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "team").mkdir()
    alone = record(tmp_path / "alone", every_scene(sip_mtu=sip_mtu))
    simulator = every_scene(sip_mtu=sip_mtu)
    together, made = record_by_team(tmp_path / "team", simulator, count)

    calls = {row["call_id"]: {**row, "recording": None} for row in alone.calls}
    assert {row["call_id"]: {**row, "recording": None} for row in together.calls} == calls
    assert len(together.calls) == len(alone.calls)
    rows = {row["call_ids"][0]: facts(row) for row in alone.rows}
    assert {row["call_ids"][0]: facts(row) for row in together.rows} == rows
    assert len(together.rows) == len(alone.rows)
    for truth in simulator.calls:
        if truth.answered_ns is not None and truth.script.codec != "opus":
            for side in truth.tracks.values():
                assert_exact(together, truth, side)
    assert sum(member.counters["packets_handed_over"] for member in made.members) > 2000
    assert sum(member.counters["packets_taken_over"] for member in made.members) == sum(
        member.counters["packets_handed_over"] for member in made.members
    )


BOTH = frozenset({"caller", "callee"})
HOSTS = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2"}


def behind_nat(number: int, start_s: float) -> CallScript:
    """A call of two ends that both are elsewhere than they say."""
    ports = {"caller_port": 4000 + 10 * number, "callee_port": 6000 + 10 * number}
    return CallScript(nat=BOTH, talk_s=14.0, start_s=start_s, **HOSTS, **ports)  # type: ignore[arg-type]


def test_media_is_claimed_by_its_hosts_for_the_only_call_that_was_not_heard_yet(tmp_path: Path) -> None:
    """Whoever has the calls that were: owners tell one another."""
    simulator = PbxSimulator(seed=25)
    truths = [simulator.add(behind_nat(n, 4.0 * n)) for n in range(4)]
    recorded, made = record_by_team(tmp_path, simulator, 3)
    for truth in truths:
        assert recorded.call(truth)["outcome"] == "complete"
        assert_exact(recorded, truth, truth.caller)
        assert_exact(recorded, truth, truth.callee)
    assert sum(engine.counters["streams_claimed_by_host"] for engine in made.engines) >= 8


def test_calls_between_two_hosts_are_not_guessed_apart(tmp_path: Path) -> None:
    """And the account of each says that there was media, wherever it came."""
    simulator = PbxSimulator(seed=26)
    truths = [simulator.add(behind_nat(n, 0.2 * n)) for n in range(6)]
    recorded, _ = record_by_team(tmp_path, simulator, 3)
    assert recorded.rows == []
    for truth in truths:
        assert recorded.call(truth)["outcome"] == "missing"
        assert "addresses that nobody announced" in recorded.call(truth)["reason"]
