"""When a call begins, is answered and ends, whatever comes in whatever order."""

import pytest

from recorderd.calls.events import CallAnswered, CallEnded, CallStarted, MediaExpected
from recorderd.calls.states import State
from recorderd.calls.table import CallTable
from recorderd.wire.endpoint import Endpoint
from tests.call_script import ALICE, BOB, MS, START, Dialog, sdp


def kinds(events):
    return [type(event).__name__ for event in events]


def test_a_call_from_invite_to_bye():
    dialog = Dialog()
    assert kinds(dialog.invite()) == ["CallStarted", "MediaExpected"]
    invite = dialog.last
    assert dialog.response(100, invite) == []
    assert dialog.response(180, invite) == []
    assert dialog.call.state is State.EARLY
    assert kinds(dialog.response(200, invite, body=sdp("10.0.0.2", 5000))) == [
        "CallAnswered",
        "MediaExpected",
    ]
    assert dialog.ack(invite) == []
    assert dialog.request("BYE") == []
    bye_at = dialog.now
    [ended] = dialog.response(200)
    assert ended == CallEnded("call-1", dialog.now, "bye")
    call = dialog.call
    assert (call.call_id, call.from_user, call.to_user) == ("call@10.0.0.1", "alice", "bob")
    assert (call.from_uri, call.from_display) == ("sip:alice@10.0.0.1", "Alice")
    assert [call.first_seen, call.ringing_at, call.answered_at] == [START + n * 10 * MS for n in (1, 3, 4)]
    assert call.ended_at == bye_at
    assert (call.state, call.end_cause) == (State.ENDED, "bye")
    assert call.expected_speakers() == ("caller", "callee")
    assert len(dialog.table) == 0


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_either_end_may_hang_up(by):
    dialog = Dialog()
    dialog.establish()
    assert kinds(dialog.hang_up(by)) == ["CallEnded"]
    assert (dialog.call.from_user, dialog.call.to_user) == ("alice", "bob")


def test_every_message_twice_changes_nothing():
    once, twice = Dialog(), Dialog()

    class Echo(CallTable):
        """A mirror port: each message arrives again."""

        def message(self, message, source, destination, now):
            events = super().message(message, source, destination, now)
            assert super().message(message, source, destination, now) == []
            return events

    twice.table = Echo()
    for dialog in (once, twice):
        dialog.invite()
        dialog.response(407)
        dialog.ack(refused=True)
        dialog.establish()
        dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5004))
        dialog.response(200, body=sdp("10.0.0.1", 4000))
        dialog.ack()
        dialog.request("UPDATE", body=sdp("10.0.0.1", 4000, "sendonly"))
        dialog.response(200, body=sdp("10.0.0.2", 5004, "recvonly"))
        dialog.hang_up("callee")
    assert once.events == twice.events


def test_the_retry_after_a_digest_challenge_is_the_same_call():
    dialog = Dialog()
    dialog.invite()
    first = dialog.call
    dialog.response(401)
    dialog.ack(refused=True)
    assert first.state is State.CHALLENGED
    dialog.establish()
    dialog.hang_up()
    assert kinds(dialog.told(CallStarted)) == ["CallStarted"]
    assert dialog.call is first
    assert first.end_cause == "bye"
    assert len(dialog.told(MediaExpected)) == 2


def test_the_retry_may_have_another_tag():
    dialog = Dialog()
    dialog.invite()
    dialog.response(407)
    dialog.caller_tag = "another"
    dialog.establish()
    assert kinds(dialog.hang_up("callee")) == ["CallEnded"]
    assert len(dialog.told(CallStarted)) == 1


def test_a_challenge_without_a_retry_ends_the_call_with_its_reason():
    dialog = Dialog()
    dialog.invite()
    dialog.response(401)
    refused_at = dialog.now
    assert dialog.tick(9) == []
    assert kinds(dialog.tick(2)) == ["CallEnded"]
    assert dialog.call.end_cause == "rejected 401 Unauthorized"
    assert dialog.call.ended_at == refused_at


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (486, "rejected 486 Busy Here"),
        (480, "rejected 480 Temporarily Unavailable"),
        (603, "rejected 603 Decline"),
        (599, "rejected 599"),
        (487, "cancelled"),
    ],
)
def test_a_refusal_ends_the_call(status, cause):
    dialog = Dialog()
    dialog.invite()
    dialog.response(180)
    assert dialog.response(status) == [CallEnded("call-1", dialog.now, cause)]
    assert dialog.ack(refused=True) == []
    assert dialog.call.answered_at is None


def test_a_redirection_may_be_followed_or_not():
    followed, not_followed = Dialog(), Dialog()
    for dialog in (followed, not_followed):
        dialog.invite()
        dialog.response(302)
        dialog.ack(refused=True)
    followed.establish()
    followed.hang_up()
    assert [event.cause for event in followed.told(CallEnded)] == ["bye"]
    not_followed.tick(11)
    assert [event.cause for event in not_followed.told(CallEnded)] == ["redirected 302 Moved Temporarily"]


def test_too_short_a_session_interval_is_not_the_end():
    dialog = Dialog()
    dialog.invite()
    dialog.response(422)
    dialog.establish()
    assert len(dialog.told(CallStarted)) == 1


def test_cancel():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    dialog.response(180, invite)
    assert dialog.cancel(invite) == []
    assert dialog.response(200) == [], "the 200 is the CANCEL's"
    assert dialog.call.state is State.CANCELLING
    assert dialog.response(487, invite) == [CallEnded("call-1", dialog.now, "cancelled")]
    assert dialog.call.answered_at is None


def test_a_cancel_that_crosses_the_answer_cancels_nothing():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    dialog.cancel(invite)
    cancel = dialog.last
    assert CallAnswered in map(type, dialog.response(200, invite, body=sdp("10.0.0.2", 5000)))
    assert dialog.response(481, cancel) == []
    dialog.ack(invite)
    assert dialog.call.state is State.TALKING
    dialog.hang_up()
    assert dialog.call.end_cause == "bye"


def test_a_cancel_without_a_final_response_is_believed_after_a_while():
    dialog = Dialog()
    dialog.invite()
    dialog.cancel()
    cancelled_at = dialog.now
    assert dialog.tick(31) == []
    assert kinds(dialog.tick(2)) == ["CallEnded"]
    assert (dialog.call.end_cause, dialog.call.ended_at) == ("cancelled", cancelled_at)


def test_a_cancelled_invite_that_is_challenged_was_cancelled():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    dialog.cancel(invite)
    [ended] = dialog.response(407, invite)
    assert ended.cause == "cancelled"


def test_a_2xx_is_told_by_its_cseq():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    dialog.response(183, invite, body=sdp("10.0.0.2", 5000))
    dialog.request("PRACK")
    assert CallAnswered not in map(type, dialog.response(200))
    dialog.request("UPDATE", body=sdp("10.0.0.1", 4000))
    assert CallAnswered not in map(type, dialog.response(200, body=sdp("10.0.0.2", 5000)))
    assert dialog.call.state is State.EARLY
    assert CallAnswered in map(type, dialog.response(200, invite))


def test_a_bye_in_an_early_dialog_gives_up():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    dialog.response(180, invite)
    assert dialog.request("BYE") == []
    assert dialog.response(200) == []
    assert dialog.call.state is State.CANCELLING
    dialog.tick(33)
    assert dialog.call.end_cause == "bye before answer"


def test_a_bye_that_is_challenged_ends_nothing():
    dialog = Dialog()
    dialog.establish()
    dialog.request("BYE")
    dialog.response(407)
    assert dialog.call.state is State.TALKING
    dialog.request("BYE")
    again = dialog.now
    assert kinds(dialog.response(200)) == ["CallEnded"]
    assert dialog.call.ended_at == again


def test_a_bye_without_an_answer_is_believed_after_a_while():
    dialog = Dialog()
    dialog.establish()
    dialog.request("BYE", "callee")
    hung_up = dialog.now
    assert dialog.tick(4) == []
    assert kinds(dialog.tick(2)) == ["CallEnded"]
    assert (dialog.call.ended_at, dialog.call.end_cause) == (hung_up, "bye")


def test_byes_that_cross():
    dialog = Dialog()
    dialog.establish()
    dialog.request("BYE")
    mine = dialog.last
    dialog.request("BYE", "callee")
    assert kinds(dialog.response(481)) == ["CallEnded"]
    assert dialog.response(200, mine) == []


def test_a_bye_of_another_dialog_is_not_ours():
    dialog = Dialog()
    dialog.establish()
    dialog.request("BYE", fork="a guess")
    dialog.response(200)
    assert dialog.call.state is State.TALKING


def test_a_bye_for_a_call_never_seen():
    dialog = Dialog()
    assert dialog.request("BYE") == []
    assert dialog.response(481) == []
    assert dialog.table.counters["stray"] == 2
    assert len(dialog.table) == 0


def test_messages_that_are_not_about_calls():
    dialog = Dialog()
    for method in ("REGISTER", "OPTIONS", "SUBSCRIBE", "MESSAGE"):
        assert dialog.request(method, in_dialog=False) == []
        assert dialog.response(200) == []
    assert dialog.table.counters["other"] == 8
    assert dialog.table.counters["calls"] == 0


def test_methods_within_the_dialog_that_change_nothing():
    dialog = Dialog()
    dialog.establish()
    for method in ("INFO", "OPTIONS", "MESSAGE", "NOTIFY"):
        assert dialog.request(method, "callee") == []
        assert dialog.response(200) == []
    assert dialog.call.state is State.TALKING


def test_a_method_that_lies_in_its_cseq_makes_no_call():
    # RFC 4475 section 3.1.2.17.
    dialog = Dialog()
    text = (
        "OPTIONS sip:b@x SIP/2.0\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\n"
        "Call-ID: mismatch\r\nCSeq: 8 INVITE\r\n\r\n"
    )
    assert dialog.deliver(text, (ALICE, BOB)) == []
    assert dialog.table.counters["calls"] == 0


def test_responses_that_precede_their_requests():
    dialog, ordered = Dialog(), Dialog()
    ordered.establish()
    ordered.hang_up()

    class Mirror(CallTable):
        """Swaps each request and the response that follows it."""

        waiting = None

        def message(self, message, source, destination, now):
            if message.method is not None and message.method != "ACK" and self.waiting is None:
                self.waiting = (message, source, destination)
                return []
            events = super().message(message, source, destination, now)
            if self.waiting is not None:
                waiting, self.waiting = self.waiting, None
                events += super().message(*waiting, now)
            return events

    dialog.table = Mirror()
    dialog.establish()
    dialog.hang_up()
    assert sorted(kinds(dialog.events)) == sorted(kinds(ordered.events))
    assert {(e.side, e.endpoint) for e in dialog.told(MediaExpected)} == {
        ("caller", Endpoint("10.0.0.1", 4000)),
        ("callee", Endpoint("10.0.0.2", 5000)),
    }
    call = dialog.table.get("call-1")
    assert (call.from_user, call.to_user, call.end_cause) == ("alice", "bob", "bye")
    assert call.answered_at is not None


@pytest.mark.parametrize("status", [200, 486, 407])
def test_a_final_response_that_precedes_its_invite(status):
    dialog = Dialog()
    scratch = Dialog()
    scratch.invite()
    invite = scratch.last
    assert invite is not None
    answer = sdp("10.0.0.2", 5000) if status == 200 else ""
    assert kinds(dialog.response(status, invite, body=answer))[0] == "CallStarted"
    state = dialog.call.state
    dialog.events += dialog.table.message(invite, ALICE, BOB, dialog.now + MS)
    assert len(dialog.told(CallStarted)) == 1
    assert dialog.call.state is state
    expected = {State.TALKING: 2, State.ENDED: 0, State.CHALLENGED: 0}[state]
    assert len(dialog.told(MediaExpected)) == expected


def test_the_ack_proves_an_answer_that_was_not_seen():
    dialog = Dialog()
    dialog.invite()
    invite = dialog.last
    assert CallAnswered in map(type, dialog.ack(invite))
    assert dialog.call.state is State.TALKING
    assert "the answer was not seen" in dialog.call.defects
    dialog.hang_up("callee")
    assert dialog.call.end_cause == "bye"


def test_the_ack_of_a_refusal_proves_nothing():
    dialog = Dialog()
    dialog.invite()
    dialog.ack(refused=True)
    assert dialog.call.answered_at is None
