"""Call scenes: each speaker complete and in place, and an outcome that says what happened."""

import numpy as np
import pytest

from recorderd.capture.files import open_capture
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.wire.frames import Frames
from tests.recorder import assert_exact, record, record_by, record_files, samples
from tests.simulators.pbx import EPOCH_NS, PbxSimulator
from tests.simulators.script import (
    CallScript,
    Dtmf,
    Hold,
    Impairment,
    Move,
    NewCodec,
    NewSource,
    OpusSettings,
    Pause,
    Refresh,
    Stranger,
)

BOTH = frozenset({"caller", "callee"})

SCENES = {
    "early media of the callee": CallScript(early=frozenset({"callee"}), ring_s=2),
    "early media of both, reliable": CallScript(early=BOTH, reliable=True, ring_s=2),
    "media long before its SDP": CallScript(delayed_offer=True, caller_media_s=-0.8, callee_media_s=-0.5),
    "delayed offer": CallScript(delayed_offer=True),
    "digest challenge": CallScript(challenge=True),
    "retransmissions": CallScript(retransmit=True),
    "caller behind NAT": CallScript(nat=frozenset({"caller"})),
    "callee behind NAT": CallScript(nat=frozenset({"callee"})),
    "callee hangs up": CallScript(hangup_by="callee"),
    "hold with music": CallScript(happenings=(Hold(2, 3),)),
    "hold by the callee, inactive": CallScript(happenings=(Hold(2, 3, by="callee", style="inactive"),)),
    "hold in the old form": CallScript(happenings=(Hold(2, 3, style="zero"),)),
    "hold by UPDATE": CallScript(happenings=(Hold(2, 3, method="UPDATE"),)),
    "the caller moves": CallScript(happenings=(Move(4),)),
    "the callee moves by UPDATE": CallScript(happenings=(Move(4, side="callee", method="UPDATE"),)),
    "session refresh": CallScript(happenings=(Refresh(3), Refresh(5, side="callee", method="INVITE"))),
    "silence suppression": CallScript(happenings=(Pause(3, 4), Pause(4, 2, side="callee"))),
    "a new SSRC": CallScript(happenings=(NewSource(4), NewSource(6, side="callee"))),
    "a change of law": CallScript(happenings=(NewCodec(4, "pcma"),)),
    "a stranger's packets": CallScript(happenings=(Stranger(3, 3, toward="callee"), Stranger(4, 3))),
    "IPv6": CallScript(ip_version=6),
}


@pytest.mark.parametrize("name", SCENES)
def test_scene(tmp_path, name):
    simulator = PbxSimulator(seed=11)
    truth = simulator.add(SCENES[name])
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        track = recorded.track(row, side.side)
        assert (track["packets"], track["lost"]) == (side.packets, 0)
    assert [track["label"] for track in row["tracks"]] == ["caller", "callee"]
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "")
    assert len(recorded.rows) == len(recorded.calls) == 1


@pytest.mark.parametrize(
    ("linktype", "vlans", "sip_mtu"),
    [
        (1, (), 1000),
        (1, (7,), 65000),
        (1, (7, 8), 900),
        (113, (), 65000),
        (276, (), 65000),
        (101, (), 700),
        (0, (), 65000),
    ],
)
def test_wires(tmp_path, linktype, vlans, sip_mtu):
    simulator = PbxSimulator(
        seed=12, linktype=linktype, vlans=vlans, sip_mtu=sip_mtu, nanoseconds=linktype != 101
    )
    truths = [simulator.add(CallScript(talk_s=3, ip_version=version)) for version in (4, 6)]
    recorded = record(tmp_path, simulator)
    for truth in truths:
        assert_exact(recorded, truth, truth.caller)
        assert_exact(recorded, truth, truth.callee)


def test_a_mirror_that_shows_everything_twice(tmp_path):
    simulator = PbxSimulator(seed=13, doubles=True)
    truth = simulator.add(CallScript(talk_s=5))
    recorded = record(tmp_path, simulator)
    assert_exact(recorded, truth, truth.caller)
    track = recorded.track(recorded.of(truth), "caller")
    assert (track["packets"], track["duplicates"]) == (truth.caller.packets, truth.caller.packets)
    assert len(recorded.calls) == 1


def test_keys_are_events_and_no_sound(tmp_path):
    simulator = PbxSimulator(seed=14)
    truth = simulator.add(CallScript(talk_s=8, happenings=(Dtmf(2, "42#"), Dtmf(4, "7", side="callee"))))
    recorded = record(tmp_path, simulator)
    assert_exact(recorded, truth, truth.caller)
    assert_exact(recorded, truth, truth.callee)
    _, events = recorded.heard(recorded.of(truth))
    streams = {event["stream"]: event["track"] for event in events if event["event"] == "stream"}
    tones = [(streams[event["stream"]], event["digit"]) for event in events if event["event"] == "tone"]
    assert tones == [("caller", "4"), ("caller", "2"), ("caller", "#"), ("callee", "7")]


def test_both_ends_behind_nat(tmp_path):
    """Nobody announced where the media runs; only the hosts of the signalling tell, for one call has them."""
    simulator = PbxSimulator(seed=25)
    truths = [simulator.add(CallScript(nat=BOTH, talk_s=6, start_s=20 * n)) for n in range(3)]
    recorded = record(tmp_path, simulator)
    for truth in truths:
        assert_exact(recorded, truth, truth.caller)
        assert_exact(recorded, truth, truth.callee)
        assert recorded.call(truth)["outcome"] == "complete"


def test_two_calls_between_two_hosts_are_not_guessed_apart(tmp_path):
    simulator = PbxSimulator(seed=26)
    ends = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2"}
    for number in range(2):
        ports = {"caller_port": 4000 + 10 * number, "callee_port": 6000 + 10 * number}
        simulator.add(
            CallScript(caller=f"10{number}", nat=BOTH, talk_s=5, start_s=0.5 * number, **ends, **ports)
        )
    recorded = record(tmp_path, simulator)
    assert recorded.rows == []
    assert {call["outcome"] for call in recorded.calls} == {"missing"}
    assert all("addresses that nobody announced" in call["reason"] for call in recorded.calls)


def test_media_of_others_between_its_hosts_is_not_that_of_a_call_without_any(tmp_path):
    """Two calls whose media cannot be told apart, and one that said where its own was to be."""
    simulator = PbxSimulator(seed=27)
    ends = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2"}
    scripts = [
        CallScript(
            caller=f"10{number}",
            nat=BOTH if number < 2 else frozenset(),
            start_s=0.5 * number,
            talk_s=5,
            caller_port=4000 + 10 * number,
            callee_port=6000 + 10 * number,
            **ends,
        )
        for number in range(3)
    ]
    calls = [simulator.add(script) for script in scripts]
    capture = simulator.write(tmp_path / "three.pcap")
    ports = tuple(port.to_bytes(2, "big") for port in (4020, 6020))

    def feed(engine: Engine) -> None:
        for frames in open_capture(capture):
            # Behind Ethernet and IPv4 without options come the UDP ports.
            keep = [bytes(row[34:36]) not in ports for row in frames.data]
            sizes = frames.caplen[keep], frames.wirelen[keep]
            engine.feed(Frames(frames.link, frames.time_ns[keep], frames.data[keep], *sizes))
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    assert recorded.rows == []
    assert recorded.call(calls[2])["reason"] == "capture ended; no media seen"
    assert all("addresses that nobody announced" in recorded.call(call)["reason"] for call in calls[:2])


@pytest.mark.parametrize("nat", [frozenset(), frozenset({"caller"})])
@pytest.mark.parametrize("first_s", [0.2, 2.0])
def test_a_stranger_is_kept_out_and_counted(tmp_path, nat, first_s):
    """Even one who was there before the real one."""
    simulator = PbxSimulator(seed=15)
    truth = simulator.add(
        CallScript(talk_s=8, nat=nat, caller_media_s=1.0, happenings=(Stranger(first_s, 4, toward="callee"),))
    )
    recorded = record(tmp_path, simulator)
    assert_exact(recorded, truth, truth.caller)
    assert recorded.track(recorded.of(truth), "caller")["packets"] == truth.caller.packets
    assert recorded.engine.counters["streams_kept_out"] == 1


def test_a_stranger_who_was_taken_for_the_caller_is_set_apart(tmp_path):
    simulator = PbxSimulator(seed=15)
    truth = simulator.add(
        CallScript(talk_s=9, caller_media_s=5, happenings=(Stranger(0.2, 8, toward="callee"),))
    )
    recorded = record(tmp_path, simulator)
    row = recorded.of(truth)
    assert_exact(recorded, truth, truth.caller)
    assert recorded.track(row, "caller")["packets"] == truth.caller.packets
    heard, events = recorded.heard(row)
    assert list(heard.tracks) == ["caller", "callee", "stranger"]
    assert [event["stream"] for event in events if event["event"] == "displaced"]
    assert recorded.engine.counters["streams_displaced"] == 1


@pytest.mark.parametrize(
    ("script", "outcome", "reason"),
    [
        (CallScript(ending="busy"), "unanswered", "rejected 486 Busy Here"),
        (CallScript(ending="cancel"), "unanswered", "cancelled"),
        (CallScript(talk_s=3, caller_sends=False), "partial", "no media from caller"),
        (CallScript(talk_s=3, callee_sends=False), "partial", "no media from callee"),
        (CallScript(talk_s=3, caller_sends=False, callee_sends=False), "missing", "no media seen"),
        (CallScript(talk_s=3, ending="open"), "partial", "capture ended"),
        (CallScript(ending="unanswered"), "unanswered", "capture ended"),
    ],
)
def test_outcomes(tmp_path, script, outcome, reason):
    simulator = PbxSimulator(seed=16)
    truth = simulator.add(script)
    recorded = record(tmp_path, simulator)
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == (outcome, reason)
    assert (call["recording"] is not None) == bool(recorded.rows)
    if recorded.rows:
        assert recorded.rows[0]["state"] == "sealed"


def test_a_ringing_tone_before_a_rejection_is_kept(tmp_path):
    simulator = PbxSimulator(seed=17)
    truth = simulator.add(CallScript(ending="busy", early=frozenset({"callee"}), ring_s=3))
    recorded = record(tmp_path, simulator)
    call = recorded.call(truth)
    assert call["outcome"] == "unanswered"
    assert call["recording"] == recorded.of(truth)["id"]
    assert_exact(recorded, truth, truth.callee)


def test_two_calls_on_one_port_in_quick_succession(tmp_path):
    simulator = PbxSimulator(seed=18)
    ends = {"caller_host": "10.3.0.1", "callee_host": "10.3.0.2", "caller_port": 4000, "callee_port": 6000}
    first = simulator.add(CallScript(talk_s=4, **ends))
    second = simulator.add(CallScript(caller="1002", talk_s=4, start_s=5.6, ring_s=0.4, **ends))
    recorded = record(tmp_path, simulator)
    for truth in (first, second):
        assert_exact(recorded, truth, truth.caller)
        assert_exact(recorded, truth, truth.callee)
        assert recorded.call(truth)["outcome"] == "complete"


def test_a_call_over_several_capture_files(tmp_path):
    """One capture after the other is one capture."""
    simulator = PbxSimulator(seed=19)
    truth = simulator.add(CallScript(talk_s=4))
    later = PbxSimulator(seed=20)
    other = later.add(CallScript(talk_s=4, start_s=60))
    recorded = record(tmp_path, simulator, later)
    assert_exact(recorded, truth, truth.caller)
    assert_exact(recorded, other, other.callee)


def test_what_the_kernel_dropped_is_not_the_networks_loss(tmp_path):
    simulator = PbxSimulator(seed=27)
    truth = simulator.add(CallScript(talk_s=8, caller_network=Impairment(loss=0.05)))
    capture = simulator.write(tmp_path / "calls.pcap")
    told_ns = truth.answered_ns + 4_000_000_000

    def feed(engine):
        told = False
        for frames in open_capture(capture):
            for at in range(0, len(frames), 100):
                part = slice(at, at + 100)
                engine.feed(
                    Frames(
                        frames.link,
                        frames.time_ns[part],
                        frames.data[part],
                        frames.caplen[part],
                        frames.wirelen[part],
                    )
                )
                engine.advance(int(frames.time_ns[part][-1]))
                if not told and frames.time_ns[part][-1] > told_ns:
                    told = True
                    engine.dropped(7, told_ns - 2_000_000_000, told_ns)
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    row = recorded.of(truth)
    assert row["capture_drops"] == 7
    gaps = recorded.track(row, "caller")["gaps"]
    start = recorded.heard(row)[0].start_us / 1e6
    for gap in gaps:
        ours = (
            told_ns / 1e9 - 2 < start + gap["at_s"] + gap["length_s"] and start + gap["at_s"] < told_ns / 1e9
        )
        assert gap["cause"] == ("capture" if ours else "network")
    assert {gap["cause"] for gap in gaps} == {"capture", "network"}
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("partial", "recorder lost 7 packets")


def test_encrypted_media_is_told_and_never_written(tmp_path):
    simulator = PbxSimulator(seed=28)
    truth = simulator.add(CallScript(talk_s=5))
    later = PbxSimulator(seed=29)
    good = later.add(CallScript(talk_s=3, start_s=30))
    captures = [simulator.write(tmp_path / "secret.pcap"), later.write(tmp_path / "plain.pcap")]
    data = captures[0].read_bytes()
    assert b"a=sendrecv" in data
    captures[0].write_bytes(data.replace(b"a=sendrecv", b"a=crypto:1"))
    recorded = record_files(tmp_path, captures)
    call = recorded.call(truth)
    why = "encrypted, not recordable: a key that cannot be read"
    assert (call["outcome"], call["reason"]) == ("missing", why)
    assert [row["call_ids"] for row in recorded.rows] == [[good.call_id]]
    assert recorded.engine.counters["streams_encrypted"] == 2
    assert recorded.engine.status()["streams"] == 0


def test_a_clock_that_is_set_back(tmp_path):
    """The second capture is of an hour before the first: nothing waits for the clock to catch up."""
    first = PbxSimulator(seed=23)
    truth = first.add(CallScript(talk_s=4))
    second = PbxSimulator(seed=24, epoch_ns=EPOCH_NS - 3600 * 1_000_000_000)
    other = second.add(CallScript(talk_s=4))
    recorded = record(tmp_path, first, second)
    assert recorded.engine.counters["clock_set_back"] == 1
    for call in (truth, other):
        assert_exact(recorded, call, call.caller)
        assert_exact(recorded, call, call.callee)
        assert recorded.call(call)["outcome"] == "complete"


@pytest.mark.parametrize("back_s", [3, 3600])
def test_a_clock_that_is_set_back_during_a_call(tmp_path, back_s):
    """What is heard after it follows what was heard before; nothing is as long as a step of the clock."""
    simulator = PbxSimulator(seed=25)
    truth, later = simulator.add(CallScript(talk_s=8)), simulator.add(CallScript(start_s=11, talk_s=3))
    capture = tmp_path / "calls.pcap"
    simulator.write(capture)
    second = 1_000_000_000

    def feed(engine: Engine) -> None:
        for frames in open_capture(capture):
            late = np.where(frames.time_ns >= EPOCH_NS + 5 * second, back_s * second, 0)
            times = frames.time_ns - late
            for at in range(0, len(frames), 50):
                part = slice(at, at + 50)
                sizes = frames.caplen[part], frames.wirelen[part]
                engine.feed(Frames(frames.link, times[part], frames.data[part], *sizes))
                engine.advance(int(times[part][-1]))
        engine.finish("capture ended")

    recorded = record_by(tmp_path, feed)
    for call in (truth, later):
        row = recorded.of(call)
        heard, _ = recorded.heard(row)
        for side in (call.caller, call.callee):
            assert np.array_equal(np.trim_zeros(samples(heard, side.side)), np.trim_zeros(side.samples()))
        assert row["duration_s"] == pytest.approx(call.script.talk_s, abs=0.1)
        assert recorded.call(call)["outcome"] == "complete"


def test_opus_with_dtx_keeps_its_time(tmp_path):
    simulator = PbxSimulator(seed=21)
    truth = simulator.add(
        CallScript(codec="opus", opus=OpusSettings(dtx=True, bitrate=16000, bandwidth="wb"), talk_s=10)
    )
    recorded = record(tmp_path, simulator)
    heard, _ = recorded.heard(recorded.of(truth))
    got = samples(heard, "caller", 48_000)
    assert abs(len(got) - truth.caller.length) <= 48_000 * 0.5
    assert np.abs(got).max() > 1000


def test_however_short_the_grace_nothing_is_lost(tmp_path):
    simulator = PbxSimulator(seed=22)
    truth = simulator.add(
        CallScript(talk_s=10, caller_network=Impairment(reorder=0.1, reorder_ms=200, duplicate=0.02))
    )
    recorded = record(tmp_path, simulator, settings=EngineSettings(grace_ms=0))
    assert_exact(recorded, truth, truth.caller)
    assert recorded.track(recorded.of(truth), "caller")["late"] > 0
