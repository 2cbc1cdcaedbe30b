"""Several workers on one interface: together they record what one would, whoever of them gets the packets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd.service.control import ask
from recorderd.service.workers import RESTART_S
from recorderd.spool.index import Index
from recorderd.spool.keys import generate_identity, load_identities
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.flow_hash import share_of
from tests.live.daemon import status_from_now
from tests.live.playing import play
from tests.live.process import Program, alive, until
from tests.network_namespaces import Namespace, Pair, privileged
from tests.recorder import Recorded, assert_exact
from tests.simulators.encapsulation import Address
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript, Move
from tests.simulators.truth import CallTruth

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not privileged(), reason="needs root: network namespaces"),
]

CALLS = 60
LEAD_NS = 5_000_000_000
"""Time to build what is sent."""
IN_TIME_S = 0.1
"""A sender that had to wait for its turn for longer was not in time, which no recorder can tell."""


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.remove()


class Workers:
    """`recorderd capture` with several workers on the interface of a namespace; a context manager."""

    def __init__(self, folder: Path, namespace: Namespace, workers: int, **options: object) -> None:
        """``options`` are further keys of the section ``capture``."""
        identity = folder / "listener"
        if not identity.exists():
            generate_identity(identity)
        self.spool, self.identity = Spool(folder / "spool"), identity
        self.config = folder / "config.yaml"
        capture = {"interfaces": ["tap0"], "workers": workers, "media_ring_mb": 16, "signalling_ring_mb": 16}
        capture |= options
        document = {
            "site": {"name": "test"},
            "capture": capture,
            "alerts": {"syslog": {"enabled": False}},
            "spool": {"path": str(self.spool.path)},
            "encryption": {"recipients": [f"{identity}.pub"]},
        }
        self.config.write_text(json.dumps(document))
        binary = Path(sys.executable).parent / "recorderd"
        command = ["ip", "netns", "exec", namespace.name, str(binary), "capture", "-c", str(self.config)]
        self.program = Program(command, folder / "recorder.log")

    def __enter__(self) -> "Workers":
        self.program.start()
        try:
            self.program.until_logged("recorderd capture: recording", 60)
            until(lambda: bool(self.status()), f"a status: {self.program.log()}", 30)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()

    def status(self) -> dict[str, Any]:
        return ask(self.spool.path / "control.sock") or {}

    def status_from_now(self) -> dict[str, Any]:
        """A status that every worker told after this was asked."""
        found: dict[str, Any] = status_from_now(self.status)
        return found

    def processes(self) -> dict[int, int]:
        """The process of each worker, by its number from 0."""
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text().split()
        found = {}
        for child in map(int, children):
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            numbers = [word for word in words if word.startswith("--number=")]
            if numbers:
                found[int(numbers[0].partition("=")[2])] = child
        return found

    def until_done(self, seconds: float = 60) -> None:
        """Wait until every call is over and sealed."""

        def done() -> bool:
            status = self.status_from_now()
            return bool(
                status["calls"]
                == status["recording"]
                == 0
                == status["index_waiting"]
                == status["ledger_waiting"]
            )

        until(done, f"the end of all calls: {self.program.log()[-2000:]}", seconds)

    def rows(self) -> list[dict[str, Any]]:
        """The recordings as the index has them now."""
        with Index.open(self.spool) as index:
            return index.recordings()

    def doctor(self) -> dict[str, Any]:
        """`recorderctl doctor`, whatever it thinks of this host."""
        binary = Path(sys.executable).parent / "recorderctl"
        command = [str(binary), "-c", str(self.config), "--json", "doctor"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def recorded(self) -> Recorded:
        engine: Any = None  # it lived elsewhere
        return Recorded(self.spool, load_identities([self.identity]), engine)


def staged(calls: int, talk_s: float, *, begin_ns: int) -> tuple[PbxSimulator, list[CallTruth]]:
    """Calls of all kinds: as announced, behind NAT, moving to new ports, with early media, refused."""
    simulator = PbxSimulator(seed=7, epoch_ns=begin_ns)
    kinds: list[dict[str, Any]] = [
        {},
        {"nat": frozenset({"caller"})},
        {"happenings": (Move(talk_s / 3), Move(2 * talk_s / 3, side="callee"))},
        {"early": frozenset({"callee"})},
        {"delayed_offer": True},
        {"ending": "busy"},
        {"nat": frozenset({"caller"}), "happenings": (Move(talk_s / 2, side="callee"),)},
    ]
    truths = [
        simulator.add(CallScript(start_s=0.03 * n, ring_s=0.5, talk_s=talk_s, **kinds[n % len(kinds)]))
        for n in range(calls)
    ]
    return simulator, truths


def in_background(
    capture: Path,
    pair: Pair,
    interface: str = "far0",
    *,
    at_ns: int | None = None,
    then: Callable[[], None] | None = None,
) -> Future[float]:
    """Send all of it in its time; the result is what :func:`tests.live.playing.play` returns."""
    wire = pair.there.wire(interface)

    def run() -> float:
        with wire:
            return play(capture, wire, at_ns=at_ns, then=then)

    pool = ThreadPoolExecutor(1)
    sending = pool.submit(run)
    pool.shutdown(wait=False)
    return sending


def payloads(recorded: Recorded, row: dict[str, Any], label: str) -> list[bytes]:
    """The coded packets of a track as they were recorded, its streams one after the other.

    In the order of their first packets: a worker that had to wait may have told of them in another.
    """
    with Recording.open(recorded.spool.record_path(row["id"]), recorded.identities) as recording:
        mine = [e["stream"] for e in recording.events if e["event"] == "stream" and e["track"] == label]
        found, first = [], dict[int, int]()
        for media in recording.media():
            ends = np.cumsum(media.rows["size"], dtype=np.int64)
            for packet, end in zip(media.rows, ends.tolist(), strict=True):
                coded = media.payload[end - packet["size"] : end].tobytes()
                stream, at_us = int(packet["stream"]), media.base_time_us + int(packet["time"])
                if stream in mine:
                    first[stream] = min(at_us, first.get(stream, at_us))
                    found.append((stream, int(packet["seq"]), coded))
    return [coded for *_, coded in sorted(found, key=lambda packet: (first[packet[0]], packet[1]))]


def assert_all_there(recorded: Recorded, truth: CallTruth, *, in_time: bool = True) -> None:
    """Each packet that was sent is recorded once; ``in_time``: and stands at its time, to the sample, where a
    side sent from one address throughout.
    """
    row = recorded.of(truth)
    for side in truth.tracks.values():
        track = recorded.track(row, side.side)
        said = (track["packets"], track["lost"], track["late"], track["duplicates"])
        assert said == (side.packets, 0, 0, 0)
        assert payloads(recorded, row, side.side) == side.payloads()
        if in_time and len(side.flows) == 1:
            assert_exact(recorded, truth, side)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_record_together_what_one_would(pair: Pair, tmp_path: Path, workers: int) -> None:
    with Workers(tmp_path, pair.here, workers) as recorder:
        simulator, truths = staged(CALLS, 5.0, begin_ns=time.time_ns() + LEAD_NS)
        late_s = in_background(simulator.write(tmp_path / "sent.pcap"), pair).result()
        recorder.until_done()
        status = recorder.status_from_now()
        doctor = recorder.doctor()
    recorded = recorder.recorded()
    assert sorted(row["call_id"] for row in recorded.calls) == sorted(truth.call_id for truth in truths)
    talked = [truth for truth in truths if truth.answered_ns is not None]
    assert sorted(row["call_ids"][0] for row in recorded.rows) == sorted(truth.call_id for truth in talked)
    for truth in truths:
        outcome = recorded.call(truth)["outcome"]
        assert outcome == ("complete" if truth in talked else "unanswered"), recorded.call(truth)["reason"]
    for truth in talked:
        assert_all_there(recorded, truth, in_time=late_s < IN_TIME_S)
    # Every worker had its part, and some of it was another's.
    assert len(status["workers"]) == workers
    assert all(worker["counters"].get("packets_handed_over") for worker in status["workers"])
    assert status["counters"]["calls"] == CALLS
    assert sum(ring["drops"] for ring in status["rings"]) == 0
    checks = {check["name"]: check for check in doctor["checks"]}
    assert checks["workers"]["state"] == "ok"
    assert checks["workers"]["detail"].startswith(f"{workers} of {workers} running")


KILLED_S = 4.5


def test_a_killed_worker_costs_its_own_calls_only(pair: Pair, tmp_path: Path) -> None:
    """Calls of the others go on; what the dead one was recording is recovered while they do; those that would
    have been its own until there is another are accounted for; after that all are recorded.
    """

    def calls_at(seed: int, begin_ns: int, *groups: tuple[float, float, int]) -> PbxSimulator:
        simulator = PbxSimulator(seed=seed, epoch_ns=begin_ns)
        starts = [(start + 0.03 * n, talk) for start, talk, count in groups for n in range(count)]
        for n, (start, talk) in enumerate(starts):
            ports = {"caller_port": 1000 * seed + 8 * n, "callee_port": 2000 * seed + 8 * n}
            simulator.add(CallScript(start_s=start, ring_s=0.4, talk_s=talk, **ports))
        return simulator

    def states() -> list[str]:
        return [row["state"] for row in recorder.rows()]

    def kill() -> None:
        nonlocal killed
        until(lambda: states() == ["recording"] * len(running), "all in the index", 30)
        killed = time.time()
        os.kill(before[victim], signal.SIGKILL)

    def again() -> bool:
        return set(recorder.processes()) == set(before) and recorder.processes()[victim] != before[victim]

    killed = 0.0
    with Workers(tmp_path, pair.here, 3) as recorder:
        begin_ns = time.time_ns() + LEAD_NS
        simulator = calls_at(10, begin_ns, (0.0, 12.0, 18), (KILLED_S + 0.05, 3.0, 12))
        running, meanwhile = simulator.calls[:18], simulator.calls[18:]
        before = recorder.processes()
        victim = owner_of(running[0])
        # The sender kills: whatever it sends behind that, the dead one does not get.
        at_ns = begin_ns + int(KILLED_S * 1e9)
        sending = in_background(simulator.write(tmp_path / "sent.pcap"), pair, at_ns=at_ns, then=kill)
        until(lambda: sending.done() or "recovered" in states(), "recovery", 60)
        assert "recording" in states(), "recovered beside the other workers"
        until(again, "another worker", 30)
        recorder.status_from_now()
        another = calls_at(20, time.time_ns() + 1_000_000_000, (0.0, 3.0, 12))
        later = another.calls
        in_background(another.write(tmp_path / "later.pcap"), pair).result()
        sending.result()
        recorder.until_done()
        status, after = recorder.status_from_now(), recorder.processes()
    owner = {truth.call_id: owner_of(truth) for truth in [*running, *meanwhile, *later]}
    recorded = recorder.recorded()
    assert {number for number in before if before[number] != after[number]} == {victim}
    assert status["restarts"] == 1
    assert sorted(row["call_id"] for row in recorded.calls) == sorted(owner)
    for truth in running:
        call = recorded.call(truth)
        if owner[truth.call_id] == victim:
            assert (call["outcome"], call["reason"]) == ("partial", "recorder restarted")
            assert recorded.of(truth)["state"] == "recovered"
            assert call["recording"] == recorded.of(truth)["id"]
    for truth in meanwhile:
        call = recorded.call(truth)
        # Of one that the sender was late with, there was another worker.
        began = datetime.fromisoformat(call["first_seen"]).timestamp()
        if owner[truth.call_id] == victim and began < killed + RESTART_S:
            assert call["outcome"] in ("missing", "partial")
            assert "recorder restarted" in call["reason"]
    for truth in [*running, *meanwhile, *later]:
        if owner[truth.call_id] != victim or truth in later:
            assert recorded.call(truth)["outcome"] == "complete", recorded.call(truth)["reason"]
            # The sender shares its processor with processes that die and start: it is late at times.
            assert_all_there(recorded, truth, in_time=False)
    assert not list(recorded.spool.path.glob("workers/*"))


def test_the_death_of_the_first_process_ends_all(pair: Pair, tmp_path: Path) -> None:
    """Another daemon finds the spool free, and nobody writing to it."""
    with Workers(tmp_path, pair.here, 2) as recorder:
        processes = recorder.processes().values()
        recorder.program.kill()
        until(lambda: not any(map(alive, processes)), "the end of the workers", 20)
    with Workers(tmp_path, pair.here, 2) as recorder:
        assert len(recorder.processes()) == 2


def owner_of(truth: CallTruth) -> int:
    """Which of three workers records a call."""
    return share_of(*map(endpoint, truth.caller.flows[0]), 3)


def endpoint(address: Address) -> Endpoint:
    return Endpoint(*address)
