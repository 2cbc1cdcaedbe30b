"""What a full disk cost is told track by track: how many packets, and where they are silent in an export."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recorderd.calls.outcomes import REFUSED
from recorderd.capture.files import open_capture
from recorderd.errors import DiskFull
from recorderd.media.lane import Lane
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.kept import MAX_TRACED, MAX_WINDOWS
from recorderd.service.unwritten import Unwritten
from recorderd.spool.container import PACKET_ROW
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.signing import HostKey
from recorderd.tools.listening import hear
from tests.recorder import samples
from tests.shelf import PACKETS, Disk, Shelf, lost
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Impairment
from tests.small_disk import small_disk
from tests.spool_builder import make_desk
from tests.tools_runner import recorderctl

SECOND_NS = 1_000_000_000
PACKET_S = 0.02
LOSSY = Impairment(loss=0.02)


class Made:
    """What one recorder made of the call."""

    def __init__(self, folder: Path) -> None:
        spool = Spool(folder / "spool")
        with Index.open(spool) as index:
            (self.row,) = index.recordings()
            (self.call,) = index.calls()
            self.alerts = index.alerts_pending()
        self.tracks = {track["label"]: track for track in self.row["tracks"]}
        path = spool.record_path(self.row["id"])
        self.packets: dict[str, set[int]] = {}
        with Recording.open(path, load_identities([folder / "key"])) as recording:
            assert recording.status == "complete"
            media = [record.rows for record in recording.media()]
            labels = {e["stream"]: e["track"] for e in recording.events if e["event"] == "stream"}
            for number, label in labels.items():
                mine = [rows["seq"][rows["stream"] == number] for rows in media]
                self.packets[label] = set(np.concatenate(mine).tolist())
            self.refused = recording.refused_packets
        with Recording.open(path, load_identities([folder / "key"])) as recording:
            heard = hear(recording)
            self.sound = {label: samples(heard, label) for label in labels.values()}

    def disk_gaps(self, label: str) -> list[dict]:
        return [gap for gap in self.tracks[label]["gaps"] if gap["cause"] == "disk"]


def capture(folder: Path) -> Path:
    simulator = PbxSimulator(seed=9)
    simulator.add(CallScript(talk_s=14, caller_network=LOSSY))
    path = folder / "call.pcap"
    simulator.write(path)
    return path


def record(folder: Path, path: Path, second: Callable[[int], None] = lambda _: None) -> Made:
    """Record the call; ``second`` is told before each second of it."""
    folder.mkdir(exist_ok=True)
    generate_identity(folder / "key")
    spool = Spool(folder / "spool").prepare()
    with spool.lock(), Index.open(spool) as index:
        archive = SpoolArchive(
            spool,
            index,
            load_recipients([folder / "key.pub"]),
            HostKey.load_or_create(spool.host_key_path),
            host="test",
            thresholds=Thresholds(low_dbov=-127.0, silent_dbov=-127.0),
            commit_s=3600,
        )
        with archive:
            engine = Engine(archive, EngineSettings())
            now = 0
            for frames in open_capture(path):
                now = now or int(frames.time_ns.min())
                engine.feed(frames)
            for number in range(20):
                second(number)
                now += SECOND_NS
                engine.advance(now)
            engine.finish("capture ended")
            archive.settle()
    return Made(folder)


def assert_told(whole: Made, made: Made) -> None:
    """All that is missing is told, to the packet, and nothing else is."""
    assert made.row["review"]["needed"]
    for label, sent in whole.packets.items():
        track, lost = made.tracks[label], sent - made.packets[label]
        assert lost
        assert track["unwritten"] == len(lost)
        assert track["packets"] == len(sent)
        for key in ("lost", "mos"):
            assert track[key] == whole.tracks[label][key]
        parts = [
            round(gap["at_s"] - track["start_s"] + part * PACKET_S, 2)
            for gap in made.disk_gaps(label)
            for part in range(round(gap["length_s"] / PACKET_S))
        ]
        first = min(sent)
        assert parts == pytest.approx([(seq - first) * PACKET_S for seq in sorted(lost)], abs=0.002)
        others = [gap for gap in track["gaps"] if gap["cause"] != "disk"]
        assert others == whole.tracks[label]["gaps"]
        # What sounds otherwise than it would have is silent, and in a gap.
        there, here = whole.sound[label], made.sound[label]
        assert len(there) == len(here)
        differs = np.flatnonzero(there != here)
        assert len(differs)
        assert not here[differs].any()
        gaps = made.disk_gaps(label)
        within = np.zeros(len(here), bool)
        for gap in gaps:
            begin = round(gap["at_s"] * 8000)
            within[begin - 8 : begin + round(gap["length_s"] * 8000) + 8] = True
        assert within[differs].all()
        lost_s = sum(gap["length_s"] for gap in gaps)
        told = f"{label}: {lost_s:.2f} s could not be written to the disk ({len(lost)} packets)"
        assert told in made.row["review"]["causes"]


def test_seconds_that_a_full_disk_did_not_take_are_a_gap(tmp_path, monkeypatch):
    path = capture(tmp_path)
    whole = record(tmp_path / "whole", path)
    disk = Disk(monkeypatch)
    made = record(tmp_path / "full", path, lambda second: disk.full(4 <= second < 8))
    assert_told(whole, made)
    assert (made.call["outcome"], made.call["reason"]) == ("partial", "disk full")
    assert made.refused == sum(track["unwritten"] for track in made.tracks.values())
    shown = recorderctl("--spool", tmp_path / "full" / "spool", "show", made.row["id"])
    for label, track in made.tracks.items():
        assert f"{label}: {track['unwritten']} packets (" in shown.out
    assert [alert["causes"] for alert in alerts_of(made, "review")] == [made.row["review"]["causes"]]


def alerts_of(made: Made, kind: str) -> list[dict]:
    return [alert["fields"] for alert in made.alerts if alert["kind"] == kind]


def test_what_was_held_back_and_written_later_is_no_gap(tmp_path, monkeypatch):
    path = capture(tmp_path)
    whole = record(tmp_path / "whole", path)
    disk = Disk(monkeypatch)
    made = record(tmp_path / "full", path, lambda second: disk.full(second == 4))
    assert made.packets == whole.packets
    assert made.tracks == whole.tracks
    assert {track["unwritten"] for track in made.tracks.values()} == {0}


def test_a_recording_that_could_not_begin_says_what_it_lacks(tmp_path, monkeypatch):
    path = capture(tmp_path)
    whole = record(tmp_path / "whole", path)
    real, now = SpoolArchive.begin, [0]

    def begin(self, *arguments):
        if now[0] < 5:
            raise DiskFull("no room")
        return real(self, *arguments)

    monkeypatch.setattr(SpoolArchive, "begin", begin)
    made = record(tmp_path / "full", path, lambda second: now.__setitem__(0, second))
    assert made.call["reason"] == REFUSED
    for label, sent in whole.packets.items():
        lost = sent - made.packets[label]
        assert len(lost) > 100
        assert made.tracks[label]["unwritten"] == len(lost)
        lengths = sum(gap["length_s"] for gap in made.disk_gaps(label))
        assert round(lengths / PACKET_S) == len(lost)
        assert made.disk_gaps(label)[0]["at_s"] == made.tracks[label]["start_s"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_somebody_else_fills(tmp_path):
    path = capture(tmp_path)
    whole = record(tmp_path / "whole", path)
    filler = tmp_path / "small" / "filler"

    def second(number: int) -> None:
        if number == 5:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        elif number == 10:
            filler.unlink()

    with small_disk(tmp_path / "small", "8m"):
        made = record(tmp_path / "small", path, second)
    assert_told(whole, made)


# Where the disk loses what it took


def test_what_a_further_segment_has_is_not_lost(tmp_path, monkeypatch):
    """Refused by a full disk, and still in memory when the file is lost and another takes it."""
    shelf = Shelf(make_desk(tmp_path))
    disk = Disk(monkeypatch)
    disk.full(True)
    shelf.try_to_record(0, 1, 2)
    disk.full(False)
    shelf.recording.lose(lost())
    assert shelf.recording.go_on()
    assert not shelf.recording.unwritten().packets


def test_what_had_to_make_room_while_no_file_could_be_made_is(tmp_path):
    shelf = Shelf(make_desk(tmp_path))
    shelf.broken = DiskFull("no room")
    shelf.recording.lose(lost())
    shelf.record(*range(8))
    assert sum(shelf.recording.unwritten().packets.values()) == shelf.recording.packets_lost > 0


def test_what_had_to_make_room_and_did_not_come_to_the_disk_is(tmp_path):
    """A commit takes long, and then fails: the disk has half of what it took."""
    shelf = Shelf(make_desk(tmp_path))
    shelf.record(*range(9))
    shelf.recording.lose(lost())
    shelf.cut(shelf.size() // 3)
    assert shelf.recording.go_on()
    assert sum(shelf.recording.unwritten().packets.values()) == shelf.recording.packets_lost > 0


def test_of_many_that_had_to_make_room_all_are_counted_and_the_last_are_known(tmp_path):
    shelf = Shelf(make_desk(tmp_path))
    begins = shelf.size()
    shelf.record(*range(MAX_WINDOWS + MAX_TRACED + 7))
    shelf.recording.lose(lost())
    shelf.cut(begins)
    assert shelf.recording.go_on()
    assert shelf.recording.packets_lost == (MAX_TRACED + 7) * PACKETS
    assert sum(shelf.recording.unwritten().packets.values()) == MAX_TRACED * PACKETS


def test_what_is_refused_and_then_makes_room_is_lost_once(tmp_path, monkeypatch):
    shelf = Shelf(make_desk(tmp_path))
    disk = Disk(monkeypatch)
    disk.full(True)
    shelf.try_to_record(*range(9))
    disk.full(False)
    shelf.record(9)
    # The first was held back.
    assert sum(shelf.recording.unwritten().packets.values()) == 8 * PACKETS


def rows_of(seqs, *, stream=0, start=0) -> bytes:
    rows = np.zeros(len(seqs), PACKET_ROW)
    rows["seq"], rows["stream"] = seqs, stream
    rows["timestamp"] = [(start + 160 * seq) % (1 << 32) for seq in seqs]
    rows["time"] = [20_000 * (seq - min(seqs)) for seq in seqs]
    return rows.tobytes()


@pytest.mark.parametrize("start", [0, (1 << 32) - 160 * 30])
def test_runs_are_where_the_stream_has_them(start):
    """Also where timestamps begin anew in between."""
    lane = Lane({})
    seqs = np.array([*range(20), *range(60, 80)])
    times = 1_000_000 + 20_000 * seqs
    stamps = ((start + 160 * seqs) % (1 << 32)).astype(np.uint32)
    lane.follow(seqs, stamps, times, np.zeros(len(seqs), np.uint8), lambda _: bytes(160))
    unwritten = Unwritten()
    unwritten.add(1_400_000, rows_of(range(20, 40), start=start))
    unwritten.add(1_800_000, rows_of([*range(40, 50), *range(55, 60)], start=start))
    unwritten.add(1_800_000, rows_of([3], stream=1))
    spans = [(round(gap.start_us), round(gap.end_us)) for gap in unwritten.gaps(0, lane)]
    assert spans == [(1_400_000, 2_000_000), (2_100_000, 2_200_000)]
    assert dict(unwritten.packets) == {0: 35, 1: 1}


def test_a_flood_is_counted_and_takes_no_more_memory():
    unwritten = Unwritten()
    for number in range(3000):
        unwritten.add(0, rows_of([10 * number, 10 * number + 5]))
    lane = Lane({})
    seqs = np.arange(30_000)
    lane.follow(
        seqs,
        (160 * seqs).astype(np.uint32),
        20_000 * seqs,
        np.zeros(len(seqs), np.uint8),
        lambda _: bytes(160),
    )
    assert unwritten.packets[0] == 6000
    assert len(list(unwritten.gaps(0, lane))) <= 1000
