"""Who holds, and who was to send."""

import pytest

from recorderd.calls.events import HoldChanged
from recorderd.wire.endpoint import Endpoint
from tests.call_script import Dialog, sdp

A, B = Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000)


def places(dialog):
    """Where each side is ready now."""
    return {(side, endpoint.host, endpoint.port) for side, endpoint in dialog.call.expectations}


def holds(events):
    return [(event.side, event.held) for event in events if isinstance(event, HoldChanged)]


def _old_hold(host, port):
    return sdp(host, port).replace(f"c=IN IP4 {host}", "c=IN IP4 0.0.0.0")


HOLDS = {
    "sendonly": (lambda host, port: sdp(host, port, "sendonly"), "recvonly"),
    "inactive": (lambda host, port: sdp(host, port, "inactive"), "inactive"),
    "0.0.0.0": (_old_hold, "sendrecv"),
    "0.0.0.0 and sendonly": (lambda h, p: _old_hold(h, p).replace("sendrecv", "sendonly"), "recvonly"),
}


class TestHold:
    @pytest.mark.parametrize("form", HOLDS)
    @pytest.mark.parametrize("by", ["caller", "callee"])
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_a_side_holds_and_takes_the_call_back(self, form, by, method):
        describe, answer = HOLDS[form]
        mine, theirs = (A, B) if by == "caller" else (B, A)
        dialog = Dialog()
        dialog.establish()
        assert dialog.request(method, by, body=describe(*mine)) == []
        assert holds(dialog.response(200, body=sdp(*theirs, answer))) == [(by, True)]
        assert dialog.call.holding == {by}
        held_at = dialog.now
        # Where the holder is stays known: 0.0.0.0 is not a place.
        assert places(dialog) == {("caller", *A), ("callee", *B)}
        assert dialog.call.expectations[by, mine].direction in ("sendonly", "inactive")
        dialog.request(method, by, body=sdp(*mine))
        assert holds(dialog.response(200, body=sdp(*theirs))) == [(by, False)]
        [hold] = dialog.call.holds
        assert (hold.side, hold.since, hold.until) == (by, held_at, dialog.now)

    def test_both_hold_and_each_takes_its_own_back(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", body=sdp(*A, "sendonly"))
        dialog.response(200, body=sdp(*B, "recvonly"))
        dialog.request("INVITE", "callee", body=sdp(*B, "inactive"))
        assert holds(dialog.response(200, body=sdp(*A, "inactive"))) == [("callee", True)]
        dialog.request("INVITE", body=sdp(*A))
        assert holds(dialog.response(200, body=sdp(*B, "sendonly"))) == [("caller", False)]
        dialog.request("INVITE", "callee", body=sdp(*B))
        assert holds(dialog.response(200, body=sdp(*A))) == [("callee", False)]
        assert [hold.side for hold in dialog.call.holds] == ["caller", "callee"]

    def test_the_answer_to_a_hold_is_no_hold(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", body=sdp(*A, "inactive"))
        assert holds(dialog.response(200, body=sdp(*B, "inactive"))) == [("caller", True)]

    def test_an_answer_can_be_a_hold(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", body=sdp(*A))
        assert holds(dialog.response(200, body=sdp(*B, "sendonly"))) == [("callee", True)]

    @pytest.mark.parametrize("refresh", ["sendrecv", "recvonly"])
    def test_a_refresh_by_the_held_side_keeps_the_hold(self, refresh):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", "callee", body=sdp(*B, "sendonly"))
        dialog.response(200, body=sdp(*A, "recvonly"))
        dialog.request("UPDATE", body=sdp(*A, refresh))
        assert holds(dialog.response(200, body=sdp(*B, "sendonly"))) == []
        assert dialog.call.holding == {"callee"}

    def test_a_refresh_of_an_inactive_call_makes_nobody_hold_more(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", "callee", body=sdp(*B, "inactive"))
        dialog.response(200, body=sdp(*A, "inactive"))
        dialog.request("UPDATE", body=sdp(*A, "inactive"))
        assert holds(dialog.response(200, body=sdp(*B, "inactive"))) == []
        assert dialog.call.holding == {"callee"}

    def test_a_refused_hold_is_none(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", body=sdp(*A, "sendonly"))
        assert holds(dialog.response(491)) == []
        assert dialog.call.holds == []

    def test_a_hold_ends_with_its_call(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", body=sdp(*A, "sendonly"))
        dialog.response(200, body=sdp(*B, "recvonly"))
        dialog.hang_up("callee")
        assert [hold.until for hold in dialog.call.holds] == [dialog.call.ended_at]

    def test_a_call_set_up_on_hold(self):
        # Third-party call control begins like this (RFC 3725).
        dialog = Dialog()
        dialog.invite(_old_hold(*A))
        assert places(dialog) == set()
        assert holds(dialog.response(200, body=sdp(*B))) == [("caller", True)]
        dialog.request("INVITE", body=sdp(*A))
        assert holds(dialog.response(200, body=sdp(*B))) == [("caller", False)]
        assert places(dialog) == {("caller", *A), ("callee", *B)}

    def test_hold_on_one_callee_of_a_fork_says_nothing_of_the_other(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(183, invite, body=sdp("10.0.0.21", 5100, "sendonly"), fork="queue")
        assert holds(dialog.response(200, invite, body=sdp(*B))) == []
        assert dialog.call.holding == frozenset()


class TestSenders:
    @pytest.mark.parametrize(
        ("offer", "answer", "senders"),
        [
            ("sendrecv", "sendrecv", ("caller", "callee")),
            ("sendonly", "recvonly", ("caller",)),
            ("recvonly", "sendonly", ("callee",)),
            ("sendrecv", "recvonly", ("caller",)),
            ("inactive", "inactive", ()),
        ],
    )
    def test_who_was_to_send(self, offer, answer, senders):
        dialog = Dialog()
        dialog.invite(sdp(*A, offer))
        dialog.response(200, body=sdp(*B, answer))
        dialog.hang_up()
        assert dialog.call.expected_speakers() == senders
        assert dialog.call.audio

    def test_once_is_enough(self):
        dialog = Dialog()
        dialog.invite(sdp(*A, "sendonly"))
        dialog.response(200, body=sdp(*B, "recvonly"))
        dialog.request("INVITE", body=sdp(*A))
        dialog.response(200, body=sdp(*B))
        dialog.request("INVITE", body=sdp(*A, "sendonly"))
        dialog.response(200, body=sdp(*B, "recvonly"))
        assert dialog.call.expected_speakers() == ("caller", "callee")

    def test_without_descriptions_both_are_expected(self):
        dialog = Dialog()
        dialog.invite("")
        dialog.response(200)
        dialog.hang_up()
        assert dialog.call.expected_speakers() == ("caller", "callee")

    def test_with_one_description_it_alone_tells(self):
        dialog = Dialog()
        dialog.invite(sdp(*A, "sendonly"))
        dialog.response(200)
        dialog.hang_up()
        assert dialog.call.expected_speakers() == ("caller",)
        assert not dialog.call.described
