"""Which calls are one conversation, and whose voice is where: from signalling alone."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.calls.call import Call
from recorderd.calls.conversations import Voice
from recorderd.calls.join_settings import JoinSettings
from recorderd.calls.numbers import tail
from recorderd.calls.table import CallTable
from recorderd.service.addresses import own_addresses
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import parse_sip
from recorderd.wire.sip_references import DialogName, dialog_named, refer_to, session_ids
from tests.call_script import MS, SECOND, START, sdp

PHONE, PBX, OTHER = Endpoint("10.1.0.1", 5060), Endpoint("10.0.0.1", 5060), Endpoint("10.1.0.2", 5060)


@dataclass
class Wire:
    """INVITEs and what follows, from anywhere to anywhere."""

    table: CallTable = field(default_factory=CallTable)
    now: int = START
    count: int = 0

    def send(self, text: str, source: Endpoint, destination: Endpoint) -> None:
        self.now += 10 * MS
        self.table.message(parse_sip(text.encode()), source, destination, self.now)

    def invite(
        self,
        from_user: str,
        to_user: str,
        source: Endpoint,
        destination: Endpoint,
        *,
        headers: str = "",
        call_id: str = "",
        tag: str = "",
    ) -> Call:
        """A new dialog."""
        self.count += 1
        call_id = call_id or f"call-id-{self.count}"
        before = {call.key for call in self.table.active()}
        self.send(
            f"INVITE sip:{to_user}@{destination.host} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {source.host};branch=z9hG4bK-{self.count}\r\n"
            f"From: <sip:{from_user}@{source.host}>;tag={tag or f'tag-{self.count}'}\r\n"
            f"To: <sip:{to_user}@{destination.host}>\r\n"
            f"Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\n{headers}"
            f"Content-Type: application/sdp\r\n\r\n{sdp(source.host, 4000)}",
            source,
            destination,
        )
        (new,) = [call for call in self.table.active() if call.key not in before]
        return new

    def answer(
        self, call: Call, number: int, source: Endpoint, destination: Endpoint, more: str = ""
    ) -> None:
        """200 to the ``number``-th INVITE."""
        self.send(
            f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {destination.host};branch=z9hG4bK-{number}\r\n"
            f"From: <sip:{call.from_user}@x>;tag=tag-{number}\r\n"
            f"To: <sip:{call.to_user}@x>;tag=other-{number}\r\n"
            f"Call-ID: {call.call_id}\r\nCSeq: 1 INVITE\r\n{more}\r\n",
            source,
            destination,
        )

    def together(self, *calls: Call) -> bool:
        """Whether calls are one conversation."""
        return len({self.table.conversations.key(call.key) for call in calls}) == 1

    def labels(self, call: Call) -> tuple[str, str]:
        conversations = self.table.conversations
        return conversations.label(call.key, "caller"), conversations.label(call.key, "callee")

    def voice(self, call: Call, side: str) -> Voice:
        return self.table.conversations.voice(call.key, side, (0,), 0)


def test_a_call_alone_has_its_own_two_voices():
    wire = Wire()
    call = wire.invite("1001", "2002", PHONE, PBX)
    caller, callee = wire.voice(call, "caller"), wire.voice(call, "callee")
    assert (caller.label, caller.copied, callee.label, callee.copied) == ("caller", False, "callee", False)
    assert not caller.covers(callee)
    assert not callee.covers(caller)


def test_what_a_b2bua_passes_on_is_a_copy():
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX)
    down = wire.invite("1001", "2002", PBX, OTHER)
    assert wire.together(up, down)
    direct = wire.voice(up, "caller"), wire.voice(down, "callee")
    copies = wire.voice(down, "caller"), wire.voice(up, "callee")
    assert [voice.copied for voice in (*direct, *copies)] == [False, False, True, True]
    assert [[voice.covers(copy) for copy in copies] for voice in direct] == [[True, False], [False, True]]
    assert not any(copy.covers(voice) for copy in copies for voice in direct)


def test_a_chain_of_three():
    second = Endpoint("10.0.0.2", 5060)
    wire = Wire()
    legs = [wire.invite("1001", "2002", *path) for path in ((PHONE, PBX), (PBX, second), (second, OTHER))]
    assert wire.together(*legs)
    assert [wire.voice(leg, "caller").rank for leg in legs] == [0, 1, 2]
    assert [wire.voice(leg, "callee").rank for leg in legs] == [2, 1, 0]
    assert {wire.labels(leg) for leg in legs} == {("caller", "callee")}


def test_a_mirror_that_shows_what_was_passed_on_first():
    wire = Wire()
    down = wire.invite("1001", "2002", PBX, OTHER)
    up = wire.invite("1001", "2002", PHONE, PBX)
    assert wire.together(up, down)
    assert wire.table.conversations.of(up.key).outermost().call is up
    assert [wire.voice(up, "caller").rank, wire.voice(down, "caller").rank] == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("1001", "2002"), ("1001", "2002")),
        (("+49301234567", "2002"), ("00301234567", "300")),
        (("1001", "8000"), ("1001", "300")),
    ],
)
def test_numbers_that_tell(first, second):
    wire = Wire()
    assert wire.together(wire.invite(*first, PHONE, PBX), wire.invite(*second, PBX, OTHER))


@pytest.mark.parametrize(
    ("first", "second", "source"),
    [
        (("1001", "2002"), ("1003", "2004"), PBX),  # other numbers
        (("anonymous", "8000"), ("anonymous", "300"), PBX),  # nobody's number
        (("1001", "2002"), ("1001", "2002"), PHONE),  # called twice
        (("1001", "2002"), ("1001", "2002"), Endpoint("10.5.5.5", 5060)),  # another host
    ],
)
def test_numbers_that_tell_nothing(first, second, source):
    wire = Wire()
    assert not wire.together(wire.invite(*first, PHONE, PBX), wire.invite(*second, source, OTHER))


@pytest.mark.parametrize("callers", [("anonymous", "9000"), ("1001", "9000")])
def test_the_same_callee_alone_is_a_question(callers):
    wire = Wire()
    up = wire.invite(callers[0], "2002", PHONE, PBX)
    down = wire.invite(callers[1], "2002", PBX, OTHER)
    assert not wire.together(up, down)
    assert wire.table.joining.questions[down.key].candidates == [up]


def test_who_has_reached_somebody_reaches_nobody_else_by_numbers():
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX)
    down = wire.invite("1001", "2002", PBX, OTHER)
    assert wire.together(up, down)
    wire.answer(down, 2, OTHER, PBX)
    assert not wire.together(up, wire.invite("1001", "2002", PBX, Endpoint("10.1.0.9", 5060)))


def test_a_mark_that_several_calls_have_proves_nothing():
    wire = Wire()
    mark = "X-CID: campaign7\r\n"
    ups = [
        wire.invite(f"100{n}", f"200{n}", Endpoint(f"10.1.1.{n}", 5060), PBX, headers=mark) for n in range(3)
    ]
    downs = [wire.invite(f"100{n}", f"200{n}", PBX, OTHER, headers=mark) for n in range(3)]
    for up, down in zip(ups, downs, strict=True):
        assert wire.together(up, down)
    assert len({wire.table.conversations.key(up.key) for up in ups}) == 3


def test_an_outsiders_marks_prove_nothing():
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX, call_id="victim")
    outsider = wire.invite(
        "6661", "6662", Endpoint("10.6.6.6", 5060), Endpoint("10.6.6.7", 5060), call_id="victim-b2b_1"
    )
    assert not wire.together(up, outsider)


def test_of_two_that_fit_none_is_taken():
    wire = Wire()
    ups = [wire.invite("1001", "2002", Endpoint(f"10.1.1.{n}", 5060), PBX) for n in range(2)]
    down = wire.invite("1001", "2002", PBX, OTHER)
    assert not wire.together(down, ups[0])
    assert not wire.together(down, ups[1])
    question = wire.table.joining.questions[down.key]
    assert {call.key for call in question.candidates} == {call.key for call in ups}
    assert wire.table.joining.settled(question, ups[1])
    assert wire.together(down, ups[1])
    assert not wire.together(down, ups[0])


def test_on_one_host_the_ports_tell():
    """Load from one address to itself is no B2BUA."""
    wire = Wire()
    phone, pbx = Endpoint("127.0.0.1", 5070), Endpoint("127.0.0.1", 5060)
    calls = [wire.invite("1001", "2002", phone, pbx) for _ in range(3)]
    assert len({wire.table.conversations.key(call.key) for call in calls}) == 3
    down = wire.invite("1001", "2002", pbx, Endpoint("127.0.0.1", 5080))
    assert not wire.together(down, calls[0])


def test_after_the_window_only_who_reached_nobody_is_passed_on():
    wire = Wire()
    up = wire.invite("1001", "8000", PHONE, PBX)
    wire.answer(up, 1, PBX, PHONE)
    wire.now += 60 * SECOND
    agent = wire.invite("1001", "300", PBX, OTHER)
    assert wire.together(up, agent)
    wire.answer(agent, 2, OTHER, PBX)
    wire.now += 60 * SECOND
    assert not wire.together(up, wire.invite("1001", "301", PBX, OTHER))


def test_addresses_of_one_machine():
    wire = Wire(CallTable(joining=JoinSettings(hosts=(frozenset({"10.0.0.1", "10.9.0.1"}),))))
    up = wire.invite("1001", "2002", PHONE, PBX)
    down = wire.invite("1001", "2002", Endpoint("10.9.0.1", 5060), OTHER)
    assert wire.together(up, down)


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        (("X-CID: 77-abc\r\n", "X-CID: 77-abc\r\n"), {}),
        (("", "X-Original-Call-ID: call-id-1\r\n"), {}),
        (("P-Charging-Vector: icid-value=abc;orig-ioi=a\r\n", "P-Charging-Vector: icid-value=abc\r\n"), {}),
        ((f"Session-ID: {'ab' * 16}\r\n", f"Session-ID: {'AB' * 16};remote={'0' * 32}\r\n"), {}),
        (("", ""), {"call_id": "call-id-1"}),
        (("", ""), {"call_id": "call-id-1-b2b_1"}),
    ],
)
def test_explicit_marks(headers, more):
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX, headers=headers[0])
    down = wire.invite("5001", "6002", PBX, OTHER, headers=headers[1], **more)
    assert wire.together(up, down)
    assert wire.labels(down) == ("caller", "callee")


def test_a_header_that_all_calls_have_joins_no_strangers():
    wire = Wire()
    calls = [
        wire.invite(f"10{n}", f"20{n}", Endpoint(f"10.1.1.{n}", 5060), PBX, headers="X-CID: tenant-1\r\n")
        for n in range(5)
    ]
    assert len({wire.table.conversations.key(call.key) for call in calls}) == 5


def test_nothing_joins_where_it_is_not_wanted():
    wire = Wire(CallTable(joining=JoinSettings(frozenset())))
    assert not wire.together(wire.invite("1001", "2002", PHONE, PBX), wire.invite("1001", "2002", PBX, OTHER))


def test_who_answered_and_who_only_rang():
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX)
    first = wire.invite("1001", "2002", PBX, OTHER)
    second = wire.invite("1001", "2002", PBX, Endpoint("10.1.0.3", 5060))
    assert wire.together(up, first, second)
    assert wire.labels(first) == wire.labels(second) == ("caller", "callee")


def test_all_is_forgotten_with_the_last_call():
    wire = Wire()
    up = wire.invite("1001", "2002", PHONE, PBX, headers="X-CID: 77-abc\r\n")
    down = wire.invite("1001", "2002", PBX, OTHER)
    wire.table.forget(up.key)
    assert wire.table.conversations.key(down.key) == up.key
    wire.table.forget(down.key)
    assert len(wire.table.conversations) == 0
    later = wire.invite("3", "4", PBX, OTHER, headers="X-CID: 77-abc\r\n")
    assert wire.table.conversations.key(later.key) == later.key


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("+493012345678", "03012345678", True),
        ("1001", "1001", True),
        ("1001", "1002", False),
        ("alice", "ALICE", True),
        ("anonymous", "anonymous", False),
        ("", "", False),
    ],
)
def test_the_same_number(one, another, same):
    assert (tail(one) == tail(another) is not None) is same


def message(headers: str):
    return parse_sip(
        f"REFER sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\n"
        f"Call-ID: c\r\nCSeq: 1 REFER\r\n{headers}\r\n".encode()
    )


def test_what_a_refer_says():
    where = refer_to(
        message(
            'Refer-To: "C" <sip:carol@h;method=INVITE?Replaces=id%40h%3Bto-tag%3D7%3Bfrom-tag%3D8&x=y>\r\n'
        )
    )
    assert (where.party.user, where.method, where.replaces) == (
        "carol",
        "INVITE",
        DialogName("id@h", "7", "8"),
    )
    assert refer_to(message("r: sip:300@h\r\n")).party.user == "300"
    assert refer_to(message("")) is None
    named = dialog_named(message("Replaces: id@h ;from-tag=8; to-tag=7;early-only\r\n"), "replaces")
    assert named == DialogName("id@h", "7", "8")
    assert dialog_named(message("Replaces: nothing\r\n"), "replaces") is None
    assert session_ids(message(f"Session-ID: {'0' * 32};remote={'ab' * 16}\r\n")) == ("ab" * 16,)


HOSTS = [Endpoint(f"10.0.0.{n}", 5060) for n in range(4)]
HEADERS = [
    "",
    "X-CID: one-of-them\r\n",
    "X-CID: call-id-2\r\n",
    f"Session-ID: {'ab' * 16}\r\n",
    "Replaces: call-id-1;to-tag=tag-1;from-tag=x\r\n",
    "Join: call-id-2;to-tag=other-2;from-tag=tag-2\r\n",
    "Contact: <sip:8500@10.0.0.1>;isfocus\r\n",
    "Referred-By: <sip:2002@x>\r\n",
    "Replaces: ;;;\r\n",
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["invite", "invite", "invite", "answer", "refer", "settle", "forget", "wait"]),
        st.sampled_from(["1001", "1002", "anonymous"]),
        st.sampled_from(["1001", "2002", "8500"]),
        st.sampled_from(HOSTS),
        st.sampled_from(HOSTS),
        st.sampled_from(HEADERS),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_every_call_is_in_one_conversation_and_all_is_forgotten(steps):
    wire = Wire()
    table, calls = wire.table, []
    conversations = table.conversations
    for what, caller, callee, source, destination, headers, which in steps:
        active = {call.key for call in table.active()}
        live = [(number, call) for number, call in calls if call.key in active]
        if what == "invite":
            calls.append((wire.count + 1, wire.invite(caller, callee, source, destination, headers=headers)))
        elif what == "wait":
            wire.now += which * SECOND
        elif what == "settle" and table.joining.questions:
            question = next(iter(table.joining.questions.values()))
            table.joining.settled(question, question.candidates[which % len(question.candidates)])
        elif live and what in ("answer", "refer", "forget"):
            number, call = live[which % len(live)]
            if what == "answer":
                wire.answer(call, number, source, destination, headers.replace("Replaces", "X"))
            elif what == "refer":
                wire.send(
                    f"REFER sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK-r{number}\r\n"
                    f"From: <sip:{call.from_user}@x>;tag=tag-{number}\r\nTo: <sip:b@x>;tag=other-{number}\r\n"
                    f"Call-ID: {call.call_id}\r\nCSeq: 9 REFER\r\nRefer-To: <sip:{callee}@x>\r\n\r\n",
                    source,
                    destination,
                )
            else:
                table.forget(call.key)
        for _, call in calls:
            found = conversations.of(call.key)
            if found is not None:
                leg = found.legs[call.key]
                assert {end.label for end in leg.ends.values()} <= {p.label for p in found.participants}
                assert len({p.label for p in found.participants}) == len(found.participants)
                assert min(leg.rank.values()) >= 0
                assert found.outermost().call.key in found.legs
    for _, call in calls:
        table.forget(call.key)
    assert len(conversations) == 0
    assert not table.joining.questions


def test_the_addresses_of_this_host(tmp_path):
    (tmp_path / "fib_trie").write_text(
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.1\n"
        "        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n"
    )
    (tmp_path / "if_inet6").write_text(
        "fe800000000000000042c0fffea80101 02 40 20 80     eth0\nwhat is this\n"
    )
    assert own_addresses(tmp_path) == {"10.0.0.1", "fe80::42:c0ff:fea8:101"}
    assert own_addresses(tmp_path / "nothing") == frozenset()
