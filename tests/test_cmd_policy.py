"""`recorderctl policy test` on a spool and by hand; `pause` and `resume` at the control socket."""

import json
import threading

import pytest

from recorderd.calls.privacy import Masks
from recorderd.errors import ConfigError, NoSuchRecording, SpoolError, UsageError
from recorderd.service.control import ControlSocket, ask
from recorderd.service.inquiries import Inquiries
from recorderd.service.replay import replay
from tests.recorder import record, record_by
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.tools_runner import recorderctl

RULES = """
policy:
  internal: [2xxx]
  rules:
    - {name: gold, match: {header: {X-Tenant: gold}}, action: record}
    - {name: inside, match: {direction: internal}, action: exclude}
    - {name: night, match: {time: "22:00-06:00"}, action: exclude}
"""


@pytest.fixture
def rules(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    return str(file)


def by_hand(rules: str, *call: str) -> tuple[str, str]:
    done = recorderctl("--json", "policy", "test", "--rules", rules, *call)
    assert done.code == 0, done.err
    [row] = json.loads(done.out)["calls"]
    return row["action"], row["rule"]


def test_a_call_by_hand(rules):
    noon = ("--at", "2026-11-23T12:00")
    assert by_hand(rules, "--from", "2001", "--to", "2002", *noon) == ("exclude", "inside")
    assert by_hand(rules, "--from", "2001", "--to", "0049", *noon) == ("record", "default")
    gold = ("--header", "x-tenant=gold")
    assert by_hand(rules, "--from", "2001", "--to", "2002", *gold, *noon) == ("record", "gold")
    assert by_hand(rules, "--from", "1", "--direction", "internal", *noon) == ("exclude", "inside")
    assert by_hand(rules, "--from", "1", "--at", "2026-11-23T23:00") == ("exclude", "night")


def test_the_calls_of_a_spool(tmp_path, rules):
    simulator = PbxSimulator(seed=61)
    simulator.add(CallScript(caller="2001", callee="2002", talk_s=2))
    simulator.add(CallScript(caller="3001", callee="2002", talk_s=2, ending="busy"))
    recorded = record(tmp_path, simulator)
    done = recorderctl("--spool", str(recorded.spool.path), "--json", "policy", "test", "--rules", rules)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    # Of what the headers were nobody knows any more.
    assert [(call["action"], call["rule"], call["became"]) for call in told["calls"]] == [
        ("unknown", "gold or inside", "complete"),
        ("record", "gold or default", "unanswered"),
    ]
    assert sum(count["calls"] for count in told["counts"]) == 2
    text = recorderctl("--spool", str(recorded.spool.path), "policy", "test", "--rules", rules)
    assert "gold or inside" in text.out


def test_masked_numbers_are_not_known(tmp_path):
    """A rule for numbers that the index does not show may have fitted or not."""
    simulator = PbxSimulator(seed=62)
    simulator.add(CallScript(caller="15550000111", callee="2002", talk_s=2))
    capture = simulator.write(tmp_path / "one.pcap")

    def feed(engine):
        assert replay([capture], engine) == []

    recorded = record_by(tmp_path, feed, masks=Masks(manifest=True))
    file = tmp_path / "numbers.yaml"
    file.write_text("policy: {rules: [{name: us, match: {number: +1*, to: 2xxx}, action: exclude}]}")
    spool = ("--spool", str(recorded.spool.path), "--json")
    [call] = json.loads(recorderctl(*spool, "policy", "test", "--rules", str(file)).out)["calls"]
    assert (call["from"], call["to"]) == ("155****0111", "**02")
    assert (call["action"], call["rule"]) == ("unknown", "us or default")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "policy: {rules: [{name: a, action: drop}]}",
            "policy.rules[0].action: must be 'record' or 'exclude'",
        ),
        ("default: maybe", "default: must be 'record' or 'exclude'"),
        ("rules: [{name: a, action: record, match: {form: x}}]", "unknown key; did you mean from?"),
        ("rules: [{name: a, action: record, match: {from: /(a+)+/}}]", "may not be repeated"),
    ],
)
def test_wrong_rules_are_told(tmp_path, text, fault):
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    done = recorderctl("policy", "test", "--rules", str(file), "--from", "1")
    assert done.code == ConfigError.exit_code
    assert fault in done.err


def test_wrong_options_are_told(rules):
    for wrong in (("--header", "nothing"), ("--at", "soon")):
        done = recorderctl("policy", "test", "--rules", rules, "--from", "1", *wrong)
        assert done.code == UsageError.exit_code


class Recorder:
    """Answers what is asked at a control socket, as the recording process does."""

    def __init__(self, spool, handler) -> None:
        spool.mkdir(exist_ok=True)
        self.socket = ControlSocket(spool / "control.sock")
        self._handler, self._over = handler, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            for asked in self.socket.asked():
                asked.reply(self._handler(asked.request))

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()
        self.socket.close()


def test_pause_and_resume_reach_the_recorder_and_say_who_asked(tmp_path):
    heard = []

    def handler(request):
        heard.append(request)
        paused = request["command"] == "pause"
        return {"calls": [{"call_id": "c", "recording": "r1", "paused": paused}]}

    spool = str(tmp_path / "spool")
    with Recorder(tmp_path / "spool", handler):
        assert "paused" in recorderctl("--spool", spool, "pause", "c", "--reason", "card").out
        done = recorderctl("--spool", spool, "--json", "resume", "c")
        assert json.loads(done.out)["calls"][0]["paused"] is False
    assert [(each["command"], each["target"], each.get("reason")) for each in heard] == [
        ("pause", "c", "card"),
        ("resume", "c", None),
    ]
    assert heard[0]["by"].startswith("user ")


def test_nobody_to_ask_and_no_such_call(tmp_path):
    (tmp_path / "spool").mkdir()
    spool = str(tmp_path / "spool")
    assert recorderctl("--spool", spool, "pause", "c").code == SpoolError.exit_code
    with Recorder(tmp_path / "spool", lambda _: {"error": "no call in progress is c"}) as recorder:
        assert recorderctl("--spool", spool, "pause", "c").code == NoSuchRecording.exit_code
        assert "error" in ask(recorder.socket.path, "erase")


def test_of_several_workers_the_one_that_records_the_call_answers():
    class Asked:
        answer = None

        def reply(self, answer):
            self.answer = answer

    inquiries, asked = Inquiries(), Asked()
    number = inquiries.begin(asked, 2)
    knows = {"calls": [{"call_id": "c", "recording": None, "paused": True}]}
    records = {"calls": [{"call_id": "c", "recording": "r", "paused": True}]}
    inquiries.heard([{"number": number, "answer": records}, {"number": 99, "answer": {}}])
    assert asked.answer is None
    inquiries.heard([{"number": number, "answer": knows}])
    assert asked.answer == records
    nobody = Asked()
    inquiries.begin(nobody, 0)
    assert "error" in nobody.answer
