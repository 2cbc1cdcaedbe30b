"""How long calls are waited for, and how many there may be."""

import pytest

from recorderd.calls.events import CallEnded
from recorderd.calls.negotiation import MAX_FORKS, Negotiation, audio_lines
from recorderd.calls.states import State
from recorderd.calls.table import CallTable
from recorderd.calls.timers import Limits
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sdp import parse_sdp
from tests.call_script import START, Dialog, sdp


def kinds(events):
    return [type(event).__name__ for event in events]


class TestTime:
    def test_an_invite_that_is_never_answered(self):
        dialog = Dialog()
        dialog.invite()
        assert dialog.tick(299) == []
        assert [event.cause for event in dialog.tick(2)] == ["timeout"]

    def test_ringing_is_not_silence(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        for _ in range(10):
            assert dialog.tick(180) == []
            dialog.response(180, invite)
        assert kinds(dialog.tick(301)) == ["CallEnded"]

    def test_a_talk_outlasts_a_day_only_with_messages(self):
        dialog = Dialog()
        dialog.establish()
        for _ in range(3):
            for _ in range(12):
                assert dialog.tick(3600) == []
            dialog.request("OPTIONS", "callee")
        for _ in range(23):
            assert dialog.tick(3600) == []
        assert [event.cause for event in dialog.tick(3600)] == ["timeout"]

    @pytest.mark.parametrize("years", [-5, 5])
    def test_a_clock_that_jumps_ends_no_talk(self, years):
        dialog = Dialog()
        dialog.establish()
        assert dialog.tick(years * 365 * 86400) == []
        assert dialog.call.state is State.TALKING
        dialog.hang_up()
        call = dialog.call
        assert call.ended_at >= call.answered_at >= call.first_seen

    def test_ended_calls_are_forgotten_and_their_keys_are_not_used_again(self):
        dialog = Dialog()
        dialog.establish()
        dialog.hang_up()
        key = dialog.call.key
        dialog.table.forget(key)
        assert dialog.table.get(key).call_id == dialog.call_id
        dialog.tick(65)
        with pytest.raises(KeyError):
            dialog.table.get(key)
        dialog.establish()
        assert dialog.call.key != key

    def test_a_call_that_ended_stays_until_it_is_forgotten(self):
        dialog = Dialog()
        dialog.establish()
        dialog.hang_up()
        key = dialog.call.key
        dialog.tick(3600)
        assert len(dialog.table) == 0
        assert dialog.table.get(key).end_cause == "bye"
        dialog.table.forget(key)
        with pytest.raises(KeyError):
            dialog.table.get(key)

    def test_of_too_many_ended_calls_those_forgotten_go_at_once(self):
        table = CallTable(Limits(ended_calls=3))
        keys = []
        for number in range(5):
            dialog = Dialog(table, call_id=f"{number}")
            dialog.establish()
            dialog.hang_up()
            keys.append(dialog.call.key)
        for key in keys:
            table.forget(key)
        assert table.get(keys[-1]).call_id == "4"
        with pytest.raises(KeyError):
            table.get(keys[0])

    def test_a_call_in_progress_can_be_forgotten(self):
        dialog = Dialog()
        dialog.establish()
        [call] = dialog.table.active()
        dialog.table.forget(call.key)
        dialog.table.forget(call.key)
        assert len(dialog.table) == 0
        assert dialog.hang_up() == []


class TestBounds:
    @staticmethod
    def flood(table, count, now=START, body="", tag="flood"):
        events = []
        for number in range(count):
            dialog = Dialog(table, call_id=f"{tag}-{number}", caller_tag=f"t{number}", now=now + number)
            events += dialog.invite(body)
        return events

    def test_a_flood_of_invites_ends_the_oldest_unanswered_and_accounts_for_each(self):
        table = CallTable(Limits(calls=200))
        good = Dialog(table)
        good.establish()
        ringing = Dialog(table, call_id="rings", caller_tag="r")
        ringing.invite()
        ringing.response(180)
        events = self.flood(table, 2000)
        assert len(table) == 200
        ended = [event for event in events if isinstance(event, CallEnded)]
        assert len(ended) == table.counters["full"] == 2002 - 200
        assert {event.cause for event in ended} == {"call table full"}
        assert good.call.state is State.TALKING
        assert ringing.call.state is State.EARLY
        ringing.response(200, body=sdp("10.0.0.2", 5002))
        assert kinds(good.hang_up()) == ["CallEnded"]

    def test_when_all_are_talking_the_new_call_is_the_one_that_ends(self):
        table = CallTable(Limits(calls=5))
        talks = []
        for number in range(5):
            talks.append(Dialog(table, call_id=f"talk-{number}", caller_tag=f"t{number}"))
            talks[-1].establish()
        late = Dialog(table, call_id="late")
        assert kinds(late.invite()) == ["CallStarted", "CallEnded"]
        assert late.call.end_cause == "call table full"
        assert all(talk.call.state is State.TALKING for talk in talks)
        talks[0].hang_up()
        late.call_id = "later"
        late.establish()
        assert late.call.state is State.TALKING

    def test_memory_is_bounded_not_only_the_number_of_calls(self):
        table = CallTable(Limits(megabytes=2))
        many = " ".join(str(n) for n in range(96, 128))
        maps = "".join(f"a=rtpmap:{n} x{n}/8000\r\na=fmtp:{n} {'y' * 900}\r\n" for n in range(96, 128))
        self.flood(table, 200, body=sdp("10.0.0.1", 4000, formats=many, extra=maps))
        assert 20 < len(table) < 80

    def test_one_call_is_bounded_too(self):
        dialog = Dialog()
        dialog.invite()
        invite = dialog.last
        for number in range(500):
            dialog.response(183, invite, body=sdp("10.0.0.2", 6000 + 2 * number), fork=f"fork{number}")
            path = (Endpoint("10.0.1.1", 1024 + number), Endpoint("10.0.1.2", 5060))
            dialog.invite(sdp("10.0.0.1", 7000 + 2 * number), path=path)
        assert len(dialog.call.expectations) <= 64
        assert len(dialog.call.defects) <= 16
        dialog.response(200, invite, body=sdp("10.0.0.2", 5000), fork="at last")
        assert dialog.call.state is State.TALKING


def test_descriptions_are_weighed_as_long_as_they_are_kept():
    lines = audio_lines(parse_sdp(sdp("192.0.2.1", 4000).encode()))
    more = audio_lines(parse_sdp(sdp("192.0.2.1", 4000, extra="a=fmtp:101 0-15,66\r\n").encode()))
    negotiation = Negotiation()
    negotiation.request("caller", "", 1, lines, in_dialog=False)
    one = negotiation.weight
    for _ in range(2):
        negotiation.response("caller", "tag-0", 1, 183, lines)
        assert negotiation.weight == 2 * one
    negotiation.response("caller", "tag-0", 1, 183, more)
    assert negotiation.weight == 2 * one + len("0-15,66")
    for number in range(1, 3 * MAX_FORKS):
        negotiation.response("caller", f"tag-{number}", 1, 183, lines)
    assert one * MAX_FORKS <= negotiation.weight <= one * (MAX_FORKS + 1)
    negotiation.request("caller", "tag-40", 2, more, in_dialog=True)
    offered = negotiation.weight
    negotiation.response("caller", "tag-40", 2, 488, None)
    assert offered - negotiation.weight == one + len("0-15,66")
