"""Excluded calls leave nothing on the disk, and all others are as without a policy."""

import pytest

from recorderd.config.policy import PolicyConfig
from recorderd.service.admission import AdmissionSettings
from recorderd.service.engine_settings import EngineSettings
from recorderd.spool.reader import Recording
from tests.recorder import Recorded, assert_exact, record
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Request


def settings(policy: dict, header: str | None = None) -> EngineSettings:
    rules = PolicyConfig.model_validate(policy).policy()
    return EngineSettings(admission=AdmissionSettings(rules, header))


def stored(recorded: Recorded) -> set[bytes]:
    """Every payload that the spool's recordings hold, opened."""
    found = set()
    for row in recorded.rows:
        with Recording.open(recorded.spool.record_path(row["id"]), recorded.identities) as recording:
            for media in recording.media():
                at = 0
                for size in media.rows["size"].tolist():
                    found.add(media.payload[at : at + size].tobytes())
                    at += size
    return found


def exclude(**match) -> dict:
    return {"rules": [{"name": "private", "match": match, "action": "exclude"}]}


def test_an_excluded_call_leaves_nothing_and_its_neighbour_is_whole(tmp_path):
    simulator = PbxSimulator(seed=31)
    private = simulator.add(CallScript(caller="2001", talk_s=6, early=frozenset({"callee"})))
    other = simulator.add(CallScript(caller="3001", talk_s=6))
    recorded = record(tmp_path, simulator, settings=settings(exclude(number="2xxx", to="2002")))
    call = recorded.call(private)
    assert (call["outcome"], call["reason"], call["recording"]) == ("excluded", "policy: rule private", None)
    assert call["answered_at"]
    assert recorded.call(other)["outcome"] == "excluded"  # 2002 is either's number
    assert recorded.rows == []
    recorded = record_again(tmp_path, simulator, exclude(**{"from": "2xxx"}))
    assert [row["call_ids"] for row in recorded.rows] == [[other.call_id]]
    assert_exact(recorded, other, other.caller)
    assert recorded.call(other)["outcome"] == "complete"
    assert not stored(recorded) & {bytes(each) for each in payloads(private)}
    assert recorded.engine.counters["streams_unclaimed"] == 0
    assert recorded.engine.admission.streams_left_out == 0


def record_again(tmp_path, simulator, policy, header=None) -> Recorded:
    folder = tmp_path / "again"
    folder.mkdir()
    return record(folder, simulator, settings=settings(policy, header))


def payloads(truth) -> list[bytes]:
    return [*truth.caller.payloads(), *truth.callee.payloads()]


def test_nothing_but_what_is_named_is_recorded(tmp_path):
    simulator = PbxSimulator(seed=32)
    named = simulator.add(CallScript(invite_headers="X-Tenant: gold\r\n", talk_s=4))
    simulator.add(CallScript(invite_headers="X-Tenant: silver\r\n", talk_s=4))
    rules = [{"name": "gold", "match": {"header": {"X-Tenant": "gold"}}, "action": "record"}]
    recorded = record(tmp_path, simulator, settings=settings({"default": "exclude", "rules": rules}))
    assert [row["call_ids"] for row in recorded.rows] == [[named.call_id]]
    reasons = {call["reason"] for call in recorded.calls if call["outcome"] == "excluded"}
    assert reasons == {"policy: default"}


def test_a_share_of_the_calls_is_the_same_in_each_replay(tmp_path):
    simulator = PbxSimulator(seed=33)
    for number in range(24):
        simulator.add(CallScript(talk_s=2, start_s=0.1 * number))
    half = {"rules": [{"name": "half", "match": {"percentage": 50}, "action": "exclude"}]}
    first = record(tmp_path, simulator, settings=settings(half))
    second = record_again(tmp_path, simulator, half)
    ids = [sorted(row["call_ids"][0] for row in recorded.rows) for recorded in (first, second)]
    assert ids[0] == ids[1]
    assert 4 < len(ids[0]) < 20


@pytest.mark.parametrize("reuse_s", [6.5, 12])
def test_a_stream_of_an_excluded_call_may_become_anothers(tmp_path, reuse_s):
    """The same ports and the very same SSRC, a call later."""
    simulator = PbxSimulator(seed=34)
    ends = {"caller_port": 4000, "callee_port": 6000, "caller_host": "10.9.0.1", "talk_s": 4, "seed": 5}
    simulator.add(CallScript(caller="2001", call_id="one", **ends))
    later = simulator.add(CallScript(caller="3001", call_id="two", start_s=reuse_s, **ends))
    recorded = record(tmp_path, simulator, settings=settings(exclude(**{"from": "2001"})))
    assert [row["call_ids"] for row in recorded.rows] == [[later.call_id]]
    assert_exact(recorded, later, later.caller)
    assert_exact(recorded, later, later.callee)


def test_a_header_of_the_invite_that_says_off_excludes(tmp_path):
    simulator = PbxSimulator(seed=35)
    simulator.add(CallScript(invite_headers="X-Record: off\r\n", talk_s=4))
    kept = simulator.add(CallScript(talk_s=4, happenings=(Request(2),)))
    recorded = record(tmp_path, simulator, settings=settings({}, "x-record"))
    assert [row["call_ids"] for row in recorded.rows] == [[kept.call_id]]
    assert [c["reason"] for c in recorded.calls if c["outcome"] == "excluded"] == ["x-record: off"]


def test_an_excluded_call_that_still_runs_is_accounted_for(tmp_path):
    simulator = PbxSimulator(seed=36)
    truth = simulator.add(CallScript(talk_s=4, ending="open"))
    recorded = record(tmp_path, simulator, settings=settings({"default": "exclude"}))
    assert recorded.call(truth)["outcome"] == "excluded"
    assert recorded.rows == []
