"""What phones and PBXs do to a dialog, as a capture shows it: the outcome, the speakers and every sample."""

import pytest

from recorderd.capture.files import open_capture
from tests.capture_builder import pcap
from tests.raw_dialog import RawDialog, sdp
from tests.recorder import Recorded, assert_exact, record, record_files
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Hold, Move, Refresh

A, B, C = Address("10.5.0.1", 4000), Address("10.5.0.2", 6000), Address("10.5.0.3", 7000)


def complete(recorded: Recorded, dialog: RawDialog) -> None:
    call = dialog.call(recorded)
    assert (call["outcome"], call["reason"]) == ("complete", "")
    assert call["recording"] == dialog.row(recorded)["id"]
    dialog.assert_exact(recorded)


@pytest.mark.parametrize("both_answer", [False, True])
def test_a_fork_with_early_media_of_both(tmp_path, both_answer):
    """Two phones ring, with tags of their own; what the one that loses plays is the callee's side, too."""
    simulator = PbxSimulator(seed=81)
    dialog = RawDialog(simulator)
    dialog.request(0, "INVITE", 1, body=sdp(A))
    dialog.response(0.1, "183 Session Progress", "1 INVITE", to_tag="b", body=sdp(B))
    dialog.response(0.2, "183 Session Progress", "1 INVITE", to_tag="c", body=sdp(C))
    dialog.speak("callee", 0.3, 1.5, B, A)
    dialog.response(2.0, "200 OK", "1 INVITE", to_tag="c", body=sdp(C))
    dialog.request(2.1, "ACK", 1, to_tag="c", branch="z9hG4bKack-c")
    if both_answer:
        dialog.response(2.2, "200 OK", "1 INVITE", to_tag="b", body=sdp(B))
        dialog.request(2.3, "ACK", 1, to_tag="b", branch="z9hG4bKack-b")
        dialog.request(2.4, "BYE", 2, to_tag="b")
        dialog.response(2.5, "200 OK", "2 BYE", to_tag="b")
    dialog.speak("callee", 2.1, 4, C, A)
    dialog.speak("caller", 2.2, 4, A, C)
    dialog.request(7, "BYE", 3, to_tag="c")
    dialog.response(7.1, "200 OK", "3 BYE", to_tag="c")
    complete(record(tmp_path, simulator), dialog)


@pytest.mark.parametrize("status", ["401 Unauthorized", "407 Proxy Authentication Required"])
def test_a_challenge_and_the_second_invite(tmp_path, status):
    simulator = PbxSimulator(seed=82)
    dialog = RawDialog(simulator)
    dialog.request(0, "INVITE", 1, body=sdp(A))
    dialog.response(0.1, status, "1 INVITE", to_tag="x", headers='WWW-Authenticate: Digest realm="x"\r\n')
    dialog.request(0.2, "ACK", 1, to_tag="x")
    dialog.request(0.3, "INVITE", 2, body=sdp(A), headers='Authorization: Digest username="1001"\r\n')
    _talk(dialog, 2)
    complete(record(tmp_path, simulator), dialog)


def _talk(dialog: RawDialog, cseq: int, callee: Address = B) -> None:
    """The INVITE of that number is answered; they talk, and hang up."""
    dialog.response(1, "200 OK", f"{cseq} INVITE", to_tag="b", body=sdp(callee))
    dialog.request(1.1, "ACK", cseq, to_tag="b", branch="z9hG4bKack")
    dialog.speak("caller", 1.2, 3, A, callee)
    dialog.speak("callee", 1.1, 3, callee, A)
    dialog.request(5, "BYE", cseq + 1, to_tag="b")
    dialog.response(5.1, "200 OK", f"{cseq + 1} BYE", to_tag="b")


def test_a_redirection_that_is_followed(tmp_path):
    simulator = PbxSimulator(seed=83)
    dialog = RawDialog(simulator)
    dialog.request(0, "INVITE", 1, body=sdp(A))
    headers = "Contact: <sip:3003@10.5.0.3>\r\n"
    dialog.response(0.1, "302 Moved Temporarily", "1 INVITE", to_tag="x", headers=headers)
    dialog.request(0.2, "ACK", 1, to_tag="x")
    dialog.request(0.4, "INVITE", 2, body=sdp(A))
    _talk(dialog, 2, C)
    complete(record(tmp_path, simulator), dialog)


def test_a_redirection_that_is_not(tmp_path):
    simulator = PbxSimulator(seed=84)
    dialog = RawDialog(simulator)
    dialog.request(0, "INVITE", 1, body=sdp(A))
    dialog.response(0.1, "302 Moved Temporarily", "1 INVITE", to_tag="x")
    dialog.request(0.2, "ACK", 1, to_tag="x")
    simulator.add(CallScript(start_s=60, talk_s=1))  # time goes on
    recorded = record(tmp_path, simulator)
    call = dialog.call(recorded)
    assert (call["outcome"], call["reason"]) == ("unanswered", "redirected 302 Moved Temporarily")


@pytest.mark.parametrize("first", ["CANCEL", "200"])
def test_a_cancel_that_crosses_the_answer(tmp_path, first):
    """RFC 3261 section 9.1: too late, it has no effect; the caller hangs up, or talks on."""
    simulator = PbxSimulator(seed=85)
    dialog = RawDialog(simulator)
    dialog.request(0, "INVITE", 1, body=sdp(A))
    dialog.response(0.2, "180 Ringing", "1 INVITE", to_tag="b")
    at_cancel, at_answer = (0.99, 1.0) if first == "CANCEL" else (1.005, 1.0)
    dialog.request(at_cancel, "CANCEL", 1)
    dialog.response(at_answer + 0.02, "200 OK", "1 CANCEL", to_tag="b")
    _talk(dialog, 1)
    complete(record(tmp_path, simulator), dialog)


def test_a_call_id_that_is_used_again(tmp_path):
    """By the same phone with the same tag, a second after the first call: two calls, two recordings."""
    simulator = PbxSimulator(seed=86)
    first, second = RawDialog(simulator), RawDialog(simulator)
    first.request(0, "INVITE", 1, body=sdp(A))
    _talk(first, 1)
    second.request(6.2, "INVITE", 11, body=sdp(A))
    second.response(7, "200 OK", "11 INVITE", to_tag="b2", body=sdp(B))
    second.request(7.1, "ACK", 11, to_tag="b2", branch="z9hG4bKack2")
    second.speak("callee", 7.1, 3, B, A)
    second.speak("caller", 7.2, 3.5, A, B)
    second.request(11, "BYE", 12, to_tag="b2")
    second.response(11.1, "200 OK", "12 BYE", to_tag="b2")
    recorded = record(tmp_path, simulator)
    rows = sorted(recorded.rows, key=lambda row: row["started_at"])
    assert len(rows) == len(recorded.calls) == 2
    for dialog, row in zip((first, second), rows, strict=True):
        dialog.assert_exact(recorded, row)
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


@pytest.mark.parametrize(
    "happening",
    [
        Move(4, host="10.77.0.5"),
        Move(4, side="callee", host="10.77.0.6", method="UPDATE"),
        Move(4, codec="pcma"),
        Move(4, side="callee", host="10.77.0.6", codec="pcma"),
    ],
)
def test_a_reinvite_that_moves_address_port_and_codec(tmp_path, happening):
    simulator = PbxSimulator(seed=87)
    truth = simulator.add(CallScript(talk_s=8, happenings=(happening,)))
    recorded = record(tmp_path, simulator)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["packets"] == side.packets
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "")


@pytest.mark.parametrize("by", ["caller", "callee"])
@pytest.mark.parametrize("style", ["sendonly", "inactive", "recvonly", "zero"])
def test_every_form_of_hold(tmp_path, style, by):
    """With music where the form lets the holder send; nobody else's samples, nor any of the silence, are
    missing or moved.
    """
    simulator = PbxSimulator(seed=88)
    truth = simulator.add(CallScript(talk_s=9, happenings=(Hold(3, 3, by=by, style=style),)))
    recorded = record(tmp_path, simulator)
    for side in (truth.caller, truth.callee):
        assert_exact(recorded, truth, side)
        assert recorded.track(recorded.of(truth), side.side)["gaps"] == []
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("complete", "")


def after(capture, out, since_ns):
    """What a recorder sees that starts in the middle of it all."""
    times, packets = [], []
    for frames in open_capture(capture):
        for row, time_ns in enumerate(frames.time_ns.tolist()):
            if time_ns >= since_ns:
                times.append(time_ns)
                packets.append(frames.data[row, : frames.caplen[row]].tobytes())
    out.write_bytes(pcap(packets, times=times))
    return out


def test_a_call_that_was_running_is_joined_at_its_reinvite(tmp_path):
    """From the media that still waits on; the recording says that it is not all of the call."""
    simulator = PbxSimulator(seed=89)
    truth = simulator.add(CallScript(talk_s=10, happenings=(Refresh(5, method="INVITE"),)))
    capture = simulator.write(tmp_path / "whole.pcap")
    since_ns = truth.answered_ns + 3_000_000_000
    recorded = record_files(tmp_path, [after(capture, tmp_path / "late.pcap", since_ns)])
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("partial", "joined in mid-call")
    row = recorded.of(truth)
    for side in (truth.caller, truth.callee):
        sent = side.sent[side.sent["sent_ns"] >= since_ns]
        assert recorded.track(row, side.side)["packets"] == len(sent)
    assert (row["from"], row["to"]) == ("1001", "2002")


def test_a_call_of_which_only_the_end_is_seen(tmp_path):
    """A BYE alone tells of no media: nothing is made up."""
    simulator = PbxSimulator(seed=90)
    truth, other = simulator.add(CallScript(talk_s=6)), simulator.add(CallScript(start_s=5, talk_s=5))
    capture = simulator.write(tmp_path / "whole.pcap")
    since_ns = truth.answered_ns + 3_000_000_000
    recorded = record_files(tmp_path, [after(capture, tmp_path / "late.pcap", since_ns)])
    assert [call["call_id"] for call in recorded.calls] == [other.call_id]
    assert_exact(recorded, other, other.caller)
    assert recorded.engine.status()["counters"]["calls_stray"] >= 1


def test_a_capture_that_cuts_packets_short(tmp_path):
    """The signalling is whole, the media is not: told, never written as if it were sound."""
    simulator = PbxSimulator(seed=91)
    truth = simulator.add(CallScript(talk_s=5))
    capture = simulator.write(tmp_path / "whole.pcap")
    times, packets, lengths = [], [], []
    for frames in open_capture(capture):
        for row, time_ns in enumerate(frames.time_ns.tolist()):
            frame = frames.data[row, : frames.caplen[row]].tobytes()
            times.append(time_ns)
            packets.append(frame)
            lengths.append(100 if len(frame) < 220 else len(frame))
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(cut_short(packets, times, lengths))
    recorded = record_files(tmp_path, [cut])
    call = recorded.call(truth)
    assert (call["outcome"], call["reason"]) == ("missing", "no media seen")
    assert recorded.rows == []
    assert recorded.engine.status()["counters"]["frames_truncated"] > 400


def cut_short(packets, times, lengths):
    whole = pcap(packets, times=times)
    out, at = whole[:24], 24
    for packet, length in zip(packets, lengths, strict=True):
        head = whole[at : at + 16]
        kept = packet[:length]
        out += head[:8] + len(kept).to_bytes(4, "little") + head[12:16] + kept
        at += 16 + len(packet)
    return out
