"""Whatever messages come, in whatever order: every call that starts ends once, and nothing is raised."""

import contextlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.calls.events import (
    CallAnswered,
    CallEnded,
    CallStarted,
    HoldChanged,
    MediaExpected,
    MediaWithdrawn,
)
from recorderd.calls.outcomes import MediaFacts, outcome
from recorderd.calls.states import State
from recorderd.calls.table import CallTable
from recorderd.calls.timers import Limits
from recorderd.wire.sip import SipError, parse_sip
from tests.call_script import ALICE, BOB, MS, PROXY, SECOND, START, Dialog, sdp
from tests.fuzzing import inputs
from tests.sip_torture import VECTORS


class Checked(CallTable):
    """A call table that checks its own events against what must hold for them."""

    def __init__(self, limits=None):
        super().__init__(limits)
        self.expected = {}
        self.holding = {}
        self.answered = set()
        self.ended = {}

    def message(self, message, source, destination, now):
        return self.check(super().message(message, source, destination, now))

    def tick(self, now):
        return self.check(super().tick(now))

    def check(self, events):
        for event in events:
            if isinstance(event, CallStarted):
                assert event.call not in self.expected
                self.expected[event.call], self.holding[event.call] = set(), set()
                continue
            assert event.call in self.expected, "started first"
            assert event.call not in self.ended, "nothing comes after the end"
            match event:
                case MediaExpected():
                    self.expected[event.call].add((event.side, event.endpoint))
                case MediaWithdrawn():
                    self.expected[event.call].remove((event.side, event.endpoint))
                case CallAnswered():
                    assert event.call not in self.answered
                    self.answered.add(event.call)
                case HoldChanged():
                    assert event.call in self.answered
                    assert event.held == (event.side not in self.holding[event.call])
                    self.holding[event.call] ^= {event.side}
                case CallEnded():
                    self.ended[event.call] = event.cause
        for key in {event.call for event in events} - self.ended.keys():
            call = self.get(key)
            assert set(call.expectations) == self.expected[key]
            assert call.holding == self.holding[key]
        return events

    def finish(self, now):
        """Let all that is left run out, and look at each call."""
        for hour in range(1, 40):
            self.tick(now + hour * 3600 * SECOND)
        assert len(self) == 0
        assert self.ended.keys() == self.expected.keys()
        for key, cause in self.ended.items():
            call = self.get(key)
            assert call.state is State.ENDED
            assert (call.end_cause, call.answered_at is not None) == (cause, key in self.answered)
            assert cause
            assert call.ended_at >= (call.answered_at or call.first_seen) >= call.first_seen
            assert all(hold.until is not None and hold.until >= hold.since for hold in call.holds)
            assert outcome(call, MediaFacts()).name in ("missing", "unanswered")
            self.forget(key)
        with pytest.raises(StopIteration):
            next(self.active())


def life(rng):
    """The messages of one call with much in it, in order."""
    dialog = Dialog(
        call_id=rng.choice(["one", "two"]), caller_tag=rng.choice(["a1", "a2", ""]), callee_tag="b"
    )
    sent = []

    class Tape:
        def message(self, message, source, destination, now):
            sent.append((message, source, destination))
            return []

    dialog.table = Tape()
    if rng.random() < 0.5:
        dialog.invite()
        dialog.response(rng.choice([401, 407, 302, 486]))
        dialog.ack(refused=True)
    delayed = rng.random() < 0.3
    dialog.invite("" if delayed else None)
    invite = dialog.last
    dialog.response(rng.choice([180, 183]), invite, body=rng.choice(["", sdp("10.0.0.2", 5000)]))
    if rng.random() < 0.3:
        dialog.cancel(invite)
        dialog.response(200)
    dialog.response(rng.choice([200, 200, 200, 487, 603]), invite, body=sdp("10.0.0.2", 5000))
    dialog.ack(invite, body=sdp("10.0.0.1", 4000) if delayed else "")
    for _ in range(rng.randint(0, 3)):
        by = rng.choice(["caller", "callee"])
        direction = rng.choice(["sendrecv", "sendonly", "inactive", "recvonly"])
        dialog.request(
            rng.choice(["INVITE", "UPDATE", "PRACK"]),
            by,
            body=sdp("10.0.0.3", rng.randrange(9000), direction),
        )
        dialog.response(rng.choice([200, 200, 488]), body=sdp("10.0.0.4", 6000, direction))
    dialog.request("BYE", rng.choice(["caller", "callee"]))
    dialog.response(rng.choice([200, 407, 481]))
    return sent


@given(st.randoms(use_true_random=False))
@inputs(150)
def test_any_order_loss_and_repetition(rng):
    messages = [message for _ in range(rng.randint(1, 3)) for message in life(rng)]
    for _ in range(rng.randint(0, 10)):
        match rng.randrange(3):
            case 0:
                messages.insert(rng.randrange(len(messages) + 1), rng.choice(messages))
            case 1:
                del messages[rng.randrange(len(messages))]
            case 2:
                a, b = rng.randrange(len(messages)), rng.randrange(len(messages))
                messages[a], messages[b] = messages[b], messages[a]
        if not messages:
            return
    table, now = Checked(Limits(calls=rng.choice([1, 2, 100]))), START
    for message, source, destination in messages:
        now += rng.choice([MS, 10 * MS, SECOND, 40 * SECOND, -SECOND])
        table.message(message, source, destination, now)
        if rng.random() < 0.2:
            table.tick(now)
    table.finish(now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "INVITE",
                    "ACK",
                    "BYE",
                    "CANCEL",
                    "PRACK",
                    "UPDATE",
                    "INFO",
                    "100",
                    "183",
                    "200",
                    "302",
                    "401",
                    "486",
                    "487",
                ]
            ),
            st.sampled_from(["INVITE", "BYE", "CANCEL", "UPDATE", "PRACK"]),
            st.sampled_from(["", "a", "b", "c"]),
            st.sampled_from(["", "a", "b", "c"]),
            st.integers(1, 3),
            st.sampled_from(["", "z9hG4bK1", "z9hG4bK2", "plain"]),
            st.sampled_from(["", "sendrecv", "sendonly", "inactive", "nonsense"]),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
@inputs(300)
def test_any_messages_of_one_call_id(steps):
    table, now = Checked(), START
    hops = [(ALICE, BOB), (BOB, ALICE), (ALICE, PROXY)]
    for what, method, from_tag, to_tag, cseq, branch, direction, hop in steps:
        now += 10 * MS
        start = f"SIP/2.0 {what} X" if what.isdigit() else f"{what} sip:x SIP/2.0"
        body = (
            ""
            if not direction
            else direction
            if direction == "nonsense"
            else sdp("10.0.0.1", 4000 + 2 * cseq, direction)
        )
        message = parse_sip(
            f"{start}\r\nVia: SIP/2.0/UDP x;branch={branch}\r\nCall-ID: 1\r\n"
            f"From: <sip:a@x>;tag={from_tag}\r\n"
            f"To: <sip:b@x>;tag={to_tag}\r\nCSeq: {cseq} {method if what.isdigit() else what}\r\n"
            f"c: application/sdp\r\n\r\n{body}".encode()
        )
        before = Counter(table.counters)
        table.message(message, *hops[hop], now)
        assert table.counters["messages"] == before["messages"] + 1
    table.finish(now)


@given(st.sampled_from(list(VECTORS)), st.randoms(use_true_random=False))
def test_torture_messages_and_their_debris(name, rng):
    table = Checked()
    data = bytearray(VECTORS[name].data)
    for step in range(10):
        with contextlib.suppress(SipError):
            table.message(parse_sip(bytes(data)), ALICE, BOB, START + step * MS)
        data[rng.randrange(len(data))] = rng.randrange(256)
    table.finish(START)


def test_the_same_messages_give_the_same_events():
    def run():
        rng, table = random.Random(7), CallTable()
        now, events = START, []
        for message, source, destination in [m for _ in range(30) for m in life(rng)]:
            now += 10 * MS
            events += table.message(message, source, destination, now)
        return events

    assert run() == run()


def test_a_thousand_dialogs_interleaved_keep_apart():
    rng = random.Random(18)
    table = Checked()
    dialogs = [
        Dialog(table, call_id=f"c{n}@x", caller_tag=f"a{n}", callee_tag=f"b{n}", now=START + n * MS)
        for n in range(1000)
    ]
    steps = [dialog for dialog in dialogs for _ in range(3)]
    rng.shuffle(steps)
    done = Counter()
    for dialog in steps:
        number = dialogs.index(dialog)
        host = f"10.1.{number // 250}.{number % 250 + 1}"
        match done[number]:
            case 0:
                dialog.invite(sdp(host, 4000))
            case 1:
                dialog.response(200, body=sdp(host, 5000))
            case 2:
                dialog.hang_up(rng.choice(["caller", "callee"]))
        done[number] += 1
    for number, dialog in enumerate(dialogs):
        host = f"10.1.{number // 250}.{number % 250 + 1}"
        assert {(e.side, e.endpoint) for e in dialog.told(MediaExpected)} == {
            ("caller", (host, 4000)),
            ("callee", (host, 5000)),
        }
        assert dialog.call.end_cause == "bye"
    assert len(table) == 0
