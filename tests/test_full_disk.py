"""A small disk that fills while calls are recorded: who is told, what is left out, what never goes, and that
recording resumes by itself."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recorderd.calls.outcomes import NO_ROOM
from recorderd.capture.files import open_capture
from recorderd.errors import NoRoom
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.reserve import BEGUN, OVER
from recorderd.service.room import RoomKeeper
from recorderd.spool.budget import Limits
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_keeping import ledger_of
from recorderd.spool.signing import HostKey
from recorderd.spool.stores import LocalStore
from recorderd.spool.sync import Synchronizer
from recorderd.spool.verify import verify
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.small_disk import small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

MB = 1_000_000
RESERVE = 3 * MB
SECOND_NS = 1_000_000_000


@dataclass
class Site:
    """A recorder whose time is the test's."""

    archive: SpoolArchive
    engine: Engine
    keeper: RoomKeeper
    index: Index
    synchronizer: Synchronizer | None
    now_ns: int = 0
    full_seconds: list[int] = field(default_factory=list)

    def seconds(self, count: int) -> None:
        """Let so many seconds pass, with all threads of the recorder done with each."""
        for _ in range(count):
            self.now_ns += SECOND_NS
            self.engine.advance(self.now_ns)
            self.archive.commit.settle()
            self.archive.journal.settle()
            if self.synchronizer is not None:
                self.synchronizer.run(force=True)
            self.keeper.keep(lambda: False, lambda: None)
            self.archive.reserve.settle()

    def disk_alerts(self) -> list[str]:
        alerts = [alert["fields"] for alert in self.index.alerts_pending(10_000) if alert["kind"] == "disk"]
        return [str(fields.get("full") or fields.get("error")) for fields in alerts]


@contextlib.contextmanager
def site(folder: Path, *, remote: bool, calls: int, talk_s: float, every_s: float) -> Iterator[Site]:
    """A recorder into the spool of ``folder``, with all packets of some calls at hand."""
    simulator = PbxSimulator(seed=11)
    for number in range(calls):
        simulator.add(CallScript(start_s=number * every_s, talk_s=talk_s))
    simulator.write(folder / "calls.pcap")
    generate_identity(folder / "key")
    spool = Spool(folder / "spool").prepare()
    limits = Limits(reserve_bytes=RESERVE)
    with spool.lock(), Index.open(spool) as index, Index.open(spool) as other:
        archive = SpoolArchive(
            spool,
            index,
            load_recipients([folder / "key.pub"]),
            HostKey.load_or_create(spool.host_key_path, spool.host_public_path),
            host="test",
            thresholds=Thresholds(low_dbov=-127.0, silent_dbov=-127.0),
            commit_s=3600,
            ledger=True,
            limits=limits,
        )
        stores = {"nas": LocalStore.create(folder / "nas")} if remote else {}
        keeper = RoomKeeper(spool, other, stores, limits, ledger_of(spool), every_s=0)
        synchronizer = Synchronizer(spool, other, stores) if remote else None
        with archive:
            engine = Engine(archive, EngineSettings())
            start_ns = 0
            for frames in open_capture(folder / "calls.pcap"):
                start_ns = start_ns or int(frames.time_ns.min())
                engine.feed(frames)
            yield Site(archive, engine, keeper, other, synchronizer, start_ns)


def account(spool: Spool) -> tuple[Counter[str], list[dict[str, str]]]:
    with Index.open(spool) as index:
        calls = index.calls()
    return Counter(call["outcome"] for call in calls), calls


def test_a_disk_that_fills_is_told_at_each_mark_and_loses_nothing(tmp_path):
    """No remote, so nothing may go: 60 calls of 16 s, one a second, into room for some thirty."""
    spool = Spool(tmp_path / "spool")
    with (
        small_disk(tmp_path / "spool", "16m") as resize,
        site(tmp_path, remote=False, calls=60, talk_s=16, every_s=1) as made,
    ):
        begun: dict[str, int] = {}
        for second in range(120):
            made.seconds(1)
            if made.archive.reserve.full:
                begun.setdefault("full", second)
            if second == begun.get("full", 1000) + 8:
                whole = {row["id"] for row in made.index.recordings(state="sealed")}
                assert len(whole) >= 3
                assert made.archive.reserve.status()["level"] == "no_new_calls"
                assert made.archive.reserve.status()["left_bytes"] <= 0
                with pytest.raises(NoRoom):
                    made.archive.reserve.admit()
                assert made.disk_alerts()[:4] == ["80%", "90%", "95%", BEGUN]
                first = next(each for each in made.index.alerts_pending() if each["kind"] == "disk")
                assert first["fields"]["stays"] == ["everything: there is no remote"]
                resize("64m")
            if begun and second > begun["full"] + 60:
                break
        assert made.disk_alerts()[4:] == [OVER]
        made.engine.finish("capture ended")
        made.archive.settle()
        identities = load_identities([tmp_path / "key"])
        outcomes, calls = account(spool)
        assert sum(outcomes.values()) == 60
        public = made.archive.host_key.public
        rows = made.index.recordings()
        assert whole <= {row["id"] for row in rows}
        assert {row["state"] for row in rows} == {"sealed"}
        for row in rows:
            verdict = verify(spool, row["id"], public, identities)
            assert (verdict.ok, verdict.status) == (True, "complete"), verdict.problems
        # Those in progress went on with the reserve; of those that began, each says why, and from the moment
        # that there was room, recording went on, also of calls that were running by then.
        assert {call["reason"] for call in calls if call["outcome"] == "complete"} == {""}
        late = [call for call in calls if call["outcome"] != "complete"]
        assert {call["reason"] for call in late} == {NO_ROOM}
        assert {call["outcome"] for call in late} <= {"partial", "missing"}
        assert {call["outcome"] for call in late} >= {"partial"}
        assert all((call["recording"] is None) == (call["outcome"] == "missing") for call in calls)
        assert outcomes["complete"] >= 15
        entries = [Entry.from_bytes(data) for data in ledger_of(spool).entries()]
        told = {entry.fields["call_id"]: entry.fields["reason"] for entry in entries if entry.kind == "call"}
        assert told == {call["call_id"]: call["reason"] for call in calls}


def test_calls_that_end_before_there_is_room_are_missing_with_the_reason(tmp_path):
    spool = Spool(tmp_path / "spool")
    with (
        small_disk(tmp_path / "spool", "12m"),
        site(tmp_path, remote=False, calls=120, talk_s=6, every_s=0.5) as made,
    ):
        made.seconds(80)
        made.engine.finish("capture ended")
        made.archive.settle()
        outcomes, calls = account(spool)
        assert sum(outcomes.values()) == 120
        assert set(outcomes) == {"complete", "missing"}
        assert outcomes["missing"] > 5
        assert {call["reason"] for call in calls if call["outcome"] == "missing"} == {NO_ROOM}
        missing = [alert for alert in made.index.alerts_pending(1000) if alert["kind"] == "missing"]
        assert len(missing) == outcomes["missing"]
        assert isinstance(made.archive.trouble, NoRoom)
        assert "No space" not in str(made.disk_alerts())


def test_what_a_remote_has_makes_room_and_everything_is_recorded(tmp_path):
    """The same calls on the same disk, with a remote: nobody is told anything, and nothing is missing."""
    spool = Spool(tmp_path / "spool")
    with (
        small_disk(tmp_path / "spool", "16m"),
        site(tmp_path, remote=True, calls=60, talk_s=16, every_s=1) as made,
    ):
        made.seconds(90)
        made.engine.finish("capture ended")
        made.archive.settle()
        outcomes, _ = account(spool)
        assert outcomes == {"complete": 60}
        assert made.disk_alerts() == []
        away = made.index.evicted()
        assert len(away) > 10
        assert away == sorted(row["id"] for row in made.index.recordings())[: len(away)]
        entries = [Entry.from_bytes(data) for data in ledger_of(spool).entries()]
        assert [entry.subject for entry in entries if entry.kind == "evicted"] == away
