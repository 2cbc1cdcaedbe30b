"""72 hours without any remote, in minutes: recordings go on, the clock jumps, and whoever carries is killed
again and again. In the end every remote verifiably has everything, once."""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import yaml

from recorderd.spool.index import Index
from recorderd.spool.stores import LocalStore
from tests.faults.carrier import Clock
from tests.s3_builder import credentials_file
from tests.simulators.s3_server import REGION, S3Server
from tests.spool_builder import STARTED_NS, Desk, make_desk
from tests.tools_runner import recorderctl

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
YEARS = 5 * 365 * 24 * HOUR
OUTAGE_H = 72
STEPS = 48
RECORDINGS = 200, 10_000
JUMPS = {5: HOUR, 9: -HOUR, 14: YEARS, 15: -YEARS, 22: -YEARS, 23: YEARS, 30: YEARS, 33: -YEARS}
KILLED_AT = {8, 15, 23}, {3, 8, 14, 15, 22, 23, 31, 40}
KILLED_AFTER = 2, 4
"""How often the carrier is killed while it catches up with a remote."""
PATIENCE_S = 60, 1500
SMALL = {"windows": 1, "packets": 50, "size": 160}


class Site:
    """A spool, two remotes, and whoever carries."""

    def __init__(self, folder: Path, remotes: list[dict[str, object]]) -> None:
        self.folder = folder
        self.desk: Desk = make_desk(folder)
        self.config = folder / "config.yaml"
        document = {
            "spool": {"path": str(self.desk.spool.path)},
            "encryption": {"recipients": [str(folder / "identity.pub")], "suite": "x25519"},
            "sync": {"remotes": remotes},
        }
        self.config.write_text(yaml.safe_dump(document))
        self.names = [str(remote["name"]) for remote in remotes]
        self.clock = Clock(folder / "clock")
        self.clock.set(STARTED_NS)
        self.puts = folder / "puts"
        self.puts.touch()
        self.log = (folder / "log").open("ab")
        self.made = 0
        self.child: subprocess.Popen[bytes] | None = None

    def record(self, count: int, index: Index) -> None:
        for _ in range(count):
            sealed = self.desk.record(self.made, **SMALL)
            self.desk.enter(index, sealed, self.made)
            self.made += 1

    def start(self) -> None:
        arguments = [str(self.config), str(self.clock.path), str(self.puts)]
        command = [sys.executable, "-m", "tests.faults.carrier", *arguments]
        self.child = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        if self.child is not None:
            assert self.child.poll() is None, (self.folder / "log").read_text()
            self.child.kill()
            self.child.wait()
            self.child = None

    def again(self) -> None:
        self.kill()
        self.start()

    def pass_time(self, ns: int) -> None:
        self.clock.set(self.clock() + ns)

    def missing(self, index: Index) -> int:
        return sum(index.sync_backlog(name)["recordings"] for name in self.names)

    def until_carried(self, index: Index, patience_s: float) -> tuple[float, int]:
        """Seconds that it took from the first on, and how many were carried in them."""
        last = first = time.monotonic() + patience_s
        begun = missing = self.missing(index)
        while missing:
            assert time.monotonic() < last, (self.folder / "log").read_text()[-4000:]
            assert self.child is None or self.child.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
            self.pass_time(20 * SECOND)
            missing = self.missing(index)
            if missing < begun and first > time.monotonic():
                first = time.monotonic()
        return time.monotonic() - first, begun


def disk_speed(files: list[Path], target: Path) -> float:
    """Copy and fsync, one after the other: files a second."""
    target.mkdir()
    begun = time.monotonic()
    for path in files:
        copy = target / path.name
        shutil.copyfile(path, copy)
        descriptor = os.open(copy, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return len(files) / (time.monotonic() - begun)


def loopback_speed(files: list[Path]) -> float:
    """Send each over TCP and wait for an answer: files a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer, peer.makefile("rb") as stream:
                while size := stream.read(8):
                    stream.read(int.from_bytes(size, "big"))
                    peer.sendall(b"\0")

        thread = threading.Thread(target=answer)
        thread.start()
        begun = time.monotonic()
        with socket.create_connection(server.getsockname()) as client:
            for path in files:
                data = path.read_bytes()
                client.sendall(len(data).to_bytes(8, "big") + data)
                client.recv(1)
        taken = time.monotonic() - begun
        thread.join()
    return len(files) / taken


def live_outage(site: Site, index: Index, count: int, thorough: bool, chance: random.Random) -> None:
    """Recordings come in, the clock jumps, and the carrier is killed."""
    site.record(count // 20, index)
    site.start()
    for step in range(STEPS):
        done = count // 20 + (count - count // 20) * (step + 1) // STEPS
        site.record(done - site.made, index)
        site.pass_time(OUTAGE_H * HOUR // STEPS + JUMPS.get(step, 0))
        if step in KILLED_AT[thorough]:
            time.sleep(chance.uniform(0.0, 0.4))
            site.again()
    # Enough for it to look at least once more.
    time.sleep(1.5)


def told_speed(site: Site, taken: float, carried: int, what: str) -> None:
    files = sorted(site.desk.spool.recordings.rglob("*.rec"))
    size = sum(path.stat().st_size for path in files) / len(files)
    rate = carried / len(site.names) / taken
    sample = [path for path in sorted(site.desk.spool.recordings.rglob("*.*")) if path.is_file()][:900]
    disk, loopback = disk_speed(sample, site.folder / "speed") / 3, loopback_speed(sample) / 3
    print(
        f"\n{what}: {rate:.0f} recordings/s and {rate * size / 1e6:.2f} MB/s to each of {len(site.names)}"
        f" remotes ({size / 1e3:.1f} kB each, three files); cp+fsync here {disk:.0f} recordings/s,"
        f" loopback {loopback:.0f} recordings/s"
    )


def put_once(site: Site, remote: str) -> None:
    puts = Counter(
        name for each, name in (line.split() for line in site.puts.read_text().splitlines()) if each == remote
    )
    assert {name: count for name, count in puts.items() if count > 1} == {}


def expected(site: Site) -> dict[str, bytes]:
    spool = site.desk.spool
    files = {f"{path.parent.name}/{path.name}": path for path in spool.recordings.rglob("*Z-*")}
    return {
        **{name: path.read_bytes() for name, path in files.items()},
        "host.pub": spool.host_public_path.read_bytes(),
    }


def all_verified(index: Index, count: int) -> None:
    rows = index.recordings()
    assert len(rows) == count
    assert {each["state"] for row in rows for each in row["sync"]} == {"verified"}


def test_three_days_without_a_remote(tmp_path: Path, thorough: bool) -> None:
    count, chance = RECORDINGS[thorough], random.Random(7)
    folders = {name: tmp_path / name for name in ("nas", "vault")}
    for folder in folders.values():
        LocalStore.create(folder)
    site = Site(
        tmp_path, [{"name": name, "type": "file", "path": str(path)} for name, path in folders.items()]
    )
    with Index.open(site.desk.spool) as index:
        try:
            index.set_remotes(site.names)
            for folder in folders.values():
                folder.rename(folder.with_name(folder.name + ".away"))
            live_outage(site, index, count, thorough, chance)
            assert site.missing(index) == count * 2
            assert site.puts.read_text() == ""
            # They come back, first one and then the other; the carrier is killed in the midst.
            for name, folder in folders.items():
                folder.with_name(f"{name}.away").rename(folder)
                site.pass_time(HOUR)
                for _ in range(KILLED_AFTER[thorough]):
                    time.sleep(chance.uniform(0.4, 1.2))
                    site.again()
            taken, carried = site.until_carried(index, PATIENCE_S[thorough])
        finally:
            site.kill()
        all_verified(index, count)
        told_speed(site, taken, carried, "after 72 h")
    wanted = expected(site)
    for name, folder in folders.items():
        found = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        assert found == wanted
        put_once(site, name)


def test_a_bucket_that_fails_and_lies_meanwhile(tmp_path: Path, thorough: bool) -> None:
    count, chance = RECORDINGS[thorough] // 3, random.Random(8)
    with S3Server() as server:
        remote = {
            "name": "bucket",
            "type": "s3",
            "bucket": "recordings",
            "endpoint": server.url,
            "allow_http": True,
            "region": REGION,
            "credentials_file": str(credentials_file(tmp_path)),
            "parallel": 4,
        }
        site = Site(tmp_path, [remote])
        with Index.open(site.desk.spool) as index:
            try:
                index.set_remotes(site.names)
                for operation in ("Get", "Put", "Head"):
                    server.fault(operation, (503, "SlowDown"), times=1 << 40)
                live_outage(site, index, count, thorough, chance)
                assert site.missing(index) == count
                server.faults.clear()
                for kind in ("reset", "reset-after", "twice", "lost"):
                    server.fault("Put", kind, 5, ".rec")
                server.fault("Get", "cut", 5, ".rec")
                server.fault("Put", "wrong-bytes", 3, ".rec")
                for _ in range(KILLED_AFTER[thorough]):
                    site.pass_time(HOUR)
                    time.sleep(chance.uniform(1.0, 2.0))
                    site.again()
                taken, carried = site.until_carried(index, PATIENCE_S[thorough])
            finally:
                site.kill()
            all_verified(index, count)
            told_speed(site, taken, carried, "to a bucket, after 72 h")
            damages = [alert for alert in index.alerts_pending(1000) if alert["kind"] == "remote-damage"]
    wanted = expected(site)
    objects = server.bucket.objects
    found = {key: versions[-1].data for key, versions in objects.items() if not key.startswith(".")}
    assert found == wanted
    again = {key: len(versions) for key, versions in objects.items() if len(versions) > 1}
    assert len(again) <= 3, again  # what was stored with a bit changed, and nothing else
    assert damages
    assert list((site.desk.spool.path / "evidence").glob("*.json"))


def test_the_progress_is_told_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    site = Site(
        tmp_path, [{"name": "nas", "type": "file", "path": str(tmp_path / "nas"), "bandwidth": 20_000}]
    )
    with Index.open(site.desk.spool) as index:
        site.record(30, index)
        try:
            site.start()
            seen: list[dict[str, object]] = []
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline and not any(each["eta_s"] for each in seen):
                time.sleep(0.2)
                site.clock.set(time.time_ns())
                answer = recorderctl("-c", site.config, "sync", "--status", "--json")
                (status,) = answer.json["remotes"]
                seen.append(status)
        finally:
            site.kill()
    last = seen[-1]
    assert 0 < last["pending"] < 30, seen
    assert last["pending_bytes"] > 0
    assert last["bytes_per_s"] > 0
    assert last["eta_s"] > 0
