"""A real Ceph with its S3 gateway on loopback: one monitor, one disk in memory. It locks in earnest."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live.loopback import HOST, free_tcp_port, listens
from tests.live.process import Program, until

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS, SECRET = "AKIACEPH", "testing"
_CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = [v1:{host}:{mon}]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 0
ms bind ipv6 = false
osd objectstore = memstore
memstore device bytes = 536870912
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint={host}:{rgw}
"""

needs_ceph = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS),
    reason="needs root and Debian's radosgw, ceph-mon and ceph-osd",
)


@contextmanager
def ceph(folder: Path) -> Iterator[str]:
    """Run one, with all that it keeps under ``folder``; gives the endpoint."""
    mon, rgw, cluster, osd = free_tcp_port(), free_tcp_port(), uuid.uuid4(), uuid.uuid4()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    file, log, monmap = folder / "ceph.conf", folder / "log", folder / "monmap"
    file.write_text(_CONFIGURATION.format(cluster=cluster, host=HOST, mon=mon, rgw=rgw, folder=folder))
    given = ["-c", str(file)]
    _run("monmaptool", "--create", "--addv", "a", f"[v1:{HOST}:{mon}]", "--fsid", str(cluster), str(monmap))
    _run("ceph-mon", *given, "--mkfs", "-i", "a", "--monmap", str(monmap))
    with ExitStack() as stack:
        stack.enter_context(Program(["ceph-mon", *given, "-i", "a", "-f"], log))
        until(lambda: listens(mon), f"the monitor listens; see {folder}", 30)
        _run("ceph", *given, "osd", "new", str(osd), "0")
        _run("ceph-osd", *given, "-i", "0", "--mkfs", "--osd-uuid", str(osd))
        disk = stack.enter_context(Program(["ceph-osd", *given, "-i", "0", "-f"], log))
        stack.enter_context(Program(["radosgw", *given, "-n", "client.rgw.a", "-f"], log))

        def serves() -> bool:
            if not disk.running:
                disk.start()  # it ended: it had asked the monitor before it knew which cluster it is of
            return listens(rgw)

        until(serves, f"the gateway listens; see {folder}", 90)
        keys = ["--access-key", ACCESS, "--secret", SECRET]
        _run("radosgw-admin", *given, "user", "create", "--uid=rec", "--display-name=rec", *keys)
        yield f"http://{HOST}:{rgw}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
