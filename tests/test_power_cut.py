"""The power fails: FS_IOC_SHUTDOWN takes a mounted file system away with all that is not on its disk.

The disk is an image file. A copy of it, taken after the cut, is what a machine would find when it boots.
"""

import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from recorderd.service.commit import Ended, GroupCommit
from recorderd.spool.keys import load_identities
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.recovery import recover
from recorderd.spool.signing import HostKey
from recorderd.spool.verify import verify
from tests.spool_builder import fill, make_desk, summary, window
from tests.test_commit import NEVER_S, Kept

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]

FS_IOC_SHUTDOWN = 0x8004587D
WITHOUT_LOG_FLUSH = struct.pack("I", 2)  # linux/fs.h: FS_SHUTDOWN_FLAGS_NOLOGFLUSH
SIZE_MB = {"ext4": 48, "xfs": 320}
ROUNDS = 40
CALLS = 6
CUTS = 6


class Disk:
    """A file system in an image file, mounted."""

    def __init__(self, folder: Path, kind: str) -> None:
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"needs mkfs.{kind}")
        folder.mkdir()
        self.image, self.mount = folder / "image", folder / "mount"
        # The copy has the name of the disk that may still be going away.
        self._options = "loop,nouuid" if kind == "xfs" else "loop"
        with self.image.open("wb") as file:
            file.truncate(SIZE_MB[kind] << 20)
        subprocess.run([f"mkfs.{kind}", "-q", str(self.image)], check=True, capture_output=True)
        if self._mount(self.image):
            pytest.skip("image files cannot be mounted here")

    def _mount(self, image: Path) -> str:
        """Mount; why it cannot be done, if so."""
        self.mount.mkdir(exist_ok=True)
        command = ["mount", "-o", self._options, str(image), str(self.mount)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stderr if done.returncode else ""

    def cut(self) -> None:
        """The power fails now."""
        descriptor = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, WITHOUT_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def boot(self) -> None:
        """Mount what the disk has."""
        copy = self.image.with_name("copy")
        shutil.copy(self.image, copy)
        self.unmount()
        wrong = self._mount(copy)
        assert not wrong, wrong

    def unmount(self) -> None:
        """Let it go, whatever its state is."""
        subprocess.run(["umount", "--lazy", str(self.mount)], check=False, capture_output=True)


def record(folder: Path, tell) -> None:
    """Record overlapping calls, a window a round and a commit after each; tell what is committed."""
    desk = make_desk(folder)

    class Telling(Kept):
        def sealed(self, ended, sealed) -> None:
            tell(f"sealed {sealed.recording}\n".encode())

        def trouble_met(self, error) -> None:
            os._exit(1)  # the disk is gone, and so is the machine

    kept = Telling()
    commit = GroupCommit(desk.spool, kept, NEVER_S)
    windows: dict[str, int] = {}
    for number in range(ROUNDS):
        kept.writers.append(desk.start(number))
        fill(kept.writers[-1], 0)
        for writer in kept.writers:
            done = windows.get(writer.recording_id, 0)
            writer.media(*window(done))
            windows[writer.recording_id] = done + 1
        if len(kept.writers) > CALLS:
            commit.seal(Ended(kept.writers.pop(0), summary(number), {}))
        commit.settle()
        for writer in kept.writers:
            tell(f"kept {writer.recording_id} {windows[writer.recording_id]}\n".encode())
    os._exit(0)


def record_until_cut(disk: Disk, after: int, pause_s: float) -> tuple[set[str], dict[str, int]]:
    """Record in another process and cut the power some time after it told ``after`` lines.

    Returns what was told to be sealed, and how many windows of each other recording were committed.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            record(disk.mount, theirs.sendall)
        finally:
            os._exit(1)
    theirs.close()
    lines = []
    with ours, ours.makefile("rb") as stream:
        for line in stream:
            lines.append(line)
            if len(lines) == after:
                break
        time.sleep(pause_s)
        disk.cut()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lines += stream.readlines()
    sealed = {words[1] for words in map(str.split, map(bytes.decode, lines)) if words[0] == "sealed"}
    kept = {w[1]: int(w[2]) for w in map(str.split, map(bytes.decode, lines)) if w[0] == "kept"}
    return sealed, kept


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_loses_nothing_that_was_committed(tmp_path, kind):
    chance = random.Random(2026)
    for number in range(CUTS):
        disk = Disk(tmp_path / str(number), kind)
        try:
            sealed, kept = record_until_cut(disk, chance.randrange(40, 240), chance.uniform(0, 0.02))
            disk.boot()
            assert_all_there(disk.mount, sealed, kept)
        finally:
            disk.unmount()
        shutil.rmtree(disk.image.parent, ignore_errors=True)


def assert_all_there(folder: Path, sealed: set[str], kept: dict[str, int]) -> None:
    spool = Spool(folder / "spool")
    signer = HostKey.load_or_create(spool.host_key_path)
    identities = load_identities([folder / "identity"])
    states = {found.recording: found.state for found in recover(spool, None, signer)}
    assert all(states.get(name, "sealed") == "sealed" for name in sealed)
    names = set(spool.records())
    assert sealed | set(kept) <= names
    assert sealed
    for name in names:
        verdict = verify(spool, name, signer.public, identities)
        assert verdict.ok, verdict.problems
        assert verdict.state == "sealed" or name not in sealed
        with Recording.open(spool.record_path(name), identities) as recording:
            media = list(recording.media())
        assert len(media) >= kept.get(name, 0)
        assert all((each.payload == window(at)[2]).all() for at, each in enumerate(media))
