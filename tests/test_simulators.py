"""The simulators are the measure of the recorder, so they are themselves measured: with Wireshark and
FFmpeg."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.live.tshark import tshark, tshark_complaints, tshark_fields, tshark_rtp_streams
from tests.simulators import g711
from tests.simulators.compare import first_difference, place_of
from tests.simulators.encapsulation import ETHERNET, LOOP, NULL, RAW, SLL, SLL2, Address
from tests.simulators.payloads import opus_decode
from tests.simulators.pbx import PbxSimulator
from tests.simulators.scenes import mixed_calls
from tests.simulators.script import (
    CallScript,
    Dtmf,
    Ending,
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
from tests.simulators.signals import Samples, Silence, Speech, Tone
from tests.simulators.truth import CallTruth, TrackTruth

BASIC = CallScript(talk_s=2.0, ring_s=0.3)
ROUGH = Impairment(loss=0.05, reorder=0.02, jitter_ms=5)


def simulate(path: Path, *scripts: CallScript, seed: int = 1, **options: object) -> list[CallTruth]:
    simulator = PbxSimulator(seed=seed, **options)  # type: ignore[arg-type]
    for script in scripts:
        simulator.add(script)
    simulator.write(path)
    return simulator.calls


def assert_streams_agree(path: Path, calls: list[CallTruth]) -> None:
    """Wireshark's packets and losses are the simulator's, for each stream (duplicates are packets to
    Wireshark)."""
    said = {
        (source, destination, ssrc): figures
        for call in calls
        for track in call.tracks.values()
        for (source, destination, ssrc), figures in track.by_stream().items()
    }
    seen = {(s.source, s.destination, s.ssrc): (s.packets, s.lost) for s in tshark_rtp_streams(path)}
    assert seen == said


def ffmpeg(codec: str, coded: bytes) -> NDArray[np.int16]:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = 8000
    context.layout = "mono"
    return np.concatenate([frame.to_ndarray().ravel() for frame in context.decode(av.Packet(coded))])


@pytest.mark.parametrize(("law", "codec"), [("pcmu", "pcm_mulaw"), ("pcma", "pcm_alaw")])
def test_g711_is_that_of_ffmpeg(law: str, codec: str) -> None:
    assert np.array_equal(g711.DECODE[law], ffmpeg(codec, bytes(range(256))))
    every = np.arange(-32768, 32768).astype(np.int16)
    error = np.abs(g711.decode(law, g711.encode(law, every)).astype(int) - every)
    assert error.max() <= 1024  # half of the widest step, or a clipped peak
    inverse = g711.decode(law, g711.encode(law, g711.DECODE[law]))
    assert np.array_equal(inverse, g711.DECODE[law])


@pytest.mark.parametrize("rate", [8000, 48000])
def test_signals_are_the_same_however_they_are_read(rate: int) -> None:
    for signal in (Speech(3), Tone(440.0), Silence(), Samples(np.arange(2000, dtype=np.int16))):
        whole = signal.window(np.array([0]), 960, rate)[0]
        parts = signal.window(np.array([0, 160, 320, 480, 640, 800]), 160, rate)
        assert np.array_equal(parts.ravel(), whole)


def test_speech_differs_between_seeds() -> None:
    first, second = (Speech(seed).window(np.arange(0, 80_000, 160), 160, 8000).ravel() for seed in (1, 2))
    assert np.mean(first[:8000] == second[:8000]) < 0.1
    rms_dbov = 20 * np.log10(np.sqrt(np.mean(first.astype(float) ** 2)) / 32768)
    assert -26 < rms_dbov < -14


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("linktype", "vlans"),
    [(ETHERNET, ()), (ETHERNET, (7,)), (ETHERNET, (100, 7)), (SLL, ()), (SLL2, ()), (RAW, ()), (NULL, ()),
    (LOOP, ())],
)  # fmt: skip
def test_every_link_type_is_clean(
    tmp_path: Path, linktype: int, vlans: tuple[int, ...], version: int
) -> None:
    path = tmp_path / "call.pcap"
    script = replace(BASIC, ip_version=4 if version == 4 else 6, happenings=(Dtmf(0.5, "12#"),), talk_s=1.0)
    calls = simulate(path, script, linktype=linktype, vlans=vlans, nanoseconds=version == 4)
    assert tshark_complaints(path) == []
    assert_streams_agree(path, calls)
    methods = ["INVITE"] * 4 + ["ACK", "BYE", "BYE"]
    rows = tshark_fields(path, "sip", "sip.CSeq.method", "sip.Call-ID")
    assert rows == [[method, calls[0].call_id] for method in methods]


def test_times_and_audio_are_those_of_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    (call,) = simulate(path, replace(BASIC, codec="pcma", caller_network=ROUGH))
    track = call.caller
    rows = tshark_fields(path, f"rtp.ssrc=={track.ssrcs[0]:#x}", "frame.time_epoch", "rtp.seq", "rtp.payload")
    seen = {
        int(seq): (round(float(time) * 1e6), bytes.fromhex(payload.replace(":", "")))
        for time, seq, payload in rows
    }
    assert len(seen) == track.packets > 0
    for row, payload in zip(track.arrived, track.payloads(), strict=True):
        time_us, shown = seen[int(row["seq"])]
        assert abs(time_us - row["seen_ns"] / 1000) <= 1
        assert shown == payload
    heard = track.samples()
    for row, payload in zip(track.arrived, track.payloads(), strict=True):
        part = heard[row["position"] : row["position"] + 160]
        assert np.array_equal(part, g711.decode("pcma", np.frombuffer(payload, np.uint8)))
    for lost in track.lost_packets:
        assert lost.length == 160
        assert not heard[lost.position : lost.position + 160].any()
    assert np.count_nonzero(track.samples(lost_too=True)) > np.count_nonzero(heard)


def test_impairments_are_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    network = Impairment(loss=0.03, burst=4, reorder=0.05, duplicate=0.02)
    (call,) = simulate(path, replace(BASIC, talk_s=60.0, caller_network=network))
    track = call.caller
    count = len(track.sent)
    assert 0.015 < track.lost / count < 0.05
    runs = np.count_nonzero(np.diff(track.sent["lost"].astype(int)) == 1)
    assert 2.5 < track.lost / runs < 6
    assert 0.01 < track.duplicates / count < 0.03
    assert np.count_nonzero(np.diff(track.arrived["seen_ns"]) < 0) > 0.02 * count
    stream = next(s for s in tshark_rtp_streams(path) if s.ssrc == track.ssrcs[0])
    assert stream.packets == track.packets + track.duplicates
    assert call.callee.lost == call.callee.duplicates == 0


def test_drift_and_packet_times(tmp_path: Path) -> None:
    for ptime in (10, 20, 30, 40, 60):
        path = tmp_path / f"{ptime}.pcap"
        (call,) = simulate(path, replace(BASIC, ptime_ms=ptime, caller_drift_ppm=200.0))
        assert set(call.caller.sent["length"]) == {8 * ptime}
        assert_streams_agree(path, [call])
    interval = np.diff(call.caller.sent["sent_ns"]).mean()
    assert interval == pytest.approx(60e6 / 1.0002, abs=2)
    last = call.caller.sent[-1]
    assert call.caller.time_of(int(last["position"])) == pytest.approx(last["sent_ns"], abs=2)


def test_scenes_of_a_call(tmp_path: Path) -> None:
    """Hold in its three ways, moved ports, refreshes, a pause, a new SSRC, a new payload type, a stranger."""
    path = tmp_path / "call.pcap"
    happenings = (
        Hold(1.0, 1.0), Hold(3.0, 1.0, by="callee", style="inactive", method="UPDATE"), Hold(5.0, 1.0,
        style="zero"), Move(7.0), Move(7.5, "callee", "UPDATE"), Refresh(8.0), Pause(8.2, 0.6, "callee"),
        NewSource(9.0, "callee"), NewCodec(9.5, "pcma", "caller"), Stranger(10.0, 0.5),
    )  # fmt: skip
    script = replace(BASIC, talk_s=11.0, happenings=happenings, challenge=True, early=frozenset({"callee"}))
    (call,) = simulate(path, script)
    assert tshark_complaints(path) == []
    streams = {(s.source, s.destination, s.ssrc): (s.packets, s.lost) for s in tshark_rtp_streams(path)}
    said = {key: value for track in call.tracks.values() for key, value in track.by_stream().items()}
    assert {key: streams.pop(key) for key in said} == said
    assert [packets for packets, _ in streams.values()] == [call.stranger_packets] == [25]
    assert len(call.callee.ssrcs) == 2
    assert len(call.caller.flows) == 3
    assert [by for by, _, _ in call.holds] == ["caller", "callee", "caller"]
    for side, by in (
        ("caller", 0),
        ("callee", 0),
        ("caller", 1),
        ("callee", 1),
        ("caller", 2),
        ("callee", 2),
    ):
        _, start, end = call.holds[by]
        sent = call.tracks[side].sent["sent_ns"]  # type: ignore[index]
        assert np.any((sent > start) & (sent < end)) == (side == "caller" and by == 0)
    jumps = np.flatnonzero(np.diff(call.callee.sent["position"]) > 160)
    seq = call.callee.sent["seq"].astype(int)
    assert len(jumps) == 4
    assert all((seq[at + 1] - seq[at]) % 65536 == 1 and call.callee.sent["marker"][at + 1] for at in jumps)
    assert set(call.caller.sent["payload_type"]) == {0, 8}
    methods = [row[0] for row in tshark_fields(path, "sip.Request-Line", "sip.Method")]
    assert methods.count("INVITE") == 2 + 2 + 2 + 1
    assert methods.count("UPDATE") == 2 + 1 + 1
    directions = [row[0] for row in tshark_fields(path, "sdp.connection_info", "sdp.connection_info")]
    assert sum("0.0.0.0" in text for text in directions) == 1


def test_events_replace_audio(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    (call,) = simulate(path, replace(BASIC, happenings=(Dtmf(0.5, "59*", "callee"),)))
    track = call.callee
    assert track.digits == "59*"
    fields = tshark_fields(
        path, "rtpevent", "rtpevent.event_id", "rtpevent.end_of_event", "rtpevent.duration"
    )
    assert [(int(digit), int(duration)) for digit, end, duration in fields if end in ("1", "True")] == [
        (digit, 800) for digit in (5, 9, 10) for _ in range(3)
    ]
    assert np.count_nonzero(track.sent["event"]) == len(fields) == 21
    seq = track.sent["seq"].astype(int)
    assert np.all(np.diff(seq) % 65536 == 1)
    assert_streams_agree(path, [call])


@pytest.mark.parametrize(
    ("ending", "codes"),
    [
        ("cancel", ["100", "180", "200", "487"]),
        ("busy", ["100", "180", "486"]),
        ("unanswered", ["100", "180"]),
    ],
)
def test_calls_that_are_not_answered(tmp_path: Path, ending: Ending, codes: list[str]) -> None:
    path = tmp_path / "call.pcap"
    (call,) = simulate(path, replace(BASIC, ending=ending))
    assert [row[0] for row in tshark_fields(path, "sip.Status-Line", "sip.Status-Code")] == codes
    assert call.answered_ns is None
    assert call.tracks == {}
    assert tshark_rtp_streams(path) == []


def test_other_ways_to_set_up(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    calls = simulate(
        path,
        replace(BASIC, delayed_offer=True),
        replace(BASIC, early=frozenset({"caller", "callee"}), reliable=True, start_s=0.1),
        replace(BASIC, nat=frozenset({"caller"}), start_s=0.2),
        replace(BASIC, retransmit=True, hangup_by="callee", start_s=0.3),
        replace(BASIC, caller_media_s=-0.2, callee_media_s=-0.3, start_s=0.4),
        sip_mtu=400,
    )
    assert tshark_complaints(path) == []
    assert_streams_agree(path, calls)
    delayed, early, nat, again, before = calls
    assert len(tshark_fields(path, "ip.frag_offset > 0", "ip.id")) > 20
    with_sdp = tshark_fields(path, f'sip.Call-ID=="{delayed.call_id}" && sdp', "sip.CSeq.method")
    assert [row[0] for row in with_sdp] == ["INVITE", "ACK"]
    assert early.answered_ns is not None
    assert early.callee.start_ns < early.caller.start_ns < early.answered_ns
    assert nat.caller.flows[0][0].host == "10.1.0.3"
    announced = tshark_fields(
        path, f'sip.Call-ID=="{nat.call_id}" && sip.Method=="INVITE"', "sdp.connection_info.address"
    )
    assert announced == [["192.168.77.5"]]
    invites = tshark_fields(path, f'sip.Call-ID=="{again.call_id}" && sip.Method=="INVITE"', "sip.Via.branch")
    assert len(invites) == 2
    assert invites[0] == invites[1]
    assert before.answered_ns is not None
    assert before.callee.start_ns < before.caller.start_ns < before.answered_ns


def test_fragments_of_both_versions_go_together_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.pcap"
    simulate(path, BASIC, replace(BASIC, ip_version=6, start_s=0.01), sip_mtu=500)
    assert tshark_complaints(path) == []
    assert len(tshark_fields(path, "sip", "sip.CSeq.method")) == 14
    assert len(tshark_fields(path, "ipv6.fraghdr", "frame.number")) >= 4


def test_sound_is_found_to_the_sample() -> None:
    said = Speech(1).window(np.arange(0, 16_000, 160), 160, 8000).ravel()
    heard = np.concatenate([np.zeros(130, np.int16), said, np.zeros(50, np.int16)])
    assert place_of(said, heard, near=100, within=40) == 130
    assert place_of(said, heard, near=100, within=20) is None
    heard[130 + 15_999] += 1
    assert place_of(said, heard, near=130, within=5) is None
    assert "1 of 16000 samples differ, the first at 15999" in first_difference(said, heard[130:])


@pytest.mark.parametrize(
    "settings",
    [OpusSettings(), OpusSettings(channels=2, bitrate=48000), OpusSettings(dtx=True, bandwidth="wb")],
)
def test_opus_packets_are_libopus_own(tmp_path: Path, settings: OpusSettings) -> None:
    path = tmp_path / "call.pcap"
    (call,) = simulate(path, replace(BASIC, codec="opus", opus=settings, talk_s=3.0))
    track = call.caller
    assert_streams_agree(path, [call])
    assert tshark_complaints(path) == []
    packets = track.payloads()
    assert len(packets) == track.packets
    decoded = opus_decode(packets, channels=settings.channels)
    assert decoded.shape == (960 * len(packets), settings.channels)
    assert np.abs(decoded.astype(int)).max() > 1000
    assert set(track.sent["length"]) == {960}
    if settings.dtx:
        assert track.length > 960 * len(packets)


def test_mirror_doubles_and_short_captures(tmp_path: Path) -> None:
    once, twice, short = (tmp_path / name for name in ("once.pcap", "twice.pcap", "short.pcap"))
    simulate(once, BASIC)
    simulate(twice, BASIC, doubles=True)
    simulate(short, BASIC, snaplen=100)
    frames = [row[0] for row in tshark_fields(once, "frame", "frame.number")]
    assert len(tshark_fields(twice, "frame", "frame.number")) == 2 * len(frames)
    assert {row[0] for row in tshark_fields(short, "rtp", "frame.cap_len")} == {"100"}


def test_times_in_a_file_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "calls.pcap"
    simulate(path, *mixed_calls(20, seed=3, talk_s=3.0), doubles=True)
    times = [float(row[0]) for row in tshark_fields(path, "frame", "frame.time_relative")]
    assert times == sorted(times)


def test_mixed_calls_start_in_every_order(tmp_path: Path) -> None:
    calls = simulate(tmp_path / "calls.pcap", *mixed_calls(200, seed=5, talk_s=1.0))
    assert len({call.call_id for call in calls}) == 200
    first = [call.caller.start_ns < call.callee.start_ns for call in calls]
    assert 60 < sum(first) < 140
    assert 60 < sum(call.callee.start_ns < (call.answered_ns or 0) for call in calls) < 180
    addresses = [flow for call in calls for track in call.tracks.values() for flow in track.flows]
    assert len(set(addresses)) == len(addresses)


def test_ports_may_be_used_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.pcap"
    again = replace(BASIC, caller_host="10.1.9.9", caller_port=40000, callee_port=12000)
    calls = simulate(path, again, replace(again, start_s=2.6))
    assert (
        calls[0].caller.flows
        == calls[1].caller.flows
        == ((Address("10.1.9.9", 40000), Address("10.0.0.1", 12000)),)
    )
    assert_streams_agree(path, calls)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("1.pcap", "2.pcap", "3.pcap"))
    scripts = mixed_calls(5, seed=1, talk_s=1.0)
    simulate(one, *scripts)
    simulate(two, *scripts)
    simulate(other, *scripts, seed=2)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_many_calls_are_made_quickly(tmp_path: Path) -> None:
    began = perf_counter()
    calls = simulate(tmp_path / "calls.pcap", *mixed_calls(50, seed=1, talk_s=20.0))
    assert sum(track.packets for call in calls for track in call.tracks.values()) > 95_000
    assert perf_counter() - began < 20


def test_the_truth_of_a_track_is_told_by_position() -> None:
    simulator = PbxSimulator()
    call = simulator.add(replace(BASIC, talk_s=1.0))
    track: TrackTruth = call.callee
    assert track.heard_from == 0
    assert track.time_of(8000) - track.start_ns == 1_000_000_000
    assert track.length == 8000
    with pytest.raises(ValueError, match="decode payloads"):
        simulator.add(replace(BASIC, codec="opus", talk_s=0.2)).caller.samples()


def test_wireshark_knows_the_text_of_every_message(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    simulate(path, replace(BASIC, ip_version=6, challenge=True))
    assert "Malformed" not in tshark(path, "-V", "-Y", "sip")
