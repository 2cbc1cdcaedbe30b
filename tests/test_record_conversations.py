"""Several calls that are one conversation: one recording, each speaker once, and whoever came and went."""

import wave

import numpy as np
import pytest

from recorderd.calls.join_settings import RULES, JoinSettings
from recorderd.capture.files import open_capture
from recorderd.config.policy import PolicyConfig
from recorderd.service.admission import AdmissionSettings
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.pausing import PrivacySettings
from recorderd.spool.index import Index
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey
from recorderd.wire.frames import Frames
from tests.commands import run
from tests.recorder import Recorded, record_by, record_files, samples
from tests.simulators.compare import place_of
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import EPOCH_NS
from tests.simulators.switchboard import PBX, SECOND, Dialog, Switchboard, Voice


def record(tmp_path, board: Switchboard, *rules: str) -> Recorded:
    capture = board.write(tmp_path / "calls.pcap")
    joining = JoinSettings(frozenset(rules or RULES))
    return record_files(tmp_path, [capture], EngineSettings(joining=joining))


def assert_heard(recorded, row, label, voice: Voice, from_s: float, to_s: float, *, slack_s=0.0):
    """Every sample that a voice said in that time is on the track, where it belongs."""
    heard, _ = recorded.heard(row)
    got = samples(heard, label)
    said = voice.said(from_s + slack_s, to_s - slack_s)
    near = round((EPOCH_NS / 1000 + (from_s + slack_s) * 1e6 - heard.start_us) * 8000 / 1e6)
    assert place_of(said, got, near=near, within=200) is not None, (row["tracks"], label)


def assert_only(recorded, row, label, seconds: float):
    """The track has no more packets than that."""
    assert abs(recorded.track(row, label)["packets"] - seconds * 50) <= 2


def joined_by(row) -> list[str | None]:
    return [leg["joined_by"] for leg in row["legs"]]


def test_a_proxy_that_relays_the_media_of_one_dialog(tmp_path):
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    near = board.dialog(
        Address(alice.host, 5060), Address(PBX, 5060), alice.media, board.port(), "1001", "2002"
    )
    far = board.dialog(
        Address(PBX, 5060), Address(bob.host, 5060), board.port(), bob.media, "1001", "2002",
        call_id=near.call_id,
    )  # fmt: skip
    # One dialog: the same tags on both hops, a Via more on the second.
    far.text.caller.tag, far.text.callee.tag = near.text.caller.tag, near.text.callee.tag
    far.text.hop = "-far"
    for dialog, at_s in ((near, 1.0), (far, 1.01)):
        dialog.invite(at_s)
    for dialog, at_s in ((far, 1.5), (near, 1.51)):
        dialog.answer(at_s)
    board.talk(1.6, 8.0, (near, "caller", alice.voice), (far, "callee", bob.voice))
    near.bye(8.0)
    recorded = record(tmp_path, board)
    (row,), (call,) = recorded.rows, recorded.calls
    for label, phone in (("caller", alice), ("callee", bob)):
        assert_heard(recorded, row, label, phone.voice, 1.6, 8.0)
        assert_only(recorded, row, label, 6.4)
    assert (call["outcome"], call["reason"]) == ("complete", "")


MARKS = {
    "header": {"up_headers": "X-CID: abc-123-def\r\n", "down_headers": "X-CID: abc-123-def\r\n"},
    "session-id": {
        "up_headers": f"Session-ID: {'a7' * 16};remote={'0' * 32}\r\n",
        "down_headers": f"Session-ID: {'a7' * 16};remote={'0' * 32}\r\n",
    },
    "call-id": {"same_call_id": True},
    "numbers": {},
    "media": {"from_user": "0305550", "to_user": "9000"},
}


@pytest.mark.parametrize("rule", MARKS)
def test_a_call_through_a_b2bua(tmp_path, rule):
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    bridged = board.bridged(alice, bob, 1.0, 9.0, **MARKS[rule])
    recorded = record(tmp_path, board, rule)
    (row,) = recorded.rows
    for label, phone in (("caller", alice), ("callee", bob)):
        assert_heard(recorded, row, label, phone.voice, 1.6, 9.0)
        assert_only(recorded, row, label, 7.4)
    assert row["call_ids"] == list(dict.fromkeys([bridged.upstream.call_id, bridged.downstream.call_id]))
    assert (row["from"], joined_by(row)) == ("1001", [None, rule])
    assert [leg["role"] for leg in row["legs"]] == ["upstream", "downstream"]
    assert {(c["outcome"], c["reason"], c["recording"]) for c in recorded.calls} == {
        ("complete", "", row["id"])
    }
    assert len(recorded.calls) == 2


def test_what_has_nothing_in_common_stays_apart(tmp_path):
    board = Switchboard()
    board.bridged(board.phone("1001"), board.phone("2002"), 1.0, 5.0)
    recorded = record(tmp_path, board, "header", "session-id", "call-id", "tags", "transfer")
    assert len(recorded.rows) == 2
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


def test_fifty_calls_at_once_with_equal_numbers(tmp_path):
    board = Switchboard()
    pairs = [(board.phone("5550000"), board.phone("7770000")) for _ in range(50)]
    for number, (alice, bob) in enumerate(pairs):
        board.bridged(alice, bob, 1.0 + 0.005 * number, 7.0)
    said_by = [[phone.voice.said(3.0, 3.2) for phone in pair] for pair in pairs]
    recorded = record(tmp_path, board)
    assert len(recorded.rows) == 50
    found = set()
    for row in recorded.rows:
        heard, _ = recorded.heard(row)
        near = round((EPOCH_NS / 1000 + 3e6 - heard.start_us) * 8000 / 1e6)
        said = {
            label: [
                at
                for at, pair in enumerate(said_by)
                if place_of(pair[side], got, near=near, within=200) is not None
            ]
            for side, label in enumerate(("caller", "callee"))
            if len(got := samples(heard, label))
        }
        assert len(said["caller"]) == 1
        assert said["callee"] == said["caller"]
        found.update(said["caller"])
        assert {track["label"] for track in row["tracks"]} == {"caller", "callee"}
    assert found == set(range(50))


def test_a_forked_call_and_the_one_who_answers(tmp_path):
    board = Switchboard()
    alice, bob, other = board.phone("1001"), board.phone("2002"), board.phone("2002")
    up, first, second = (
        board.to_pbx(alice, "2002"),
        board.from_pbx(other, "1001"),
        board.from_pbx(bob, "1001"),
    )
    up.invite(1.0)
    for at_s, leg in ((1.02, first), (1.03, second)):
        leg.invite(at_s)
        leg.ring(at_s + 0.1)
    second.answer(2.0)
    up.answer(2.02)
    first.cancel(2.05)
    board.talk(2.1, 8.0, (up, "caller", alice.voice), (second, "callee", bob.voice))
    up.bye(8.0)
    second.bye(8.02)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert_heard(recorded, row, "callee", bob.voice, 2.1, 8.0)
    assert [track["label"] for track in row["tracks"]] == ["caller", "callee"]
    outcomes = {call["call_id"]: call["outcome"] for call in recorded.calls}
    assert outcomes == {up.call_id: "complete", first.call_id: "unanswered", second.call_id: "complete"}


def test_announcements_before_an_agent_answers_are_kept(tmp_path):
    """What only the caller is sent has the callee's track, as long as no callee is heard."""
    board = Switchboard()
    alice, agent = board.phone("0301234567"), board.phone("300")
    announcement, music = Voice(900), Voice(901)
    up = board.to_pbx(alice, "8000")
    up.invite(1.0)
    up.answer(1.1)
    board.speak(1.2, 20.0, up, "caller", alice.voice)
    board.speak(1.2, 9.0, up, "callee", announcement)
    down = board.from_pbx(agent, alice.user)
    down.invite(8.0)
    down.answer(9.0)
    board.speak(9.0, 14.0, down, "callee", agent.voice)
    board.speak(9.0, 14.0, up, "callee", agent.voice)
    board.speak(9.0, 14.0, down, "caller", alice.voice)
    board.speak(14.0, 20.0, up, "callee", music)  # the agent's phone is silent: held
    up.bye(20.0)
    down.bye(20.02)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert_heard(recorded, row, "caller", alice.voice, 1.2, 20.0)
    assert_heard(recorded, row, "callee", announcement, 1.2, 9.0, slack_s=0.02)
    assert_heard(recorded, row, "callee", agent.voice, 9.0, 14.0, slack_s=0.02)
    assert_heard(recorded, row, "callee", music, 18.0, 20.0, slack_s=0.02)
    assert joined_by(row) == [None, "numbers"]
    assert [track["label"] for track in row["tracks"]] == ["caller", "callee"]
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


def labels(row) -> list[str]:
    return [track["label"] for track in row["tracks"]]


def between(board, one, two) -> Dialog:
    """A call from phone to phone, with nothing in the middle."""
    ends = Address(one.host, 5060), Address(two.host, 5060), one.media, two.media
    return board.dialog(*ends, one.user, two.user)


def test_a_blind_transfer_by_the_phones(tmp_path):
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    first = between(board, alice, bob)
    first.invite(1.0)
    first.answer(1.5)
    board.talk(1.6, 6.0, (first, "caller", alice.voice), (first, "callee", bob.voice))
    first.refer(6.0, "callee", "<sip:3003@pbx.example>")
    first.bye(6.1, "callee")
    second = between(board, alice, carol)
    second.invite(6.2, headers="Referred-By: <sip:2002@10.0.0.1>\r\n")
    second.answer(7.0)
    board.talk(7.1, 12.0, (second, "caller", alice.voice), (second, "callee", carol.voice))
    second.bye(12.0)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "callee-2"]
    assert_heard(recorded, row, "caller", alice.voice, 1.6, 6.0)
    assert_heard(recorded, row, "caller", alice.voice, 7.1, 12.0)
    assert_heard(recorded, row, "callee", bob.voice, 1.6, 6.0)
    assert_heard(recorded, row, "callee-2", carol.voice, 7.1, 12.0)
    assert joined_by(row) == [None, "transfer"]
    told = {one["label"]: (one["user"], one["from_s"], one["to_s"]) for one in row["participants"]}
    assert told["callee"][0] == "2002"
    assert told["callee-2"][0] == "3003"
    assert told["callee"][2] <= told["callee-2"][1]
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_blind_transfer_by_the_pbx(tmp_path, by):
    """REFER goes to the PBX, which calls the third; either end of the first call may have sent it."""
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    bridged = board.bridged(alice, bob, 1.0, 6.0, hangup=False)
    up, down = bridged.upstream, bridged.downstream
    leaves, stays = (up, down) if by == "caller" else (down, up)
    who, side = (bob, "callee") if by == "caller" else (alice, "caller")
    leaves.refer(6.0, by, "<sip:3003@pbx.example>")
    third = board.from_pbx(carol, who.user)
    third.invite(6.1)
    leaves.bye(6.2, by)
    third.answer(7.0)
    board.talk(7.1, 14.0, (stays, side, who.voice), (third, "callee", carol.voice))
    stays.bye(14.0, side)
    third.bye(14.02)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "callee-2"]
    for label, phone in (("caller", alice), ("callee", bob)):
        assert_heard(recorded, row, label, phone.voice, 1.6, 6.0)
        assert_only(recorded, row, label, 4.4 + (6.9 if phone is who else 0))
    assert_heard(recorded, row, side, who.voice, 7.1, 14.0)
    assert_heard(recorded, row, "callee-2", carol.voice, 7.1, 14.0)
    assert_only(recorded, row, "callee-2", 6.9)
    assert joined_by(row) == [None, "numbers", "transfer"]


def test_an_attended_transfer_with_replaces(tmp_path):
    """The consultation was a recording of its own, and is linked; the music meanwhile is the callee's."""
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    first = between(board, alice, bob)
    first.invite(1.0)
    first.answer(1.5)
    board.talk(1.6, 5.0, (first, "caller", alice.voice), (first, "callee", bob.voice))
    music = Voice(900)
    board.say(5.0, 12.0, music, bob.media, alice.media)
    board.speak(5.0, 12.0, first, "caller", alice.voice)
    # Bob asks Carol, from another port.
    asking = board.phone("2002", bob.host, 4100)
    consultation = between(board, asking, carol)
    consultation.invite(6.0)
    consultation.answer(6.5)
    board.talk(6.6, 11.0, (consultation, "caller", bob.voice), (consultation, "callee", carol.voice))
    named = (
        f"{consultation.call_id}%3Bto-tag%3D{consultation.text.callee.tag}"
        f"%3Bfrom-tag%3D{consultation.text.caller.tag}"
    )
    first.refer(11.0, "callee", f"<sip:3003@{carol.host}?Replaces={named}>")
    carol.port = 4200
    second = between(board, alice, carol)
    tags = f"to-tag={consultation.text.callee.tag};from-tag={consultation.text.caller.tag}"
    second.invite(11.2, headers=f"Replaces: {consultation.call_id};{tags}\r\n")
    second.answer(11.9)
    consultation.bye(11.95, "callee")
    first.bye(12.0, "callee")
    board.talk(12.0, 18.0, (second, "caller", alice.voice), (second, "callee", carol.voice))
    second.bye(18.0)
    recorded = record(tmp_path, board)
    rows = {row["call_ids"][0]: row for row in recorded.rows}
    assert rows.keys() == {first.call_id, consultation.call_id}
    main, aside = rows[first.call_id], rows[consultation.call_id]
    assert main["call_ids"] == [first.call_id, second.call_id]
    assert labels(main) == ["caller", "callee", "callee-2"]
    assert_heard(recorded, main, "callee", bob.voice, 1.6, 5.0)
    assert_heard(recorded, main, "callee", music, 5.0, 12.0)
    assert_heard(recorded, main, "callee-2", carol.voice, 12.0, 18.0)
    assert_heard(recorded, main, "caller", alice.voice, 12.0, 18.0)
    assert_heard(recorded, aside, "caller", bob.voice, 6.6, 11.0)
    assert_heard(recorded, aside, "callee", carol.voice, 6.6, 11.0)
    assert main["related"] == [{"recording": aside["id"], "how": "transfer"}]
    assert aside["related"] == [{"recording": main["id"], "how": "transfer"}]


def test_a_conference(tmp_path):
    """Three dial in; each has a track, and what the conference sends is recorded once."""
    board = Switchboard()
    phones = [board.phone(user) for user in ("1001", "2002", "3003")]
    music = Voice(900)
    calls = []
    for number, phone in enumerate(phones):
        call = board.to_pbx(phone, "8500")
        call.invite(1.0 + 3 * number)
        call.answer(1.2 + 3 * number, headers=f"Contact: <sip:8500@{PBX}>;isfocus\r\n")
        calls.append(call)
    for number, (call, phone) in enumerate(zip(calls, phones, strict=True)):
        begin = 1.4 + 3 * number
        board.speak(begin, 14.0, call, "caller", phone.voice)
        board.speak(begin, 14.0, call, "callee", Voice(950 + number) if number else music)
        call.bye(14.0 + 0.02 * number)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "caller-2", "caller-3"]
    for number, phone in enumerate(phones):
        label = f"caller-{number + 1}" if number else "caller"
        assert_heard(recorded, row, label, phone.voice, 1.4 + 3 * number, 14.0)
        assert_only(recorded, row, label, 12.6 - 3 * number)
    assert_heard(recorded, row, "callee", music, 1.4, 14.0)
    assert_only(recorded, row, "callee", 12.6)
    assert joined_by(row) == [None, "conference", "conference"]
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


def test_a_conference_goes_on_when_the_first_leaves(tmp_path):
    """Then the mix is recorded as another participant is sent it."""
    board = Switchboard()
    mix = Voice(901)
    for number, until_s in enumerate((6.0, 14.0)):
        phone = board.phone(f"100{number}")
        call = board.to_pbx(phone, "8500")
        call.invite(1.0)
        call.answer(1.2, headers=f"Contact: <sip:8500@{PBX}>;isfocus\r\n")
        board.talk(1.4, until_s, (call, "caller", phone.voice), (call, "callee", mix))
        call.bye(until_s)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "caller-2"]
    assert_heard(recorded, row, "callee", mix, 1.4, 6.0)
    assert_heard(recorded, row, "callee", mix, 9.0, 14.0)


def test_two_rooms_of_one_bridge_are_two_conferences(tmp_path):
    """Though the bridge says the same URI of both."""
    board = Switchboard()
    for number in range(4):
        phone = board.phone(f"100{number}")
        call = board.to_pbx(phone, ("3000", "3010")[number % 2])
        call.invite(1.0 + 0.1 * number)
        call.answer(1.5 + 0.1 * number, headers=f"Contact: <sip:conference@{PBX};transport=udp>;isfocus\r\n")
        for side, voice in (("caller", phone.voice), ("callee", Voice(950 + number))):
            board.speak(2.0, 6.0, call, side, voice)
        call.bye(6.0)
    recorded = record(tmp_path, board)
    assert sorted((row["to"], *labels(row)) for row in recorded.rows) == [
        (room, "caller", "callee", "caller-2") for room in ("3000", "3010")
    ]


def test_a_conference_that_a_phone_hosts(tmp_path):
    """Who hosts it is heard only in what the phone mixes."""
    board = Switchboard()
    host = board.phone("2005")
    guests = [board.phone("2100"), board.phone("2101")]
    for number, guest in enumerate(guests):
        ends = Address(host.host, 5060), Address(guest.host, 5060)
        media = Address(host.host, 4000 + 2 * number), guest.media
        call = board.dialog(*ends, *media, host.user, guest.user)
        call.invite(1.0 + 0.3 * number, headers=f"Contact: <sip:2005@{host.host}>;isfocus\r\n")
        call.answer(1.5 + 0.3 * number)
        board.speak(2.0, 8.0, call, "caller", host.voice)
        board.speak(2.0, 8.0, call, "callee", guest.voice)
        call.bye(8.0 + 0.02 * number)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "callee-2"]
    for label, phone in zip(labels(row), (host, *guests), strict=True):
        assert_heard(recorded, row, label, phone.voice, 2.0, 8.0)
        assert_only(recorded, row, label, 6.0)
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


@pytest.mark.parametrize("waiting", [1, 3])
def test_equal_music_joins_nobody(tmp_path, waiting):
    """Those who wait hear the same as an agent's side plays, who talks to somebody else."""
    board = Switchboard()
    music = Voice(902)
    pbx = Address(PBX, 5060)
    for number in range(waiting):
        phone = board.phone("anonymous")
        call = board.to_pbx(phone, "4000")
        call.invite(1.0 + 0.1 * number)
        call.answer(1.5)
        board.speak(2.0, 8.0, call, "caller", phone.voice)
        board.speak(2.0, 8.0, call, "callee", music)
        call.bye(9.0)
    agent = board.phone("2010")
    call = board.dialog(pbx, Address(agent.host, 5060), board.port(), agent.media, "anonymous", agent.user)
    call.invite(1.6)
    call.answer(1.9)
    board.speak(2.0, 8.0, call, "caller", Voice(903))  # whose own call is not seen
    board.say(2.0, 8.0, music, agent.media, call.party("caller").media)
    call.bye(9.0)
    recorded = record(tmp_path, board)
    assert len(recorded.rows) == waiting + 1


@pytest.mark.parametrize(("seen_from", "joins"), [("anonymous", True), ("15550000222", False)])
def test_the_callers_voice_alone(tmp_path, seen_from, joins):
    """It is enough where the callee says nothing, unless another caller is named."""
    board = Switchboard()
    pbx = Address(PBX, 5060)
    phone, agent = board.phone("15550000111"), board.phone("2010")
    up = board.to_pbx(phone, "4000")
    up.invite(1.0)
    up.answer(1.5)
    down = board.dialog(pbx, Address(agent.host, 5060), board.port(), agent.media, seen_from, agent.user)
    down.invite(1.6)
    down.answer(1.9)
    for call in (up, down):
        board.speak(2.0, 8.0, call, "caller", phone.voice)
        call.bye(9.0)
    assert len(record(tmp_path, board, "media").rows) == (1 if joins else 2)


def test_a_pause_on_one_leg_is_one_of_the_conversation(tmp_path):
    """Whichever leg's dialog asks, nothing of the others' copies is kept either."""
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    board.bridged(alice, bob, 1.0, 9.0, up_headers="X-Record: pause\r\n")
    capture = board.write(tmp_path / "calls.pcap")
    privacy = PrivacySettings(header="x-record", most_s=4.0)
    recorded = record_files(tmp_path, [capture], EngineSettings(privacy=privacy))
    (row,) = recorded.rows
    assert row["pauses"][0]["by"] == "SIP header of caller"
    assert {call["outcome"] for call in recorded.calls} == {"complete"}
    # From the INVITE at 1 s for 4 s; both spoke from 1.6 s to 9 s.
    for label in ("caller", "callee"):
        assert_only(recorded, row, label, 4.0)


def test_a_conversation_is_decided_on_once(tmp_path):
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    board.bridged(alice, bob, 1.0, 6.0)
    capture = board.write(tmp_path / "calls.pcap")
    rules = [{"name": "alice", "match": {"from": "1001", "percentage": 100}, "action": "exclude"}]
    policy = PolicyConfig.model_validate({"rules": rules}).policy()
    settings = EngineSettings(admission=AdmissionSettings(policy))
    recorded = record_files(tmp_path, [capture], settings)
    assert recorded.rows == []
    assert [(call["outcome"], call["reason"]) for call in recorded.calls] == [
        ("excluded", "policy: rule alice")
    ] * 2


def test_a_recording_is_the_same_however_its_packets_come(tmp_path):
    """As the tap gives them, a few at a time, or all of a file at once."""
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    bridged = board.bridged(alice, bob, 1.0, 6.0, from_user="0305550", to_user="9000", hangup=False)
    bridged.downstream.refer(6.0, "callee", "<sip:3003@pbx.example>")
    third = board.from_pbx(carol, alice.user)
    third.invite(6.1)
    bridged.downstream.bye(6.2, "callee")
    third.answer(9.5)
    board.speak(6.0, 14.0, bridged.upstream, "caller", alice.voice)
    board.speak(6.3, 9.6, bridged.upstream, "callee", Voice(900))
    board.speak(9.6, 14.0, third, "callee", carol.voice)
    board.speak(9.6, 14.0, bridged.upstream, "callee", carol.voice)
    bridged.upstream.bye(14.0)
    third.bye(14.0)
    capture = board.write(tmp_path / "calls.pcap")

    def in_parts(engine):
        every = list(open_capture(capture))
        for until_ns in range(EPOCH_NS, EPOCH_NS + 15 * SECOND, SECOND // 10):
            for frames in every:
                first, last = np.searchsorted(frames.time_ns, [until_ns - SECOND // 10, until_ns])
                columns = (frames.time_ns, frames.data, frames.caplen, frames.wirelen)
                engine.feed(Frames(frames.link, *(column[first:last] for column in columns)))
            engine.advance(until_ns)
        engine.finish("capture ended")

    def facts(recorded):
        rows = [
            {key: row[key] for key in row if key not in ("id", "sha256", "bytes")} for row in recorded.rows
        ]
        return rows, [{**call, "recording": None} for call in recorded.calls]

    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    whole = record_files(folders[0], [capture])
    parts = record_by(folders[1], in_parts)
    assert facts(whole) == facts(parts)
    (row,) = whole.rows
    assert labels(row) == ["caller", "callee", "callee-2"]
    assert_heard(whole, row, "callee-2", carol.voice, 9.6, 14.0)
    assert joined_by(row) == [None, "media", "transfer"]


def test_what_people_are_shown_of_a_conversation(tmp_path):
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    bridged = board.bridged(alice, bob, 1.0, 5.0, hangup=False)
    bridged.downstream.refer(5.0, "callee", "<sip:3003@pbx.example>")
    third = board.from_pbx(carol, alice.user)
    third.invite(5.1)
    third.answer(5.5)
    bridged.downstream.bye(5.6, "callee")
    board.talk(5.6, 9.0, (bridged.upstream, "caller", alice.voice), (third, "callee", carol.voice))
    bridged.upstream.bye(9.0)
    third.bye(9.02)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    common = ("recorderctl", "--spool", tmp_path / "spool")
    shown = run(*common, "show", row["id"]).out
    for text in ("callee-2", "3003", "upstream", "downstream", "transfer"):
        assert text in shown
    out = tmp_path / "out.wav"
    exported = (*common, "--json", "export", row["id"], "-o", out, "--identity", tmp_path / "listener.key")
    assert run(*exported, "--layout", "tracks").json[0]["files"] == [
        str(tmp_path / f"out-{label}.wav") for label in ("caller", "callee", "callee-2")
    ]
    assert run(*exported).code == 0
    with wave.open(str(out)) as file:
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    heard, _ = recorded.heard(row)
    for at_s, phone in ((3.0, bob), (8.0, carol)):
        near = round((EPOCH_NS / 1000 + at_s * 1e6 - heard.start_us) * 8000 / 1e6)
        assert place_of(phone.voice.said(at_s, at_s + 0.5), both[:, 1], near=near, within=200) is not None
        assert place_of(alice.voice.said(at_s, at_s + 0.5), both[:, 0], near=near, within=200) is not None


def test_a_b2bua_that_leaves_the_media_to_the_phones(tmp_path):
    """Both calls announce both phones, and each voice is there once."""
    board = Switchboard()
    alice, bob, carol = board.phone("1001"), board.phone("2002"), board.phone("3003")
    pbx = Address(PBX, 5060)
    up = board.dialog(Address(alice.host, 5060), pbx, alice.media, bob.media, "1001", "2002")
    down = board.dialog(pbx, Address(bob.host, 5060), alice.media, bob.media, "1001", "2002")
    up.invite(1.0)
    down.invite(1.02)
    down.answer(1.5)
    up.answer(1.52)
    board.speak(1.6, 8.0, up, "caller", alice.voice)
    board.speak(1.6, 8.0, down, "callee", bob.voice)
    down.refer(8.0, "callee", "<sip:3003@pbx.example>")
    third = board.dialog(pbx, Address(carol.host, 5060), alice.media, carol.media, "1001", "3003")
    third.invite(8.1)
    third.answer(8.9)
    down.bye(9.0, "callee")
    board.say(9.1, 14.0, alice.voice, alice.media, carol.media)
    board.say(9.1, 14.0, carol.voice, carol.media, alice.media)
    up.bye(14.0)
    third.bye(14.02)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert labels(row) == ["caller", "callee", "callee-2"]
    assert_heard(recorded, row, "caller", alice.voice, 1.6, 8.0)
    assert_heard(recorded, row, "callee", bob.voice, 1.6, 8.0)
    assert_heard(recorded, row, "callee-2", carol.voice, 9.1, 14.0)
    assert_heard(recorded, row, "caller", alice.voice, 9.1, 14.0)
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


@pytest.mark.parametrize("apart_s", [0.02, 1.0, 2.5])
def test_media_that_goes_on_after_the_calls(tmp_path, apart_s):
    board = Switchboard()
    alice, bob = board.phone("1001"), board.phone("2002")
    bridged = board.bridged(alice, bob, 1.0, 12.0, hangup=False)
    bridged.upstream.bye(5.0)
    bridged.downstream.bye(5.0 + apart_s)
    recorded = record(tmp_path, board)
    (row,) = recorded.rows
    assert_heard(recorded, row, "caller", alice.voice, 1.6, 5.9)
    assert_heard(recorded, row, "callee", bob.voice, 1.6, 5.9)
    assert row["duration_s"] < 8.5
    assert {call["outcome"] for call in recorded.calls} == {"complete"}


def test_a_crash_leaves_every_call_of_a_conversation_accounted_for(tmp_path):
    board = Switchboard()
    bridged = board.bridged(board.phone("1001"), board.phone("2002"), 1.0, 9.0)
    capture = board.write(tmp_path / "calls.pcap")

    def half(engine):
        for frames in open_capture(capture):
            engine.feed(frames)
        engine.advance(EPOCH_NS + 5 * SECOND)

    spool = record_by(tmp_path, half).spool
    with spool.lock(), Index.open(spool) as index:
        recover(spool, index, HostKey.load_or_create(spool.host_key_path))
        lost = index.calls_interrupted("recorder restarted")
        (row,) = index.recordings()
    ids = {bridged.upstream.call_id, bridged.downstream.call_id}
    assert set(row["call_ids"]) == {call["call_id"] for call in lost} == ids
    assert {(call["outcome"], call["recording"]) for call in lost} == {("partial", row["id"])}
