"""The host has public keys only: its raw disk has no private key, no data key and no sound, at any time."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recorderd.spool.header import derive_keys
from recorderd.spool.keys import open_header
from recorderd.spool.layout import Spool
from recorderd.spool.reader import Recording
from recorderd.spool.slot_files import slots_beside
from tests.faults.moments import stopped
from tests.faults.raw_search import RUN, runs_in
from tests.faults.scene import Scene
from tests.simulators.g711 import decode
from tests.test_power_cut import Disk

pytestmark = pytest.mark.live


def secrets_of(scene: Scene, spool: Spool) -> dict[str, bytes]:
    """The identity, and of every recording the data key and what is derived from it."""
    found = {}
    for line in scene.installation.identity.read_text().splitlines():
        if line.startswith("recorderd-identity-1 "):
            found["identity, as text"] = line.split()[-1].encode()
            found["identity"] = base64.b64decode(line.split()[-1])
    for name in spool.records():
        path = spool.record_path(name)
        with Recording.open(path, scene.identities) as recording:
            header = recording.header
        slots = slots_beside(path, header)
        data_key = open_header(header, scene.identities, slots.slots if slots else ())
        keys = derive_keys(data_key, header.salt, header.core.to_bytes())
        found[f"data key of {name}"] = data_key
        found[f"record key of {name}"] = keys.record_key
    return found


def sound_of(scene: Scene) -> dict[str, bytes]:
    """What the calls sounded like, as it came and as 16-bit samples."""
    coded = b"".join(payload for key, payload in sorted(scene.whole.packets.items()) if len(payload) > RUN)
    return {"coded": coded, "samples": decode("pcmu", np.frombuffer(coded, np.uint8)).astype("<i2").tobytes()}


def leaks(image: Path, secrets: dict[str, bytes], sound: dict[str, bytes]) -> list[str]:
    """What of all that is on a disk."""
    raw = image.read_bytes()
    found = []
    for name, secret in secrets.items():
        spelled = (secret, secret.hex().encode(), base64.b64encode(secret))
        found += [name] * any(form in raw for form in spelled)
    found += [name for name, data in sound.items() if runs_in(image, data)]
    # What is in a record of keys pressed, and nowhere else.
    return found + ["digits"] * (b'"digit"' in raw)


def test_no_secret_ever_touches_the_disk(scene: Scene, tmp_path: Path) -> None:
    """Killed in mid-call, recovered, sealed and carried to a second folder on the same disk."""
    disk = Disk(tmp_path / "disk", "ext4")
    try:
        spool = Spool(disk.mount / "spool")
        for pause_s in (0.35, 0.2, 0.1, 0.05, 0.0):
            stopped(scene, spool.path, pause_s)
            if list(spool.parts()):  # not all calls were over yet
                break
        run = scene.run(spool=spool.path)
        assert run.code == 0, run.log
        scene.settle(run)
        carry(scene, disk.mount, tmp_path)
        assert {row["state"] for row in run.recordings} == {"recovered", "sealed"}
        secrets, sound = secrets_of(scene, spool), sound_of(scene)
        assert len(secrets) == 2 + 2 * len(run.recordings)
        assert len(sound["coded"]) > 100_000
        sync(disk.mount)
        assert leaks(disk.image, secrets, sound) == []

        # The search finds what there is to be found.
        planted = {**secrets, **sound, "digits": b'{"digit":"4"}'}
        for number, (name, secret) in enumerate(planted.items()):
            start = len(secret) // 2 if name in sound else 0
            content = os.urandom(number) + secret[start : start + 2 * RUN] + os.urandom(9)
            (disk.mount / f"planted-{number}").write_bytes(content)
        sync(disk.mount)
        assert sorted(leaks(disk.image, secrets, sound)) == sorted(planted)
    finally:
        disk.unmount()


def carry(scene: Scene, mount: Path, folder: Path) -> None:
    """Copy everything to a remote on the same disk."""
    (mount / "remote").mkdir()
    document = json.loads(scene.installation.config.read_text())
    document["spool"] = {"path": str(mount / "spool")}
    document["sync"] = {"remotes": [{"name": "second", "type": "file", "path": str(mount / "remote")}]}
    config = folder / "config.yaml"
    config.write_text(json.dumps(document))
    command = [str(Path(sys.executable).parent / "recorderctl"), "-c", str(config), "sync"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((mount / "remote").rglob("*.rec"))


def sync(folder: Path) -> None:
    """Have everything of a file system in its image."""
    subprocess.run(["sync", "-f", str(folder)], check=True)
