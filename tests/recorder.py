"""Records simulated calls with the production path, and opens what was recorded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorderd.calls.privacy import Masks
from recorderd.quality.review import Thresholds
from recorderd.service.archive import SpoolArchive
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.replay import replay
from recorderd.spool.index import Index
from recorderd.spool.keys import Identity, generate_identity, load_identities, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.tools.listening import Heard, hear
from tests.simulators.pbx import PbxSimulator
from tests.simulators.truth import CallTruth, TrackTruth


@dataclass
class Recorded:
    """A spool with what was recorded into it."""

    spool: Spool
    identities: tuple[Identity, ...]
    engine: Engine

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        with Index.open(self.spool) as index:
            return index.recordings()

    @cached_property
    def calls(self) -> list[dict[str, Any]]:
        with Index.open(self.spool) as index:
            return index.calls()

    @cached_property
    def alerts(self) -> list[dict[str, Any]]:
        with Index.open(self.spool) as index:
            return index.alerts_pending()

    def of(self, truth: CallTruth) -> dict[str, Any]:
        """The row of `list` of one call's recording."""
        (row,) = [row for row in self.rows if row["call_ids"] == [truth.call_id]]
        return row

    def call(self, truth: CallTruth) -> dict[str, Any]:
        """The row of `calls` of one call."""
        (row,) = [row for row in self.calls if row["call_id"] == truth.call_id]
        return row

    def track(self, row: dict[str, Any], label: str) -> dict[str, Any]:
        (track,) = [track for track in row["tracks"] if track["label"] == label]
        return track

    def heard(self, row: dict[str, Any]) -> tuple[Heard, list[dict[str, Any]]]:
        """What can be heard of a recording, and its events."""
        with Recording.open(self.spool.record_path(row["id"]), self.identities) as recording:
            assert recording.status == "complete", recording.problems
            return hear(recording), recording.events


def record(folder: Path, *simulators: PbxSimulator, settings: EngineSettings | None = None) -> Recorded:
    """Write the simulators' captures and replay them, in order, as one."""
    captures = []
    for number, simulator in enumerate(simulators):
        captures.append(folder / f"capture-{number}.pcap")
        simulator.write(captures[-1])
    return record_files(folder, captures, settings)


def record_files(folder: Path, captures: list[Path], settings: EngineSettings | None = None) -> Recorded:
    """Replay capture files into a new spool below ``folder``."""

    def feed(engine: Engine) -> None:
        assert replay(captures, engine) == []

    return record_by(folder, feed, settings)


def record_by(
    folder: Path,
    feed: Callable[[Engine], None],
    settings: EngineSettings | None = None,
    masks: Masks | None = None,
) -> Recorded:
    """Record into a new spool below ``folder`` what ``feed`` gives to the engine."""
    key = folder / "listener.key"
    generate_identity(key)
    spool = Spool(folder / "spool").prepare()
    with spool.lock(), Index.open(spool) as index:
        archive = SpoolArchive(
            spool,
            index,
            load_recipients([key.with_name("listener.key.pub")]),
            HostKey.load_or_create(spool.host_key_path),
            host="test",
            thresholds=Thresholds(),
            masks=masks,
        )
        with archive:
            engine = Engine(archive, settings or EngineSettings())
            feed(engine)
        assert archive.trouble is None
    return Recorded(spool, load_identities([key]), engine)


def samples(heard: Heard, label: str, rate: int = 8000) -> NDArray[np.int16]:
    """One track's samples from the start of the recording, mono."""
    return np.concatenate(list(heard.tracks[label].blocks(heard.start_us, rate)))[:, 0]


def assert_exact(recorded: Recorded, truth: CallTruth, side: TrackTruth) -> None:
    """Every sample that arrived is where it belongs, and nothing else sounds."""
    row = recorded.of(truth)
    heard, _ = recorded.heard(row)
    got = samples(heard, side.side)
    expected = side.samples()
    first = side.heard_from
    true_start_us = side.time_of(first) / 1000
    at = round((true_start_us - heard.start_us) * 8000 / 1e6)
    # Where the track starts may be off by what the least delayed packet was, never by a packet.
    begin = next(iter(np.flatnonzero(got)), 0) - next(iter(np.flatnonzero(expected[first:])), 0)
    assert abs(begin - at) <= 160
    assert np.array_equal(
        got[max(begin, 0) :], expected[first:][max(-begin, 0) :][: len(got) - max(begin, 0)]
    )
    assert len(got) - begin >= len(np.trim_zeros(expected[first:], "b"))
    assert row["started_at"] == rfc3339(round(heard.start_us))
