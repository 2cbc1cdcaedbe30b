"""A worker's docket: what it has in hand is found after its death, and nothing else is touched."""

from pathlib import Path
from typing import Any

import pytest

from recorderd.calls.outcomes import RESTARTED
from recorderd.service.docket import GROWN, KEPT_NS, Docket, read_docket
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool

NS = 1_790_000_000_000_000_000


def call(number: int, **more: Any) -> dict[str, Any]:
    seen = f"2026-11-21T20:00:{number % 60:02d}.{number // 60:03d}Z"
    row = {"call_id": f"call-{number}", "first_seen": seen, "from": "anna", "to": "bob", "answered_at": None}
    return {**row, "ended_at": None, "outcome": None, "reason": None, "recording": None, **more}


def test_what_is_in_hand_is_read_back(tmp_path: Path) -> None:
    docket = Docket(tmp_path / "workers" / "1-1.jsonl")
    docket.note(call(1))
    docket.note(call(2, recording="r2"))
    docket.note(call(2, answered_at="2026-11-21T20:00:03Z"))
    docket.note(call(3))
    docket.leave(call(3))
    docket.leave(call(4))
    docket.over(call(1), NS)
    found = {row["call_id"]: row for row in read_docket(docket.path)}
    assert found.keys() == {"call-1", "call-2"}, "one that is over stays, one that another has does not"
    assert found["call-2"]["recording"] == "r2", "its recording is not forgotten when more is told"
    assert found["call-2"]["answered_at"] == "2026-11-21T20:00:03Z"
    docket.close()
    assert read_docket(docket.path) == []


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_last_line_costs_that_line(tmp_path: Path, cut: int) -> None:
    docket = Docket(tmp_path / "docket")
    docket.note(call(1))
    docket.note(call(2))
    docket.path.write_bytes(docket.path.read_bytes()[:-cut])
    assert [row["call_id"] for row in read_docket(docket.path)] in (["call-1"], ["call-1", "call-2"])
    assert len(read_docket(docket.path)) == (2 if cut == 1 else 1)


def test_the_file_does_not_grow_with_the_calls_of_the_day(tmp_path: Path) -> None:
    docket = Docket(tmp_path / "docket")
    docket.note(call(0, recording="long"))
    for number in range(1, 3 * GROWN):
        docket.note(call(number))
        docket.over(call(number), NS + number * KEPT_NS // 100)
    assert docket.path.stat().st_size < 300 * 2 * GROWN
    rows = {row["call_id"]: row for row in read_docket(docket.path)}
    assert rows["call-0"]["recording"] == "long"
    docket.note(call(0))
    assert {row["call_id"]: row for row in read_docket(docket.path)}["call-0"]["recording"] == "long"


def test_the_index_settles_only_what_was_in_hand(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool").prepare()
    with Index.open(spool) as index:
        for number in range(4):
            index.call_saved(call(number))
        index.call_saved(call(1, outcome="complete", reason="", recording="r1"))
        index.call_noted(call(1))
        index.call_noted(call(4, recording="r4"))
        keys = {(call(n)["first_seen"], call(n)["call_id"]) for n in (0, 1, 4)}
        settled = index.calls_interrupted(RESTARTED, only=keys)
        assert {row["call_id"]: row["outcome"] for row in settled} == {
            "call-0": "missing",
            "call-4": "partial",
        }
        outcomes = {row["call_id"]: row["outcome"] for row in index.calls()}
        assert outcomes == {
            "call-0": "missing",
            "call-1": "complete",
            "call-2": None,
            "call-3": None,
            "call-4": "partial",
        }
        index.call_saved(call(0, outcome="complete", reason=""))
        assert index.calls(outcome="missing") == [], "who has the call after all has the last word"
