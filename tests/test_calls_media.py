"""Where each side receives media."""

import random

import pytest

from recorderd.calls.events import MediaExpected, MediaWithdrawn, other
from recorderd.calls.states import State
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import parse_sip
from tests.call_script import ALICE, BOB, Dialog, sdp

A, B = Endpoint("10.0.0.1", 4000), Endpoint("10.0.0.2", 5000)


def places(dialog):
    """Where each side is ready now."""
    return {(side, endpoint.host, endpoint.port) for side, endpoint in dialog.call.expectations}


class TestOfferAndAnswer:
    def test_each_side_receives_where_its_own_description_says(self):
        dialog = Dialog()
        dialog.establish()
        caller, callee = dialog.told(MediaExpected)
        assert (caller.side, caller.endpoint) == ("caller", A)
        assert (callee.side, callee.endpoint) == ("callee", B)
        assert [caller.formats[number].encoding for number in (0, 8, 101)] == [
            "pcmu",
            "pcma",
            "telephone-event",
        ]
        assert (caller.direction, caller.encrypted, caller.line, caller.legs) == ("sendrecv", False, 0, (0,))

    def test_each_side_numbers_what_is_sent_to_it(self):
        dialog = Dialog()
        dialog.invite(sdp("10.0.0.1", 4000, formats="96", extra="a=rtpmap:96 opus/48000/2\r\n"))
        dialog.response(200, body=sdp("10.0.0.2", 5000, formats="111", extra="a=rtpmap:111 opus/48000/2\r\n"))
        caller, callee = dialog.told(MediaExpected)
        assert list(caller.formats) == [96]
        assert list(callee.formats) == [111]

    @pytest.mark.parametrize("reliable", [True, False])
    def test_early_media(self, reliable):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        [early] = dialog.response(183, invite, body=sdp("10.0.0.2", 5000))
        assert (early.side, early.endpoint) == ("callee", B)
        if reliable:
            dialog.request("PRACK")
            dialog.response(200)
        assert dialog.call.answered_at is None
        # The same description in the 200 says nothing new, and without one nothing is lost.
        answer = "" if reliable else sdp("10.0.0.2", 5000)
        assert [type(event).__name__ for event in dialog.response(200, invite, body=answer)] == [
            "CallAnswered"
        ]
        assert dialog.call.described
        assert places(dialog) == {("caller", *A), ("callee", *B)}

    def test_an_announcement_before_the_answer_comes_from_elsewhere(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(183, invite, body=sdp("10.0.0.30", 7000))
        dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
        assert places(dialog) == {("caller", *A), ("callee", *B)}
        assert [event.endpoint.port for event in dialog.told(MediaWithdrawn)] == [7000]

    def test_delayed_offer_in_the_200_and_answer_in_the_ack(self):
        dialog = Dialog()
        assert len(dialog.invite("")) == 1
        invite = dialog.last
        [_, offer] = dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
        assert (offer.side, offer.endpoint) == ("callee", B)
        [answer] = dialog.ack(invite, body=sdp("10.0.0.1", 4000))
        assert (answer.side, answer.endpoint) == ("caller", A)
        assert dialog.call.described

    def test_delayed_offer_in_a_reliable_183_and_answer_in_the_prack(self):
        dialog = Dialog()
        dialog.invite("")
        invite = dialog.last
        dialog.response(183, invite, body=sdp("10.0.0.2", 5000))
        [answer] = dialog.request("PRACK", body=sdp("10.0.0.1", 4000))
        assert (answer.side, answer.endpoint) == ("caller", A)
        dialog.response(200)
        dialog.response(200, invite)
        assert places(dialog) == {("caller", *A), ("callee", *B)}

    def test_update_before_the_answer(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(183, invite, body=sdp("10.0.0.2", 5000))
        dialog.request("UPDATE", body=sdp("10.0.0.1", 4002))
        dialog.response(200, body=sdp("10.0.0.2", 5002))
        dialog.response(
            200, invite, body=sdp("10.0.0.2", 5000)
        )  # repeats what the 183 said, which is out of date
        assert places(dialog) == {("caller", "10.0.0.1", 4002), ("callee", "10.0.0.2", 5002)}

    def test_a_description_in_a_multipart_body(self):
        dialog = Dialog()
        body = f"--b\r\nContent-Type: application/sdp\r\n\r\n{sdp('10.0.0.1', 4000)}\r\n--b--\r\n"
        dialog.deliver(
            "INVITE sip:b@x SIP/2.0\r\nv: SIP/2.0/UDP x;branch=z9hG4bK1\r\ni: 1\r\nCSeq: 1 INVITE\r\n"
            f"f: <sip:a@x>;tag=1\r\nt: <sip:b@x>\r\nc: multipart/mixed;boundary=b\r\n\r\n{body}",
            (ALICE, BOB),
        )
        assert places(dialog) == {("caller", *A)}

    def test_a_refused_stream_is_expected_nowhere(self):
        dialog = Dialog()
        dialog.invite()
        dialog.response(200, body=sdp("10.0.0.2", 0))
        assert places(dialog) == set()
        assert (dialog.call.audio, dialog.call.expected_speakers()) == (False, ())

    def test_only_audio_is_expected_and_its_line_is_told(self):
        dialog = Dialog()
        video = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=video 4100 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 0\r\n"
        [_, expected, other] = dialog.invite(video)
        assert (expected.line, expected.endpoint) == (1, A)
        assert (other.kind, other.state) == ("video", "offered")

    def test_a_description_that_cannot_be_read_is_a_defect_not_an_end(self):
        dialog = Dialog()
        assert len(dialog.invite("nonsense")) == 1
        dialog.response(200, body=sdp("10.0.0.2", 5000))
        assert "a session description cannot be read" in dialog.call.defects
        assert places(dialog) == {("callee", *B)}
        assert dialog.call.state is State.TALKING

    def test_ipv6_in_any_spelling(self):
        dialog = Dialog()
        dialog.invite(sdp("2001:DB8:0::0001", 4000))
        assert places(dialog) == {("caller", "2001:db8::1", 4000)}


class TestEncryption:
    def test_srtp(self):
        dialog = Dialog()
        dialog.invite(sdp("10.0.0.1", 4000, protocol="RTP/SAVP"))
        dialog.response(200, body=sdp("10.0.0.2", 5000, protocol="RTP/SAVP"))
        assert all(expected.encrypted for expected in dialog.call.expectations.values())
        assert dialog.call.encrypted

    def test_best_effort_srtp_is_decided_by_the_answer(self):
        crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"
        dialog = Dialog()
        [_, offered] = dialog.invite(sdp("10.0.0.1", 4000, extra=crypto))
        assert offered.encrypted
        dialog.response(200, body=sdp("10.0.0.2", 5000))
        assert not any(expected.encrypted for expected in dialog.call.expectations.values())
        assert not dialog.call.encrypted
        assert [event.encrypted for event in dialog.told(MediaExpected) if event.side == "caller"] == [
            True,
            False,
        ]


class TestChanges:
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize("by", ["caller", "callee"])
    def test_a_side_that_moves_stays_who_it_is(self, method, by):
        dialog = Dialog()
        dialog.establish()
        mine, theirs = (A, B) if by == "caller" else (B, A)
        [offered] = dialog.request(method, by, body=sdp(mine.host, 6000))
        assert (offered.side, offered.endpoint) == (by, Endpoint(mine.host, 6000))
        assert (by, *mine) in places(dialog), "until it is accepted, the old address holds too"
        [withdrawn] = dialog.response(200, body=sdp(*theirs))
        assert withdrawn == MediaWithdrawn("call-1", by, mine, dialog.now)
        assert places(dialog) == {(by, mine.host, 6000), (other(by), *theirs)}

    @pytest.mark.parametrize("status", [488, 491, 500])
    def test_a_refused_change_changes_nothing(self, status):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", "callee", body=sdp("10.0.0.2", 6000, "sendonly"))
        change = dialog.last
        [withdrawn] = dialog.response(status)
        assert withdrawn.endpoint.port == 6000
        dialog.ack(change, refused=True)
        assert places(dialog) == {("caller", *A), ("callee", *B)}
        assert dialog.call.holding == frozenset()
        # Nor does the repetition of what was refused.
        assert dialog.table.message(change, BOB, ALICE, dialog.now) == []

    def test_a_reinvite_without_an_offer(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", "callee")
        again = dialog.last
        dialog.response(200, body=sdp("10.0.0.1", 4008))
        dialog.ack(again, body=sdp("10.0.0.2", 5008))
        assert places(dialog) == {("caller", "10.0.0.1", 4008), ("callee", "10.0.0.2", 5008)}

    def test_old_repetitions_do_not_bring_the_old_address_back(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        dialog.response(200, invite, body=sdp("10.0.0.2", 5000))
        dialog.ack(invite)
        dialog.request("INVITE", body=sdp("10.0.0.1", 4444))
        dialog.response(200, body=sdp("10.0.0.2", 5555))
        before = places(dialog)
        assert dialog.response(200, invite, body=sdp("10.0.0.2", 5000)) == []
        assert dialog.ack(invite) == []
        assert places(dialog) == before == {("caller", "10.0.0.1", 4444), ("callee", "10.0.0.2", 5555)}

    def test_an_answer_before_its_offer_on_a_mirror(self):
        dialog = Dialog()
        dialog.establish()
        scratch = Dialog()
        scratch.establish()
        scratch.request("INVITE", "callee", body=sdp("10.0.0.2", 6000))
        offer = scratch.last
        dialog.response(200, offer, body=sdp("10.0.0.1", 4000))
        dialog.events += dialog.table.message(offer, BOB, ALICE, dialog.now)
        assert places(dialog) == {("caller", *A), ("callee", "10.0.0.2", 6000)}

    def test_ends_that_swap_their_addresses(self):
        dialog = Dialog()
        dialog.establish()
        dialog.request("INVITE", "callee", body=sdp(*A))
        dialog.response(200, body=sdp(*B))
        assert places(dialog) == {("callee", *A), ("caller", *B)}

    def test_two_hundred_random_lives_of_a_call_never_swap_its_sides(self):
        for seed in range(200):
            rng = random.Random(seed)
            dialog = Dialog(call_id=f"{seed}", caller_tag=f"a{seed}", callee_tag=f"b{seed}")
            host = {"caller": "10.0.0.1", "callee": "10.0.0.2"}
            dialog.establish()
            for _ in range(rng.randint(0, 6)):
                by = rng.choice(["caller", "callee"])
                method = rng.choice(["INVITE", "UPDATE", "INFO"])
                port, direction = rng.randrange(2000, 60000), rng.choice(["sendrecv", "sendonly", "inactive"])
                dialog.request(method, by, body=sdp(host[by], port, direction) if method != "INFO" else "")
                status = rng.choice([200, 200, 488])
                dialog.response(
                    status, body=sdp(host[other(by)], 3000) if method != "INFO" and status == 200 else ""
                )
            for event in dialog.told(MediaExpected):
                assert event.endpoint.host == host[event.side]
            dialog.hang_up(rng.choice(["caller", "callee"]))
            assert (dialog.call.from_user, dialog.call.to_user) == ("alice", "bob")


def test_messages_are_what_the_parser_makes_of_them():
    """The engine takes any message the parser accepts; see test_calls_fuzz for the rest."""
    dialog = Dialog()
    message = parse_sip(b"INVITE a SIP/2.0\nCall-ID: 1\n\n")
    assert len(dialog.table.message(message, ALICE, BOB, 0)) == 1
