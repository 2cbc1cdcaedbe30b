"""Which messages are one call: Call-ID, tags, forks, and what is shown of them."""

import pytest

from recorderd.calls.events import CallAnswered, CallEnded, CallStarted, MediaExpected
from recorderd.calls.states import State
from recorderd.calls.table import CallTable
from recorderd.wire.endpoint import Endpoint
from tests.call_script import ALICE, BOB, PROXY, SECOND, Dialog, sdp


def kinds(events):
    return [type(event).__name__ for event in events]


def test_a_call_already_in_progress_is_joined_at_its_next_invite():
    dialog = Dialog()
    assert kinds(dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5000)))[0] == "CallStarted"
    dialog.response(200, body=sdp("10.0.0.1", 4000))
    assert dialog.call.joined
    assert dialog.call.state is State.TALKING
    assert kinds(dialog.hang_up("caller")) == ["CallEnded"]


def test_the_call_id_may_be_used_again_after_the_end():
    dialog = Dialog()
    dialog.establish()
    dialog.hang_up()
    first = dialog.call
    dialog.caller_tag = "second"
    dialog.establish()
    assert dialog.call is not first
    dialog.hang_up()
    dialog.establish()  # with the tag, too
    dialog.hang_up()
    keys = [event.call for event in dialog.told(CallStarted)]
    assert len(set(keys)) == 3
    assert [event.call for event in dialog.told(CallEnded)] == keys


def test_late_repetitions_after_the_end_start_no_call():
    dialog = Dialog()
    dialog.establish()
    invite = dialog.last
    dialog.hang_up()
    bye = dialog.last
    for message in (invite, bye):
        assert dialog.table.message(message, ALICE, BOB, dialog.now + SECOND) == []
    assert dialog.response(200, bye) == []
    assert dialog.table.counters["calls"] == 1
    assert dialog.table.counters["late"] == 3


def test_two_calls_with_one_call_id_at_once():
    # Some equipment keeps the Call-ID from one leg to the next and changes the tags.
    table = CallTable()
    one = Dialog(table)
    two = Dialog(table, caller_tag="pbx-tag", callee_tag="carol-tag")
    for dialog in (one, two):
        dialog.establish()
    assert one.hang_up()[0].call == one.told(CallStarted)[0].call
    assert two.hang_up("callee")[0].call == two.told(CallStarted)[0].call
    assert table.counters["calls"] == 2


def test_old_ends_without_tags():
    # RFC 2543: the addresses tell who is who.
    dialog = Dialog(caller_tag="", callee_tag="")
    dialog.establish()
    dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5002))
    dialog.response(200, body=sdp("10.0.0.1", 4000))
    [expected] = [e for e in dialog.told(MediaExpected) if e.endpoint.port == 5002]
    assert expected.side == "callee"
    dialog.hang_up("callee")
    assert dialog.call.from_user == "alice"


def test_the_same_tag_on_both_ends():
    dialog = Dialog(caller_tag="same", callee_tag="same")
    dialog.establish()
    dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 5002))
    dialog.response(200, body=sdp("10.0.0.1", 4000))
    assert {(e.side, e.endpoint.port) for e in dialog.told(MediaExpected)} == {
        ("caller", 4000),
        ("callee", 5000),
        ("callee", 5002),
    }


def test_an_end_with_a_call_id_of_64_kb():
    one = Dialog(call_id="x" * 60_000 + "1")
    two = Dialog(one.table, call_id="x" * 60_000 + "2")
    for dialog in (one, two):
        dialog.establish()
    assert one.call is not two.call
    assert len(one.call.call_id) <= 255
    assert kinds(one.hang_up()) == ["CallEnded"]
    assert two.call.state is State.TALKING


@pytest.mark.parametrize(
    "call_id", ["../../etc/passwd", "%2e%2e%2fx", "bell\abyte", "<script>alert(1)</script>", "=cmd|'/C'"]
)
def test_a_call_id_is_any_text_and_the_key_is_ours(call_id):
    dialog = Dialog(call_id=call_id)
    dialog.establish()
    assert dialog.call.call_id == call_id
    assert dialog.call.key == "call-1"


def test_what_is_shown_of_a_call_is_printable():
    dialog = Dialog()
    dialog.deliver(
        "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        'From: "\x1b[31mA\u202el\x0bi\\\x00ce\u2028" <sip:%1b%5b2Jeve%0d%0a@x>;tag=1\r\n'
        "To: <sip:b@x>\r\n\r\n",
        (ALICE, BOB),
    )
    call = dialog.call
    assert all(
        text.isprintable() for text in (call.from_user, call.from_uri, call.from_display, call.to_user)
    )
    assert "eve" in call.from_user


def test_without_a_user_the_host_is_listed():
    dialog = Dialog()
    dialog.deliver(
        "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        "From: <sip:pbx.example.net>;tag=1\r\nTo: <tel:+4930123456>\r\n\r\n",
        (ALICE, BOB),
    )
    assert (dialog.call.from_user, dialog.call.to_user) == ("pbx.example.net", "+4930123456")


class TestForking:
    def test_the_answered_fork_wins(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(183, invite, body=sdp("10.0.0.21", 5100), fork="desk")
        dialog.response(183, invite, body=sdp("10.0.0.22", 5200), fork="mobile")
        call = dialog.call
        assert {place[1].host for place in call.expectations if place[0] == "callee"} == {
            "10.0.0.21",
            "10.0.0.22",
        }
        dialog.response(200, invite, body=sdp("10.0.0.22", 5200), fork="mobile")
        assert {place[1].host for place in call.expectations if place[0] == "callee"} == {"10.0.0.22"}
        dialog.callee_tag = "mobile"
        assert kinds(dialog.hang_up("callee")) == ["CallEnded"]

    def test_a_busy_branch_behind_a_proxy_is_not_the_end(self):
        dialog = Dialog()
        dialog.invite(path=(ALICE, PROXY))
        outer = dialog.last
        branches = []
        for host in ("10.0.0.21", "10.0.0.22"):
            path = (PROXY, Endpoint(host, 5060))
            dialog.request(
                "INVITE", cseq=outer.cseq, in_dialog=False, body=sdp("10.0.0.1", 4000), vias=2, path=path
            )
            branches.append((dialog.last, (path[1], path[0])))
        (desk, from_desk), (mobile, from_mobile) = branches
        assert dialog.response(486, desk, path=from_desk, fork="desk") == []
        dialog.response(180, mobile, path=from_mobile, fork="mobile")
        dialog.response(200, mobile, path=from_mobile, fork="mobile", body=sdp("10.0.0.22", 5200))
        dialog.response(200, outer, path=(PROXY, ALICE), fork="mobile", body=sdp("10.0.0.22", 5200))
        assert dialog.call.state is State.TALKING
        assert len(dialog.told(CallStarted)) == len(dialog.told(CallAnswered)) == 1

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_all_branches_busy_is_the_end_also_where_the_first_hop_is_not_seen(self, order):
        dialog = Dialog()
        legs = []
        for host in ("10.0.0.21", "10.0.0.22"):
            path = (PROXY, Endpoint(host, 5060))
            dialog.request("INVITE", cseq=1, in_dialog=False, body=sdp("10.0.0.1", 4000), vias=2, path=path)
            legs.append((dialog.last, (path[1], path[0])))
        (first, back_first), (second, back_second) = (legs[index] for index in order)
        assert dialog.response(486, first, path=back_first, fork="a") == []
        assert kinds(dialog.response(486, second, path=back_second, fork="b")) == ["CallEnded"]

    def test_the_callers_own_hop_decides_though_a_branch_is_open(self):
        dialog = Dialog()
        dialog.invite(path=(ALICE, PROXY))
        outer = dialog.last
        dialog.request("INVITE", cseq=outer.cseq, in_dialog=False, vias=2, path=(PROXY, BOB))
        assert kinds(dialog.response(480, outer, path=(PROXY, ALICE))) == ["CallEnded"]

    def test_two_callees_answer_and_one_is_dropped(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(200, invite, body=sdp("10.0.0.21", 5100), fork="first")
        dialog.response(200, invite, body=sdp("10.0.0.22", 5200), fork="second")
        dialog.request("BYE", fork="first")
        dialog.response(200, fork="first")
        assert dialog.call.state is State.TALKING
        assert {place[1].host for place in dialog.call.expectations} == {"10.0.0.1", "10.0.0.22"}
        dialog.response(200, invite, body=sdp("10.0.0.21", 5100), fork="first")
        dialog.callee_tag = "second"
        assert kinds(dialog.hang_up("callee")) == ["CallEnded"]

    def test_late_forks_do_not_push_the_one_that_talks_out(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
        for number in range(100):
            dialog.response(200, invite, body=sdp("10.0.0.66", 6000 + 2 * number), fork=f"fork{number}")
        assert ("callee", Endpoint("10.0.0.2", 5000)) in dialog.call.expectations
        assert len(dialog.call.expectations) == 2
