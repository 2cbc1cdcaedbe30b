"""Several engines that share the work as the workers of `recorderd capture` do: in one process, in step."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from recorderd.calls.ownership import Blindness
from recorderd.capture.bpf import Instruction, Share, media_filter, signalling_filter
from recorderd.capture.files import open_capture
from recorderd.quality.review import Thresholds
from recorderd.service.colleagues import Colleagues
from recorderd.service.docket import Docket
from recorderd.service.engine import Engine
from recorderd.service.engine_settings import EngineSettings
from recorderd.service.handover import Handed
from recorderd.service.worker_archive import WorkerArchive
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities, load_recipients
from recorderd.spool.layout import Spool
from recorderd.spool.signing import HostKey
from recorderd.wire.frames import Frames
from tests.bpf_machine import run
from tests.recorder import Recorded
from tests.simulators.pbx import PbxSimulator

STEP_NS = 100_000_000
PORTS = frozenset({5060})
HEADERS = {0x0800: (slice(14, 42), slice(42, 43)), 0x86DD: (slice(14, 62), slice(62, 63))}
LONGEST = 432


class Rings:
    """Which engines the frames of a capture come to: what the kernel would decide, a flow at a time."""

    def __init__(self, count: int) -> None:
        self._programs: list[tuple[tuple[Instruction, ...], ...]] = [
            (
                media_filter(longest=LONGEST, share=share),
                signalling_filter(PORTS, longest=LONGEST, share=share),
            )
            for share in (Share(number, count) for number in range(count))
        ]
        self._known: dict[bytes, tuple[bool, ...]] = {}

    def split(self, frames: Frames) -> list[Frames]:
        """The part of each engine."""
        rows = (frames.data[n, : frames.caplen[n]].tobytes() for n in range(len(frames)))
        mask = np.array([self._admitted(row) for row in rows], np.bool_).reshape(len(frames), -1)
        return [_where(frames, mask[:, number]) for number in range(len(self._programs))]

    def _admitted(self, frame: bytes) -> tuple[bool, ...]:
        # The same for every packet of a flow, but for fields that no filter looks at.
        flags, addresses = frame[20:22], frame[12:14] + frame[22:24] + frame[26:58]
        kind = bytes([len(frame) > LONGEST, *(byte >> 6 for byte in frame[42:43] + frame[62:63])])
        key = kind + (addresses[:24] + flags if frame[12] == 8 else frame[12:14] + frame[20:58])
        if key not in self._known:
            self._known[key] = tuple(any(run(one, frame) for one in programs) for programs in self._programs)
        return self._known[key]


def _where(frames: Frames, mask: np.ndarray) -> Frames:
    columns = {name: getattr(frames, name)[mask] for name in ("time_ns", "data", "caplen", "wirelen")}
    return replace(frames, **columns)


class Team:
    """The engines, on one spool; to be used inside :func:`team`."""

    def __init__(
        self, spool: Spool, archives: list[WorkerArchive], members: list[Colleagues], settings: EngineSettings
    ) -> None:
        self.spool, self.archives, self.members = spool, archives, members
        self.engines = [
            Engine(archive, settings, colleagues=member)
            for archive, member in zip(archives, members, strict=True)
        ]
        self.dead: set[int] = set()
        self._rings = Rings(len(members))

    def replay(self, capture: Path, each_step: Callable[[int], None] = lambda now_ns: None) -> None:
        """Feed a capture, in steps of a tenth of a second; ``each_step`` is told the time."""
        for now_ns, batches in steps(capture):
            self.step(now_ns, batches)
            each_step(now_ns)
        for engine in self.engines:
            engine.finish("capture ended")

    def step(self, now_ns: int, batches: list[Frames]) -> None:
        for frames in filter(len, batches):
            for number, part in enumerate(self._rings.split(frames)):
                if number not in self.dead:
                    self.engines[number].feed(part)
        self.exchange()
        for number, engine in enumerate(self.engines):
            if number not in self.dead:
                engine.advance(now_ns)

    def exchange(self) -> None:
        """What waits for another engine is taken in by it."""
        for member in self.members:
            member.flush(self._put)

    def _put(self, worker: int, message: bytes) -> bool:
        self.engines[worker].take_over(Handed.decode(message))
        return True

    def say_blind(self, *periods: Blindness) -> None:
        for number, engine in enumerate(self.engines):
            if number not in self.dead:
                engine.workers_blind(periods)


def steps(capture: Path) -> Iterator[tuple[int, list[Frames]]]:
    """A capture in pieces of :data:`STEP_NS`, each with the time of its end."""
    together: list[Frames] = []
    for frames in open_capture(capture):
        together.append(frames)
        if frames.unfinished:
            continue
        numbers = np.unique(np.concatenate([batch.time_ns // STEP_NS for batch in together]))
        for number in numbers.tolist():
            yield (number + 1) * STEP_NS, [_where(b, b.time_ns // STEP_NS == number) for b in together]
        together = []


@cache
def _recipients(key: Path) -> Path:
    generate_identity(key)
    return key.with_name(key.name + ".pub")


@contextlib.contextmanager
def team(folder: Path, count: int, settings: EngineSettings | None = None) -> Iterator[Team]:
    """``count`` engines that record into a spool below ``folder``."""
    spool = Spool(folder / "spool").prepare()
    signer = HostKey.load_or_create(spool.host_key_path)
    recipients = load_recipients([_recipients(folder / "listener")])
    with contextlib.ExitStack() as stack:
        stack.enter_context(spool.lock())
        members = [Colleagues(number, count) for number in range(count)]
        archives = []
        for number, member in enumerate(members):
            index = stack.enter_context(Index.open(spool))
            docket = stack.enter_context(contextlib.closing(Docket(folder / "workers" / f"{number}.jsonl")))
            archives.append(
                stack.enter_context(
                    WorkerArchive(
                        spool,
                        index,
                        recipients,
                        signer,
                        host="test",
                        thresholds=Thresholds(),
                        docket=docket,
                        colleagues=member,
                    )
                )
            )
        yield Team(spool, archives, members, settings or EngineSettings())
    assert all(archive.trouble is None for archive in archives)


def record_by_team(folder: Path, simulator: PbxSimulator, count: int) -> tuple[Recorded, Team]:
    """Record a simulator's calls with ``count`` engines."""
    capture = simulator.write(folder / "capture.pcap")
    with team(folder, count) as made:
        made.replay(capture)
    return Recorded(made.spool, load_identities([folder / "listener"]), made.engines[0]), made
