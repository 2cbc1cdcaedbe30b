"""What is over goes by itself: of ended calls nothing is left for the collector of cycles, which looks seldom
while the recorder runs (recorderd/libraries.py), and nothing stays in memory.
"""

import errno
import gc
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd import libraries
from recorderd.calls.engine import CallEngine
from recorderd.capture.files import open_capture
from recorderd.errors import SpoolError
from recorderd.media.table import Packets
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.commit import Ended
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.orphans import OrphanSettings
from recorderd.service.overload import Level
from recorderd.service.segments import SegmentedRecording
from recorderd.service.session import Session, Stream
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.signing import HostKey
from recorderd.spool.writer import RecordingWriter
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Hold, NewSource, Refresh, Stranger
from tests.simulators.switchboard import PBX, Dialog, Phone, Switchboard

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS

OF_A_CALL = (CallEngine, Session, Stream, Packets, SegmentedRecording, RecordingWriter, Ended)


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """The test runner keeps what is logged, and with an error the frames that it went through."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


Second = Callable[[Engine, SpoolArchive, int], None]


def left_behind(folder: Path, capture: Path, settings: EngineSettings, second: Second) -> list[Counter[str]]:
    """Record with the collector at rest; ``second`` is told before each second. What only the collector would
    find of the recorder's classes, and what of an ended call is there still.
    """
    generate_identity(folder / "key")
    spool = Spool(folder / "spool").prepare()
    with spool.lock(), Index.open(spool) as index:
        recipients = load_recipients([folder / "key.pub"])
        key = HostKey.load_or_create(spool.host_key_path)
        archive = SpoolArchive(
            spool, index, recipients, key, host="test", thresholds=Thresholds(), commit_s=3600
        )
        with archive:
            gc.collect()
            gc.disable()
            try:
                engine = Engine(archive, settings)
                before = alive()
                record(engine, archive, capture, second)
                garbage = collected()
                return [garbage, alive() - before]
            finally:
                gc.enable()


def record(engine: Engine, archive: SpoolArchive, capture: Path, second: Second) -> None:
    now = 0
    for frames in open_capture(capture):
        now = now or int(frames.time_ns.min())
        for number in range(1 + (int(frames.time_ns.max()) - now) // SECOND_NS):
            second(engine, archive, number)
            here = (frames.time_ns >= now + number * SECOND_NS) & (
                frames.time_ns < now + (number + 1) * SECOND_NS
            )
            columns = frames.time_ns, frames.data, frames.caplen, frames.wirelen
            engine.feed(type(frames)(frames.link, *(column[here] for column in columns)))
            engine.advance(now + (number + 1) * SECOND_NS)
    engine.finish("capture ended")
    archive.settle()
    assert engine.counters["calls"] == engine.calls.counters["calls"] > 0
    # Repetitions of ended calls are recognised for a minute.
    engine.calls.tick(now + HOUR_NS)
    engine.calls.tick(now + 2 * HOUR_NS)


def alive() -> Counter[str]:
    return Counter(type(one).__qualname__ for one in gc.get_objects() if isinstance(one, OF_A_CALL))


def collected() -> Counter[str]:
    """What the collector finds now of the recorder's classes."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [type(one) for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith("recorderd."))


def nothing(engine: Engine, archive: SpoolArchive, second: int) -> None:
    pass


def assert_gone(
    folder: Path, capture: Path, settings: EngineSettings | None = None, second: Second = nothing
) -> None:
    assert left_behind(folder, capture, settings or EngineSettings(), second) == [Counter(), Counter()]


def test_a_cycle_is_seen(tmp_path):
    """This very test could fail."""
    capture = of(CallScript(talk_s=4))(tmp_path)

    def knot(engine: Engine, archive: SpoolArchive, second: int) -> None:
        if second == 4:
            (session,) = engine.recordings
            session.withheld["itself"] = session

    garbage, _ = left_behind(tmp_path, capture, EngineSettings(), knot)
    assert garbage["Session"] == 1


def test_cycles_that_a_library_leaves_do_not_add_up():
    class Knot:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            Knot.alive += 1

        def __del__(self) -> None:
            Knot.alive -= 1

    usual, most = gc.get_threshold(), 0
    libraries.recording()
    try:
        for _ in range(1_000_000):
            Knot()
            most = max(most, Knot.alive)
    finally:
        gc.set_threshold(*usual)
    assert most < 300_000


Scene = Callable[[Path], Path]


def of(*scripts: CallScript) -> Scene:
    def write(folder: Path) -> Path:
        simulator = PbxSimulator(seed=7)
        for script in scripts:
            simulator.add(script)
        return simulator.write(folder / "calls.pcap")

    return write


CHANGES = CallScript(
    talk_s=9,
    happenings=(Hold(1, 1), Refresh(3), NewSource(4), Stranger(5, 2, toward="callee")),
    early=frozenset({"callee"}),
    nat=frozenset({"caller"}),
)

SCENES = {
    "calls that are talked in": of(CallScript(), CallScript(hangup_by="callee", retransmit=True)),
    "a call in which much changes": of(CHANGES),
    "refused": of(CallScript(ending="busy"), CallScript(ending="cancel"), CallScript(challenge=True)),
    "cut off": of(CallScript(talk_s=3, ending="none"), CallScript(caller_sends=False, talk_s=3)),
}


@pytest.mark.parametrize("name", SCENES)
def test_calls(tmp_path, name):
    assert_gone(tmp_path, SCENES[name](tmp_path))


def between(board: Switchboard, one: Phone, two: Phone) -> Dialog:
    """A call from phone to phone, with nothing in the middle."""
    ends = Address(one.host, 5060), Address(two.host, 5060), one.media, two.media
    return board.dialog(*ends, one.user, two.user)


def through_a_b2bua(board: Switchboard, one: Phone, two: Phone, three: Phone) -> None:
    board.bridged(one, two, 1.0, 4.0)
    board.bridged(two, three, 2.0, 5.0)


def seen_from_behind(board: Switchboard, one: Phone, two: Phone, three: Phone) -> None:
    """A mirror shows first what was passed on."""
    up, down = board.to_pbx(one, two.user), board.from_pbx(two, one.user)
    down.invite(0.99)
    up.invite(1.0)
    down.answer(1.5)
    up.answer(1.52)
    board.talk(1.6, 4.0, (up, "caller", one.voice), (down, "callee", two.voice))
    up.bye(4.0)
    down.bye(4.02)


def transferred_by_the_pbx(board: Switchboard, one: Phone, two: Phone, three: Phone) -> None:
    bridged = board.bridged(one, two, 1.0, 4.0, hangup=False)
    bridged.upstream.refer(4.0, "caller", "<sip:3003@pbx.example>")
    third = board.from_pbx(three, two.user)
    third.invite(4.1)
    bridged.upstream.bye(4.2)
    third.answer(5.0)
    board.talk(5.1, 8.0, (bridged.downstream, "callee", two.voice), (third, "callee", three.voice))
    bridged.downstream.bye(8.0, "callee")
    third.bye(8.02)


def transferred_after_a_consultation(board: Switchboard, one: Phone, two: Phone, three: Phone) -> None:
    first, asking = between(board, one, two), board.phone("2002", two.host, 4100)
    first.invite(1.0)
    first.answer(1.5)
    board.talk(1.6, 6.0, (first, "caller", one.voice), (first, "callee", two.voice))
    consultation = between(board, asking, three)
    consultation.invite(3.0)
    consultation.answer(3.5)
    board.talk(3.6, 6.0, (consultation, "caller", two.voice), (consultation, "callee", three.voice))
    tags = f"to-tag={consultation.text.callee.tag};from-tag={consultation.text.caller.tag}"
    named = f"{consultation.call_id};{tags}".replace(";", "%3B").replace("=", "%3D")
    first.refer(6.0, "callee", f"<sip:3003@{three.host}?Replaces={named}>")
    second = between(board, one, three)
    second.invite(6.2, headers=f"Replaces: {consultation.call_id};{tags}\r\n")
    second.answer(6.5)
    consultation.bye(6.6, "callee")
    first.bye(6.7, "callee")
    board.talk(6.8, 9.0, (second, "caller", one.voice), (second, "callee", three.voice))
    second.bye(9.0)


def in_a_conference(board: Switchboard, one: Phone, two: Phone, three: Phone) -> None:
    for number, phone in enumerate((one, two, three)):
        call = board.to_pbx(phone, "8500")
        call.invite(1.0 + number)
        call.answer(1.2 + number, headers=f"Contact: <sip:8500@{PBX}>;isfocus\r\n")
        board.speak(1.4 + number, 6.0, call, "caller", phone.voice)
        board.speak(1.4 + number, 6.0, call, "callee", three.voice)
        call.bye(6.0 + 0.1 * number)


@pytest.mark.parametrize(
    "scene",
    [
        through_a_b2bua,
        seen_from_behind,
        transferred_by_the_pbx,
        transferred_after_a_consultation,
        in_a_conference,
    ],
)
def test_conversations(tmp_path, scene):
    board = Switchboard()
    phones = board.phone("1001"), board.phone("2002"), board.phone("3003")
    scene(board, *phones)
    # What was sent elsewhere is waited for; another such call a minute later ends that.
    last = between(board, *phones[:2])
    last.invite(80.0)
    last.refer(80.1, "caller", "<sip:4004@pbx.example>")
    last.cancel(80.2)
    assert_gone(tmp_path, board.write(tmp_path / "calls.pcap"))


def test_other_messages(tmp_path):
    simulator = PbxSimulator(seed=7)
    simulator.add(CallScript(talk_s=2))
    for number, method in enumerate(("REGISTER", "OPTIONS", "NOTIFY", "BYE", "INVITE")):
        text = (
            f"{method} sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bK{number}\r\n"
            f"From: <sip:9{number}@pbx.example>;tag={number}\r\nTo: <sip:8@pbx.example>\r\n"
            f"Call-ID: alone-{number}\r\nCSeq: 1 {method}\r\n\r\n"
        )
        ends = Address("10.9.0.1", 5060), Address("10.9.0.2", 5060)
        simulator.say(simulator.calls[0].answered_ns + number * 1000, *ends, text.encode())
        simulator.say(simulator.calls[0].answered_ns + number, *ends, text.encode()[: 20 * number + 20])
    assert_gone(tmp_path, simulator.write(tmp_path / "calls.pcap"))


def test_media_before_its_signalling(tmp_path):
    """Of what was recorded by itself the call that explains it is told, and the other way round."""
    board = Switchboard()
    one, two = board.phone("1001"), board.phone("2002")
    call = between(board, one, two)
    board.talk(1.0, 16.0, (call, "caller", one.voice), (call, "callee", two.voice))
    call.invite(9.0)
    call.answer(9.1)
    call.bye(16.0)
    settings = EngineSettings(orphans=OrphanSettings(record=True))
    assert_gone(tmp_path, board.write(tmp_path / "calls.pcap"), settings)


def test_calls_that_are_not_recorded(tmp_path):
    def refuse(engine: Engine, archive: SpoolArchive, second: int) -> None:
        engine.recordings.level = Level.NO_NEW_CALLS if second > 2 else Level.NONE
        if second == 4:
            engine.give_up(1)

    capture = of(CallScript(), CallScript(start_s=4))(tmp_path)
    assert_gone(tmp_path, capture, second=refuse)


def test_a_full_disk(tmp_path, monkeypatch):
    real, full = os.write, [False]

    def write(descriptor: int, data: bytes) -> int:
        if full[0] and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".rec.part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    def filling(engine: Engine, archive: SpoolArchive, second: int) -> None:
        full[0] = 3 <= second < 6

    monkeypatch.setattr(os, "write", write)
    capture = of(CallScript(), CallScript(start_s=3.5, talk_s=5))(tmp_path)
    assert_gone(tmp_path, capture, second=filling)


@pytest.mark.parametrize("recovers", [True, False])
def test_a_disk_that_loses_what_was_written(tmp_path, monkeypatch, recovers):
    """What it lost goes on in another file, if one can be made."""
    broken = [False]
    flush, fdatasync, opened = Spool.flush, os.fdatasync, os.open

    def failing_flush(spool: Spool) -> None:
        if broken[0]:
            raise SpoolError("Input/output error")
        flush(spool)

    def failing_sync(descriptor: int) -> None:
        if broken[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fdatasync(descriptor)

    def breaking(engine: Engine, archive: SpoolArchive, second: int) -> None:
        broken[0] = second == 4 or (second > 4 and not recovers)
        if 3 <= second < 7:
            archive.commit.settle()

    def failing_open(path: str, flags: int, mode: int = 0o777) -> int:
        if broken[0] and flags & os.O_CREAT:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, flags, mode)

    monkeypatch.setattr(Spool, "flush", failing_flush)
    monkeypatch.setattr(os, "fdatasync", failing_sync)
    monkeypatch.setattr(os, "open", failing_open)
    assert_gone(tmp_path, of(CallScript())(tmp_path), second=breaking)
