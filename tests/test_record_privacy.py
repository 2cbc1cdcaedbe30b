"""What is paused or not to be kept is not in the spool, and what is said of it is true."""

from itertools import pairwise

import numpy as np
import pytest

from recorderd.calls.policy import Policy
from recorderd.calls.privacy import Masks, is_masked
from recorderd.capture.files import open_capture
from recorderd.media.dtmf import HIGH, LOW
from recorderd.service.admission import AdmissionSettings
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.pausing import PrivacySettings
from recorderd.service.replay import replay
from recorderd.spool.manifest import load_manifest
from recorderd.wire.frames import Frames
from tests.recorder import Recorded, record, record_by, samples
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript, Dtmf, Impairment, Request
from tests.simulators.signals import Samples
from tests.simulators.truth import CallTruth
from tests.test_record_policy import record_again, stored

HEADER = "x-record"
PAUSE, RESUME, OFF = (f"X-Record: {wish}\r\n" for wish in ("pause", "resume", "off"))


def settings(**privacy) -> EngineSettings:
    made = PrivacySettings(**privacy)
    return EngineSettings(privacy=made, admission=AdmissionSettings(Policy(), made.header))


def payloads(side, since_ns: int, until_ns: int) -> set[bytes]:
    """What a side said from one moment to another, as it was seen."""
    rows = side.arrived[~side.arrived["event"]]
    sent = rows["sent_ns"]
    everything = side.payloads()
    return {everything[at] for at in np.flatnonzero((sent >= since_ns) & (sent < until_ns)).tolist()}


def assert_only_withheld(recorded: Recorded, truth: CallTruth, *spans: tuple[float, float | None]) -> None:
    """Nothing that was said in the spans (seconds from the answer) is in the spool; all the rest is."""
    found = stored(recorded)
    for side in (truth.caller, truth.callee):
        edges = [-1e9, *(edge for span in spans for edge in span), 1e9]
        moments = [truth.answered_ns + round((1e9 if edge is None else edge) * 1e9) for edge in edges]
        for number, (since, until) in enumerate(pairwise(moments)):
            # The network's own delay, which the simulator adds to what is sent, aside.
            said = payloads(side, since + 40_000_000, until - 40_000_000)
            if number % 2:
                assert not said & found
            else:
                assert said <= found


def described(recorded: Recorded, truth: CallTruth) -> tuple[list, dict, list]:
    row = recorded.of(truth)
    _, events = recorded.heard(row)
    pauses = [(e["event"], round((e["time_us"] - truth.answered_ns / 1000) / 1e6, 1)) for e in events
              if e["event"] in ("paused", "resumed")]  # fmt: skip
    return pauses, row, [event for event in events if event["event"] == "tone"]


def test_a_header_pauses_and_resumes(tmp_path):
    simulator = PbxSimulator(seed=41)
    happenings = (Request(3.2, headers=PAUSE), Request(6.7, "UPDATE", "callee", headers=RESUME))
    truth = simulator.add(CallScript(talk_s=10, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    pauses, row, _ = described(recorded, truth)
    assert pauses == [("paused", 3.2), ("resumed", 6.7)]
    assert_only_withheld(recorded, truth, (3.2, 6.7))
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "paused 3.5 s")
    assert row["review"] == {"needed": False, "causes": []}
    assert [(p["length_s"], p["by"]) for p in row["pauses"]] == [(3.5, "SIP header of caller")]
    for track in row["tracks"]:
        [gap] = track["gaps"]
        assert (gap["cause"], gap["reason"], round(gap["length_s"], 1)) == (
            "paused",
            "SIP header of caller",
            3.5,
        )
        assert track["lost"] == 0
        assert track["packets"] < 8 * 50
    manifest = load_manifest(recorded.spool.manifest_path(row["id"]), None)
    assert manifest.summary["pauses"] == row["pauses"]


def test_a_pause_is_silence_of_its_true_length(tmp_path):
    simulator = PbxSimulator(seed=42)
    happenings = (Request(3, headers=PAUSE), Request(5, headers=RESUME))
    truth = simulator.add(CallScript(talk_s=8, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    heard, _ = recorded.heard(recorded.of(truth))
    for side in (truth.caller, truth.callee):
        got, true = samples(heard, side.side), side.samples()
        at = round((side.time_of(0) / 1000 - heard.start_us) * 8 / 1000)
        begin = max(0, next(iter(np.flatnonzero(got))) - next(iter(np.flatnonzero(true))))
        assert abs(begin - at) <= 160
        assert np.array_equal(got[begin : begin + 22000], true[:22000])
        assert np.array_equal(got[begin + 44000 : begin + 60000], true[44000:60000])
        assert not got[begin + 25000 : begin + 39000].any()


def test_a_pause_in_the_invite_holds_before_there_is_media(tmp_path):
    simulator = PbxSimulator(seed=43)
    script = CallScript(
        invite_headers=PAUSE, early=frozenset({"callee"}), talk_s=7, happenings=(Request(4, headers=RESUME),)
    )
    truth = simulator.add(script)
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    assert_only_withheld(recorded, truth, (-10, 4))
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "paused 4.0 s")
    assert not recorded.of(truth)["review"]["needed"]


def test_off_is_for_good(tmp_path):
    simulator = PbxSimulator(seed=44)
    happenings = (Request(3, headers=OFF), Request(5, headers=RESUME))
    truth = simulator.add(CallScript(talk_s=8, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER, most_s=2))
    assert_only_withheld(recorded, truth, (3, 1e8))
    assert recorded.call(truth)["reason"] == "paused 5.0 s"


def test_a_call_paused_throughout_is_complete_and_empty(tmp_path):
    simulator = PbxSimulator(seed=45)
    truth = simulator.add(CallScript(invite_headers=PAUSE, talk_s=5))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    assert stored(recorded) == set()
    assert recorded.call(truth)["outcome"] == "complete"
    assert recorded.call(truth)["reason"] == "paused 5.0 s"
    assert not recorded.of(truth)["review"]["needed"]


def test_a_forgotten_pause_ends_by_itself_with_an_alert(tmp_path):
    simulator = PbxSimulator(seed=46)
    truth = simulator.add(CallScript(talk_s=9, happenings=(Request(2, headers=PAUSE),)))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER, most_s=3.5))
    pauses, row, _ = described(recorded, truth)
    assert pauses == [("paused", 2.0), ("resumed", 5.5)]
    assert_only_withheld(recorded, truth, (2, 5.5))
    [alert] = recorded.alerts
    assert alert["kind"] == "pause"
    assert alert["fields"]["recording"] == row["id"]
    assert alert["fields"]["resumed_after_s"] == 3.5


@pytest.mark.parametrize("times", [1, 3])
def test_keys_by_info_pause_and_resume(tmp_path, times):
    """However often each is sent."""
    body = "Signal={}\r\nDuration=160\r\n".format
    pressed = ((2.0, "*"), (2.5, "7"), (5.0, "*"), (5.5, "8"))
    happenings = tuple(Request(at_s, body=body(key), times=times) for at_s, key in pressed)
    simulator = PbxSimulator(seed=47)
    truth = simulator.add(CallScript(talk_s=8, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(pause_keys="*7", resume_keys="*8"))
    pauses, _, tones = described(recorded, truth)
    assert [name for name, _ in pauses] == ["paused", "resumed"]
    assert_only_withheld(recorded, truth, (pauses[0][1], pauses[1][1]))
    assert tones == []


def test_keys_pause_and_resume_and_are_not_kept_themselves(tmp_path):
    simulator = PbxSimulator(seed=48)
    happenings = (Dtmf(1, "42"), Dtmf(3, "*7"), Dtmf(4, "4111", side="callee"), Dtmf(6, "*8"), Dtmf(8, "*9"))
    truth = simulator.add(CallScript(talk_s=10, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(pause_keys="*7", resume_keys="*8"))
    pauses, row, tones = described(recorded, truth)
    assert [name for name, _ in pauses] == ["paused", "resumed"]
    assert 3 < pauses[0][1] < 3.6
    assert 6 < pauses[1][1] < 6.6
    assert_only_withheld(recorded, truth, (pauses[0][1], pauses[1][1]))
    assert [tone["digit"] for tone in tones] == ["4", "2", "*", "9"]
    assert row["pauses"][0]["by"] == "keys of caller"
    assert not any(len(payload) == 4 for payload in stored(recorded))


@pytest.mark.parametrize(
    ("dtmf", "digits"), [("keep", ["4", "2", "#"]), ("digits", ["*", "*", "*"]), ("remove", [])]
)
def test_keys_are_kept_as_configured(tmp_path, dtmf, digits):
    simulator = PbxSimulator(seed=49)
    truth = simulator.add(CallScript(talk_s=6, happenings=(Dtmf(2, "42#"),)))
    recorded = record(tmp_path, simulator, settings=settings(dtmf=dtmf))
    _, row, tones = described(recorded, truth)
    assert [tone["digit"] for tone in tones] == digits
    assert any(len(payload) == 4 for payload in stored(recorded)) == (dtmf == "keep")
    assert_only_withheld(recorded, truth, (100, 101))
    assert recorded.call(truth)["outcome"] == "complete"
    assert [track["lost"] for track in row["tracks"]] == [0, 0]
    if dtmf != "keep":
        spool = b"".join(path.read_bytes() for path in recorded.spool.path.rglob("*") if path.is_file())
        assert b'"digit":"4"' not in spool


def test_what_the_network_lost_in_a_pause_is_no_gap(tmp_path):
    simulator = PbxSimulator(seed=50)
    lossy = Impairment(loss=0.05, burst=3)
    happenings = (Request(2, headers=PAUSE), Request(8, headers=RESUME))
    truth = simulator.add(CallScript(talk_s=10, caller_network=lossy, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    row = recorded.of(truth)
    [paused] = recorded.track(row, "callee")["gaps"]
    gaps = recorded.track(row, "caller")["gaps"]
    inside = [gap for gap in gaps if paused["at_s"] < gap["at_s"] < paused["at_s"] + paused["length_s"] - 0.1]
    assert inside == []
    assert {gap["cause"] for gap in gaps} == {"network", "paused"}


def test_the_control_socket_pauses_one_call_of_two(tmp_path):
    simulator = PbxSimulator(seed=51)
    truth = simulator.add(CallScript(talk_s=8))
    other = simulator.add(CallScript(talk_s=8))
    capture = tmp_path / "two.pcap"
    simulator.write(capture)
    answers = []

    def feed(engine: Engine) -> None:
        steps = [
            (5.5, {"command": "pause", "target": truth.call_id, "reason": "card number"}),
            (7.5, {"command": "resume", "target": ""}),
        ]
        for frames in open_capture(capture):
            for first in range(0, len(frames), 100):
                part = slice(first, first + 100)
                sizes = frames.caplen[part], frames.wirelen[part]
                at_ns = int(frames.time_ns[part].max())
                engine.feed(Frames(frames.link, frames.time_ns[part], frames.data[part], *sizes))
                engine.advance(at_ns)
                while steps and at_ns >= EPOCH_NS + steps[0][0] * 1e9:
                    at_s, request = steps.pop(0)
                    if request["command"] == "resume":
                        request["target"] = answers[0]["calls"][0]["recording"][:12]
                    answers.append(engine.pausing.command(request, round((EPOCH_NS + at_s * 1e9) / 1000)))
        assert steps == []
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    assert [answer["calls"][0]["paused"] for answer in answers] == [True, False]
    pauses, row, _ = described(recorded, truth)
    assert [name for name, _ in pauses] == ["paused", "resumed"]
    assert (row["pauses"][0]["by"], row["pauses"][0]["reason"]) == ("control socket", "card number")
    assert recorded.call(truth)["reason"] == "paused 2.0 s"
    assert recorded.call(other)["reason"] == ""
    assert_only_withheld(recorded, truth, (pauses[0][1], pauses[1][1]))


def test_no_call_of_that_name(tmp_path):
    def feed(engine: Engine) -> None:
        assert engine.pausing.command({"command": "pause", "target": "x"}, 0) == {
            "error": "no call in progress is x"
        }

    record_by(tmp_path, feed)


def test_masked_numbers_are_whole_in_the_sealed_part_alone(tmp_path):
    simulator = PbxSimulator(seed=52)
    truth = simulator.add(CallScript(caller="13812345678", callee="4008123456789", talk_s=4))
    capture = simulator.write(tmp_path / "one.pcap")

    def feed(engine: Engine) -> None:
        assert replay([capture], engine) == []

    recorded = record_by(tmp_path, feed, masks=Masks(manifest=True))
    row, call = recorded.of(truth), recorded.call(truth)
    assert (row["from"], row["to"]) == (call["from"], call["to"]) == ("138****5678", "400******6789")
    for path in recorded.spool.path.rglob("*"):
        if path.is_file():
            assert b"12345678" not in path.read_bytes()
    _, events = recorded.heard(row)
    [whole] = [event for event in events if event["event"] == "call"]
    assert (whole["from"], whole["to"]) == ("13812345678", "4008123456789")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("13812345678", "138****5678"),
        ("2001", "**01"),
        ("1", "*"),
        ("", ""),
        ("0201234567", "020***4567"),
        ("alice", "***ce"),
    ],
)
def test_masks(text, masked):
    masks = Masks(manifest=True)
    assert masks.number(text) == masked
    assert masks.number(masked) == masked
    assert is_masked(masked) == bool(masked)
    assert not is_masked(text)


def test_a_code_with_a_star_is_no_masked_number():
    assert not any(map(is_masked, ("*72", "*21*2001", "#31#2001", "2001*")))


@pytest.mark.parametrize(
    ("reason", "masked"),
    [
        ("rejected 404 no user 15550004000 here", "rejected 404 no user 155****4000 here"),
        ("rejected 404 15550004000", "rejected 404 155****4000"),
        ("redirected 302 try +1 555-000-4000!", "redirected 302 try +1 ********4000!"),
        (
            "rejected 486 alice is busy on 2001, not on line 2",
            "rejected 486 ***ce is busy on **01, not on line 2",
        ),
        ("rejected 603 Decline", "rejected 603 Decline"),
        ("rejected 487", "rejected 487"),
        ("cancelled", "cancelled"),
    ],
)
def test_what_a_peer_says_of_a_number_is_masked(reason, masked):
    masks = Masks(manifest=True)
    row = {"from": "alice", "to": "15550004000", "outcome": "unanswered", "reason": reason}
    hidden = masks.shown(row)
    assert hidden["reason"] == masked
    assert masks.shown(hidden) == hidden


def test_the_recorders_own_words_are_not_masked():
    row = {"from": "12345", "to": "2001", "outcome": "partial", "reason": "recorder lost 12345 packets"}
    assert Masks(manifest=True).shown(row)["reason"] == "recorder lost 12345 packets"


def test_a_header_may_be_in_quotes_and_what_is_not_understood_is_told(tmp_path):
    simulator = PbxSimulator(seed=54)
    said = ((2, '"pause"'), (3, "stop\x1b now"), (5, '"Resume";by=agent'))
    happenings = tuple(Request(at_s, headers=f"X-Record: {value}\r\n") for at_s, value in said)
    truth = simulator.add(CallScript(talk_s=8, happenings=happenings))
    recorded = record(tmp_path, simulator, settings=settings(header=HEADER))
    pauses, row, _ = described(recorded, truth)
    assert pauses == [("paused", 2.0), ("resumed", 5.0)]
    _, events = recorded.heard(row)
    [other] = [event for event in events if event["event"] == "not_understood"]
    assert other["by"] == "SIP header of caller"
    assert other["value"].startswith("stop")
    assert "\x1b" not in other["value"]
    assert recorded.engine.counters["pause_headers_not_understood"] == 1


def test_all_that_names_somebody_is_masked():
    masks = Masks(syslog=True)
    facts = {
        "from": "13812345678", "call_id": "a@b", "recording": "r",
        "participants": [{"user": "2001", "uri": "sip:13812345678@pbx.example", "display": None}],
        "legs": [{"to": "2001"}],
    }  # fmt: skip
    assert masks.shown(facts) == facts
    assert masks.told(facts) == {
        "from": "138****5678", "call_id": "a@b", "recording": "r",
        "participants": [{"user": "**01", "uri": "sip:138****5678@pbx.example", "display": None}],
        "legs": [{"to": "**01"}],
    }  # fmt: skip
    assert masks.told({"uri": "tel:+4420123456"}) == {"uri": "tel:+44****3456"}


def keys_heard(at_s: list[float], seconds: int) -> np.ndarray:
    """Something quiet that is no speech, and a key of 80 ms at each of these times."""
    rng = np.random.default_rng(8)
    wave = rng.normal(0, 60, seconds * 8000)
    time = np.arange(640) / 8000
    for number, begin in enumerate(at_s):
        low, high = LOW[number % 4], HIGH[number // 4 % 4]
        place = slice(round(begin * 8000), round(begin * 8000) + 640)
        wave[place] += 4000 * (np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time))
    return wave.astype(np.int16)


@pytest.mark.parametrize(("codec", "ptime_ms"), [("pcmu", 20), ("pcma", 30), ("pcmu", 25)])
def test_keys_that_are_heard_are_silent_before_they_are_sealed(tmp_path, codec, ptime_ms):
    pressed = [1.0 + 0.37 * number for number in range(16)]
    simulator = PbxSimulator(seed=53)
    signal = Samples(keys_heard(pressed, 8))
    truth = simulator.add(CallScript(codec=codec, ptime_ms=ptime_ms, talk_s=8, caller_signal=signal))
    recorded = record(tmp_path, simulator, settings=settings(dtmf_tones="silence"))
    row = recorded.of(truth)
    heard, events = recorded.heard(row)
    got = samples(heard, "caller")
    true = truth.caller.samples()
    begin = round((truth.caller.time_of(0) / 1000 - heard.start_us) * 8 / 1000)
    begin = max(0, min(range(begin - 160, begin + 161), key=lambda at: mismatch(got, true, max(0, at))))
    for at_s in pressed:
        place = slice(begin + round(at_s * 8000), begin + round(at_s * 8000) + 640)
        # Where a window ends, a little of a key may be left.
        assert np.count_nonzero(np.abs(got[place].astype(int)) > 500) <= 100
    untouched = np.ones(len(true), np.bool_)
    for at_s in pressed:
        untouched[round(at_s * 8000) - 400 : round(at_s * 8000) + 1040] = False
    length = min(len(true), len(got) - begin)
    assert np.array_equal(got[begin : begin + length][untouched[:length]], true[:length][untouched[:length]])
    silenced = [event for event in events if event["event"] == "silenced"]
    assert {event["stream"] for event in silenced} == {
        event["stream"] for event in events if event["event"] == "stream" and event["track"] == "caller"
    }
    assert 16 * 80 <= sum(event["length_ms"] for event in silenced) <= 16 * 130
    plain = record_again(tmp_path, simulator, {})
    got = samples(plain.heard(plain.of(truth))[0], "caller")
    assert np.count_nonzero(np.abs(got.astype(int)) > 4000) > 16 * 200


def mismatch(got: np.ndarray, true: np.ndarray, at: int) -> int:
    return int(np.count_nonzero(got[at : at + 4000] != true[:4000]))
