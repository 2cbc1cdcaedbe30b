"""Calls with more than one audio line: fax, video, messages, a second audio line, keys told by INFO."""

import re

import numpy as np
import pytest

from tests.recorder import assert_exact, record, samples
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import CallScript, Fax, Hold, Request
from tests.simulators.signals import Noise, Speech

ENDS = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2", "caller_port": 4000, "callee_port": 6000}
VIDEO = "m=video {} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n".format


def assert_both_exact(recorded, truth):
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets


def besides(recorded, truth):
    _, events = recorded.heard(recorded.of(truth))
    return [(event["kind"], event["state"]) for event in events if event["event"] == "besides"]


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_fax_is_noted_and_the_audio_around_it_kept(tmp_path, by):
    simulator = PbxSimulator(seed=71)
    truth = simulator.add(CallScript(talk_s=12, happenings=(Fax(3, 4, by=by),)))
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    call = recorded.call(truth)
    assert call["outcome"] == "complete"
    said = re.fullmatch(r"fax \(T\.38\) from (..:..:..) to (..:..:..), not recorded", call["reason"])
    begun = (truth.answered_ns // 10**9 + 3) % 86400
    assert said
    assert said[1] == f"{begun // 3600:02}:{begun // 60 % 60:02}:{begun % 60:02}"
    assert besides(recorded, truth) == [("fax (T.38)", state) for state in ("offered", "agreed", "ended")]
    assert all(track["gaps"] == [] for track in recorded.of(truth)["tracks"])


@pytest.mark.parametrize(("answered", "reason"), [(6002, "video agreed, not recorded"), (0, "")])
def test_video_is_noted(tmp_path, answered, reason):
    """Its packets, on a port of their own, belong to nobody."""
    simulator = PbxSimulator(seed=72)
    script = CallScript(talk_s=5, caller_sdp=VIDEO(4002), callee_sdp=VIDEO(answered), **ENDS)
    truth = simulator.add(script)
    if answered:
        ends = Address("10.3.0.1", 4002), Address("10.3.0.2", answered)
        simulator.send(1.5, 3, *ends, Noise(1), payload_type=96)
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", reason)
    assert besides(recorded, truth) == ([("video", "agreed")] if answered else [])


def test_video_on_the_port_of_the_audio(tmp_path):
    """RFC 9143: all m-lines share a port; payload types tell what is what."""
    simulator = PbxSimulator(seed=73)
    script = CallScript(talk_s=6, caller_sdp=VIDEO(4000), callee_sdp=VIDEO(6000), **ENDS)
    truth = simulator.add(script)
    ends = Address("10.3.0.1", 4000), Address("10.3.0.2", 6000)
    simulator.send(1.1, 4, *ends, Noise(1), payload_type=96)
    simulator.send(2.0, 4, *ends[::-1], Noise(2), payload_type=96)
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    assert recorded.engine.counters["streams_besides"] == 2
    assert recorded.call(truth)["reason"] == "video agreed, not recorded"
    assert recorded.engine.status()["streams"] == 0


def test_messages_are_noted(tmp_path):
    simulator = PbxSimulator(seed=74)
    line = "m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\n"
    truth = simulator.add(CallScript(talk_s=3, caller_sdp=line, callee_sdp=line))
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    assert recorded.call(truth)["reason"] == "messages (MSRP) agreed, not recorded"


def test_each_of_two_audio_lines_has_its_track(tmp_path):
    """Both talk at once; the second line numbers its payload types as it likes."""
    simulator = PbxSimulator(seed=75)
    second = "m=audio {} RTP/AVP 97\r\na=rtpmap:97 PCMU/8000\r\n".format
    script = CallScript(
        talk_s=8, happenings=(Hold(3, 2),), caller_sdp=second(4002), callee_sdp=second(6002), **ENDS
    )
    truth = simulator.add(script)
    ends = Address("10.3.0.1", 4002), Address("10.3.0.2", 6002)
    one = simulator.send(1.5, 5, *ends, Speech(81), payload_type=97)
    two = simulator.send(1.6, 5, *ends[::-1], Speech(82), payload_type=97)
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    row = recorded.of(truth)
    labels = [track["label"] for track in row["tracks"]]
    assert labels == ["caller", "callee", "callee-line-2", "caller-line-2"]
    heard, _ = recorded.heard(row)
    for label, sent, at_s in (("caller-line-2", one, 1.5), ("callee-line-2", two, 1.6)):
        got = samples(heard, label)
        place = round((EPOCH_NS / 1000 + at_s * 1e6 - heard.start_us) * 8000 / 1e6)
        first = next(iter(np.flatnonzero(got)))
        assert abs(first - next(iter(np.flatnonzero(sent))) - place) <= 160
        assert np.array_equal(np.trim_zeros(got), np.trim_zeros(sent))
    assert recorded.call(truth)["outcome"] == "complete"


FORMS = {
    "relay": ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5", 160),
    "relay, loose": ("application/dtmf-relay", "signal = #\nduration = 250\n", "#", 250),
    "relay, numbered": ("application/dtmf-relay", "Signal=10\r\nDuration=100\r\n", "*", 100),
    "alone": ("application/dtmf", "7", "7", 0),
    "nortel": (
        "application/vnd.nortelnetworks.digits",
        "p=Digit-Collection\r\ny=Digits\r\nd=12*\r\n",
        "12*",
        0,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_keys_by_info_are_told(tmp_path, form):
    """Once, however often a message is repeated."""
    content_type, body, digits, duration = FORMS[form]
    simulator = PbxSimulator(seed=76)
    happenings = tuple(
        Request(at_s, body=body, content_type=content_type, times=2, side=side)
        for at_s, side in ((2, "caller"), (3, "callee"), (3.5, "caller"))
    )
    truth = simulator.add(CallScript(talk_s=5, happenings=happenings))
    recorded = record(tmp_path, simulator)
    assert_both_exact(recorded, truth)
    _, events = recorded.heard(recorded.of(truth))
    tones = [event for event in events if event["event"] == "tone"]
    assert [(tone["track"], tone["digit"]) for tone in tones] == [
        (side, digit) for side in ("caller", "callee", "caller") for digit in digits
    ]
    assert {tone["duration_ms"] for tone in tones} == {duration}
    assert {tone["by"] for tone in tones} == {"info"}
