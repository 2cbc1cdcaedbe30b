import json

import pytest

from recorderd.errors import NoSuchRecording, SpoolCorrupt, WrongKey
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity
from tests.spool_builder import fill, make_desk, summary
from tests.tools_runner import recorderctl

TRACK = {
    "label": "caller",
    "codec": "pcmu",
    "sample_rate": 8000,
    "packets": 150,
    "lost": 2,
    "late": 0,
    "duplicates": 1,
    "duration_s": 3.0,
    "speech_level_dbov": -26.4,
    "noise_dbov": -61.0,
    "mos": 4.2,
    "gaps": [{"at_s": 1.0, "length_s": 0.04, "cause": "network"}],
}

REPORTED = {
    "clock_ppm": -52.3,
    "rtcp": {
        "reports": 4,
        "receiver_lost": 9,
        "lost_behind": 7,
        "lost_here_alone": 0,
        "receiver_jitter_ms": 3.5,
        "round_trip_ms": 42.0,
    },
}


@pytest.fixture
def desk(tmp_path):
    """Three sealed recordings, one of them to be reviewed, and one call in progress."""
    desk = make_desk(tmp_path)
    with Index.open(desk.spool) as index:
        for number in range(3):
            sealed = desk.record(number)
            facts = summary(number)
            facts["tracks"] = [TRACK, {**TRACK, **REPORTED, "label": "callee"}]
            if number == 2:
                facts["review"] = {"needed": True, "causes": ["caller: silent", "callee: 12 gaps"]}
            index.recording_finished(
                sealed.recording, "sealed", facts, sealed.path, sealed.sha256, sealed.bytes
            )
            index.call_saved(call(number, recording=sealed.recording))
        writer = desk.start(3)
        index.recording_started(writer.recording_id, {**summary(3), "from": "\x1b[31mevil\u202e"})
        index.call_saved(call(3, outcome=None, reason=None, recording=writer.recording_id))
        index.call_saved(call(4, outcome="missing", reason="no RTP was seen"))
    return desk


def call(number, **changes):
    return {
        "call_id": f"call-{number}@192.0.2.1",
        "from": f"10{number:02d}",
        "to": "200",
        "first_seen": f"2026-11-21T20:05:{number + 1:02d}.000Z",
        "answered_at": None,
        "ended_at": None,
        "outcome": "complete",
        "reason": "all speakers were recorded",
        "recording": None,
        **changes,
    }


def run(desk, *arguments):
    return recorderctl("--spool", desk.spool.path, *arguments)


def ids(desk):
    return sorted([*desk.spool.records(), *desk.spool.parts()])


def test_list_in_json_is_the_contract(desk):
    answer = run(desk, "list", "--json")
    assert answer.code == 0
    keys = {"id", "state", "call_ids", "from", "to", "started_at", "duration_s", "tracks", "review", "sync"}
    assert [row["id"] for row in answer.json] == ids(desk)
    for row in answer.json:
        assert keys | {"sha256", "bytes"} <= set(row)
    assert [row["state"] for row in answer.json] == ["sealed"] * 3 + ["recording"]
    assert answer.json[0]["tracks"][0] == TRACK
    assert answer.json[0]["started_at"] == "2026-11-21T20:05:01.000Z"
    assert answer.out.isascii()


def test_list_for_people(desk):
    answer = run(desk, "list")
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["ID", "STATE", "STARTED"]
    assert len(lines) == 5
    assert all(recording in answer.out for recording in ids(desk))
    assert "2026-11-21 20:05:01" in lines[1]
    assert "caller: silent; callee: 12 gaps" in lines[3]
    assert "\x1b" not in answer.out
    assert "\u202e" not in answer.out


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (["--review"], [2]),
        (["--state", "recording"], [3]),
        (["--number", "1001"], [1]),
        (["--call-id", "call-2@192.0.2.1"], [2]),
        (["--since", "2026-11-21T20:05:02", "--until", "2026-11-21 20:05:04"], [1, 2]),
        (["--since", "2026-11-22"], []),
        (["--limit", "2"], [2, 3]),
        (["--limit", "99999999999999999999999"], [0, 1, 2, 3]),
        (["--since", "2026-11-21T20:05:03.000Z"], [2, 3]),
        (["--since", "2026-11-21T20:05:03.0001Z"], [3]),
        (["--until", "2026-11-21T20:05:03.000Z"], [0, 1]),
        (["--until", "2026-11-21T20:05:03.001Z"], [0, 1, 2]),
        (["--since", "2026-11-21T21:05:03+01:00"], [2, 3]),
    ],
)
def test_filters_of_list(desk, filters, numbers):
    assert [row["id"] for row in run(desk, "list", "--json", *filters).json] == [
        ids(desk)[at] for at in numbers
    ]


def test_calls_in_json_is_the_contract(desk):
    answer = run(desk, "calls", "--json")
    assert [row["outcome"] for row in answer.json] == ["complete"] * 3 + [None, "missing"]
    assert answer.json[0] == call(0, recording=ids(desk)[0])


def test_calls_for_people(desk):
    answer = run(desk, "calls")
    assert "missing" in answer.out
    assert "no RTP was seen" in answer.out
    assert "in progress" in answer.out
    assert len(answer.out.splitlines()) == 6


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [(["--outcome", "missing"], [4]), (["--number", "1003"], [3]), (["--limit", "1"], [4])],
)
def test_filters_of_calls(desk, filters, numbers):
    found = [row["call_id"] for row in run(desk, "calls", "--json", *filters).json]
    assert found == [f"call-{number}@192.0.2.1" for number in numbers]


def test_an_empty_spool_says_so(tmp_path):
    desk = make_desk(tmp_path)
    assert run(desk, "list").out == "no recordings\n"
    assert run(desk, "calls").out == "no calls\n"
    assert not desk.spool.index_path.exists()
    assert run(desk, "list", "--json").json == run(desk, "calls", "--json").json == []


def test_show_in_json(desk):
    recording = ids(desk)[0]
    facts = run(desk, "show", recording, "--json").json
    assert facts["id"] == recording
    assert facts["recipients"] == [desk.recipient.id.hex()]
    assert facts["path"] == str(desk.spool.record_path(recording))
    assert (facts["host"], facts["segment"], facts["previous"]) == ("pbx.example", 0, None)
    assert [each["call_id"] for each in facts["calls"]] == ["call-0@192.0.2.1"]
    assert facts["tracks"][1]["label"] == "callee"
    assert "inside" not in facts


def test_show_for_people(desk):
    answer = run(desk, "show", ids(desk)[2])
    assert "caller: silent; callee: 12 gaps" in answer.out
    assert desk.recipient.id.hex() in answer.out
    assert "complete: all speakers were recorded" in answer.out
    assert "-26.4" in answer.out
    assert (
        "callee: its clock is 52 ppm slow; the listener lacked 9 packets, "
        "7 of them lost behind the recorder, jitter 3.5 ms, round trip 42.0 ms\n"
    ) in answer.out
    assert "caller: its" not in answer.out


def test_show_of_an_outcome_without_a_reason(desk):
    recording = ids(desk)[0]
    with Index.open(desk.spool) as index:
        index.call_saved(call(0, recording=recording, reason=""))
    text = run(desk, "show", recording).out
    assert [line.split()[2:] for line in text.splitlines() if line.startswith("call call-0")] == [
        ["complete"]
    ]
    assert "in progress" in run(desk, "show", ids(desk)[3]).out


def test_show_with_a_key_shows_what_is_inside(desk):
    recording = ids(desk)[0]
    inside = run(desk, "show", recording, "--identity", desk.identity_file, "--json").json["inside"]
    assert inside["status"] == "complete"
    assert [event["track"] for event in inside["events"]] == ["caller", "callee"]
    assert inside["summary"] == summary(0)
    text = run(desk, "show", recording, "--identity", desk.identity_file).out
    assert "inside: complete, 3 media records" in text
    assert "2 stream" in text


def test_show_of_a_call_in_progress(desk):
    recording = ids(desk)[3]
    facts = run(desk, "show", recording, "--identity", desk.identity_file, "--json").json
    assert (facts["state"], facts["inside"]["status"]) == ("recording", "recovered-prefix")
    assert "\x1b" not in run(desk, "show", recording).out


def test_first_letters_are_enough_when_they_are_one_recordings(desk):
    recording = ids(desk)[1]
    assert run(desk, "show", recording[:18], "--json").json["id"] == recording
    for text, message in (("2026", "several"), ("1999", "no recording"), ("", "no recording")):
        error = run(desk, "show", text, "--json").error
        assert error["code"] == NoSuchRecording.exit_code
        assert message in error["message"]
    assert run(desk, "show", "20261121T200501Z-ffffffffff").code == NoSuchRecording.exit_code


def test_show_tells_a_wrong_key_and_a_damaged_file(desk, tmp_path):
    recording = ids(desk)[0]
    generate_identity(tmp_path / "stranger", "x25519")
    error = run(desk, "show", recording, "--identity", tmp_path / "stranger", "--json").error
    assert error["code"] == WrongKey.exit_code
    assert desk.recipient.id.hex() in error["message"]
    path = desk.spool.record_path(recording)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    error = run(desk, "show", recording, "--json").error
    assert error["code"] == SpoolCorrupt.exit_code
    assert str(path) in error["message"]
    path.write_bytes(desk.spool.record_path(ids(desk)[1]).read_bytes())
    assert f"not {recording}" in run(desk, "show", recording, "--json").error["message"]


def test_a_segment_shows_the_one_before(desk):
    from recorderd.spool.header import Previous

    first = ids(desk)[0]
    writer = desk.start(9, previous=Previous(first, 0, "ab" * 32))
    fill(writer, 1)
    sealed = writer.seal({})
    with Index.open(desk.spool) as index:
        desk.enter(index, sealed, 9)
    assert json.loads(run(desk, "show", sealed.recording, "--json").out)["previous"]["recording"] == first
    assert first in run(desk, "show", sealed.recording).out
