"""Every call has one outcome and its reason."""

import pytest

from recorderd.calls.outcomes import RESTARTED, MediaFacts, Outcome, outcome
from tests.call_script import Dialog, sdp

A, B = ("10.0.0.1", 4000), ("10.0.0.2", 5000)
BOTH = {"caller": 500, "callee": 500}


def talked(offer="sendrecv", answer="sendrecv", protocol="RTP/AVP"):
    """A call that was answered and ended with BYE."""
    dialog = Dialog()
    dialog.invite(sdp(*A, offer, protocol=protocol))
    dialog.response(200, body=sdp(*B, answer, protocol=protocol))
    dialog.hang_up()
    return dialog.call


def unanswered(status):
    dialog = Dialog()
    dialog.invite()
    dialog.response(status)
    return dialog.call


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (MediaFacts(BOTH), Outcome("complete")),
        (MediaFacts({"caller": 500}), Outcome("partial", "no media from callee")),
        (MediaFacts({"caller": 0, "callee": 500}), Outcome("partial", "no media from caller")),
        (MediaFacts(BOTH, recorder_drops=1), Outcome("partial", "recorder lost 1 packet")),
        (MediaFacts(BOTH, recorder_drops=17), Outcome("partial", "recorder lost 17 packets")),
        (MediaFacts(BOTH, interrupted=RESTARTED), Outcome("partial", "recorder restarted")),
        (MediaFacts(BOTH, failure="disk full"), Outcome("partial", "disk full")),
        (
            MediaFacts({"callee": 1}, recorder_drops=2, interrupted=RESTARTED),
            Outcome("partial", "recorder restarted; recorder lost 2 packets; no media from caller"),
        ),
        (MediaFacts(), Outcome("missing", "no media seen")),
        (MediaFacts({"caller": 0, "callee": 0}), Outcome("missing", "no media seen")),
        (MediaFacts(failure="disk full"), Outcome("missing", "disk full; no media seen")),
        (MediaFacts(encrypted=True), Outcome("missing", "encrypted, not recordable")),
        (
            MediaFacts({"caller": 5}, encrypted=True),
            Outcome("partial", "no media from callee; encrypted, not recordable"),
        ),
        (
            MediaFacts(BOTH, undecodable=("caller: evs cannot be decoded here",)),
            Outcome("complete", "caller: evs cannot be decoded here"),
        ),
        (
            MediaFacts({"caller": 5}, undecodable=("caller: evs cannot be decoded here",)),
            Outcome("partial", "no media from callee; caller: evs cannot be decoded here"),
        ),
        (
            MediaFacts(BOTH, excluded="policy: no internal calls"),
            Outcome("excluded", "policy: no internal calls"),
        ),
    ],
)
def test_an_answered_call(media, expected):
    assert outcome(talked(), media) == expected


@pytest.mark.parametrize("media", [MediaFacts(), MediaFacts({"callee": 50}), MediaFacts(recorder_drops=9)])
@pytest.mark.parametrize(
    ("status", "reason"), [(486, "rejected 486 Busy Here"), (487, "cancelled"), (603, "rejected 603 Decline")]
)
def test_a_call_that_was_not_answered(status, reason, media):
    assert outcome(unanswered(status), media) == Outcome("unanswered", reason)


def test_excluded_goes_before_unanswered():
    assert outcome(unanswered(486), MediaFacts(excluded="by number")).name == "excluded"


@pytest.mark.parametrize(
    ("offer", "answer", "tracks", "name"),
    [
        ("sendonly", "recvonly", {"caller": 9}, "complete"),
        ("recvonly", "sendonly", {"callee": 9}, "complete"),
        ("sendonly", "recvonly", {"callee": 9}, "partial"),
        ("sendrecv", "recvonly", {"caller": 9}, "complete"),
        ("sendrecv", "sendrecv", {"caller": 9}, "partial"),
        ("sendonly", "recvonly", {}, "missing"),
    ],
)
def test_nobody_misses_the_side_that_was_never_to_send(offer, answer, tracks, name):
    assert outcome(talked(offer, answer), MediaFacts(tracks)).name == name


def test_a_call_without_audio_is_missing_with_its_own_reason():
    assert outcome(talked("inactive", "inactive"), MediaFacts()) == Outcome(
        "missing", "neither side was to send"
    )
    dialog = Dialog()
    dialog.invite()
    dialog.response(200, body=sdp("10.0.0.2", 0))
    dialog.hang_up()
    assert outcome(dialog.call, MediaFacts()) == Outcome("missing", "no audio stream was agreed on")


def test_srtp_in_the_signalling_is_reason_enough():
    call = talked(protocol="RTP/SAVP")
    why = "encrypted, not recordable: no key in the signalling"
    assert outcome(call, MediaFacts()) == Outcome("missing", why)
    assert outcome(call, MediaFacts(BOTH)) == Outcome("complete")


def test_a_call_that_goes_on_when_the_recorder_stops():
    dialog = Dialog()
    dialog.establish()
    assert outcome(dialog.call, MediaFacts(BOTH, interrupted="recorder stopped")) == Outcome(
        "partial", "recorder stopped"
    )
    ringing = Dialog()
    ringing.invite()
    assert outcome(ringing.call, MediaFacts(interrupted="recorder stopped")) == Outcome(
        "unanswered", "recorder stopped"
    )
    assert outcome(ringing.call, MediaFacts()) == Outcome("unanswered", "not answered so far")


def test_a_call_joined_in_the_middle_is_partial():
    dialog = Dialog()
    dialog.request("INVITE", "callee", body=sdp(*B))
    dialog.response(200, body=sdp(*A))
    dialog.hang_up()
    assert outcome(dialog.call, MediaFacts(BOTH)) == Outcome("partial", "joined in mid-call")


def test_a_call_whose_end_was_not_seen_says_so():
    dialog = Dialog()
    dialog.establish()
    for _ in range(25):
        dialog.tick(3600)
    assert outcome(dialog.call, MediaFacts(BOTH)) == Outcome("complete", "its end was not seen")
