"""A real OpenStack Swift with its S3 API on loopback: one proxy, one disk that is a folder."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.loopback import HOST, free_tcp_port, listens
from tests.live.process import Program, until

PROGRAMS = (
    "swift-proxy-server",
    "swift-account-server",
    "swift-container-server",
    "swift-object-server",
    "swift-ring-builder",
    "memcached",
)
ACCESS, SECRET = "team:recorder", "testing"
STRANGER = "team:stranger"
# As the proxies of Debian's package are, with the parts that S3 needs.
_PIPELINE = "catch_errors cache listing_formats s3api tempauth copy slo versioned_writes symlink proxy-server"
_FILTERS = {
    "catch_errors": "catch_errors",
    "cache": "memcache",
    "listing_formats": "listing_formats",
    "s3api": "s3api",
    "tempauth": "tempauth",
    "copy": "copy",
    "slo": "slo",
    "versioned_writes": "versioned_writes",
    "symlink": "symlink",
}


needs_swift = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS),
    reason="needs root and Debian's swift-proxy, swift-account, swift-container, swift-object and memcached",
)


@dataclass(frozen=True)
class Swift:
    """One that runs; ``url`` is the endpoint, ``programs`` its servers by what they are for."""

    url: str
    programs: dict[str, Program]
    ports: dict[str, int]

    def start(self, name: str) -> None:
        """Start one that was stopped, and see it listen."""
        self.programs[name].start()
        until(lambda: listens(self.ports[name]), f"the {name} server listens", 60)


@contextmanager
def swift(folder: Path) -> Iterator[Swift]:
    """Run one, with all that it keeps under ``folder``."""
    disk = folder / "disk" / "d1"
    disk.mkdir(parents=True)
    try:
        os.setxattr(disk, "user.recorderd", b"1")
    except OSError as error:
        raise RuntimeError(f"{folder}: no extended attributes: {error.strerror}") from None
    kinds = ("account", "container", "object")
    ports: dict[str, int] = {}
    for name in (*kinds, "proxy", "cache"):
        while (port := free_tcp_port()) in ports.values():
            pass
        ports[name] = port
    for kind in kinds:
        _ring(folder, kind, ports[kind])
        _storage_server(folder, kind, ports[kind])
    _proxy(folder, ports["proxy"], ports["cache"])
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    log = folder / "swift.log"
    memcached = ["memcached", "-l", HOST, "-p", str(ports["cache"]), "-U", "0", "-m", "16", "-u", "nobody"]
    commands = {kind: [f"swift-{kind}-server", str(folder / f"{kind}.conf")] for kind in (*kinds, "proxy")}
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context(Program(command, log))
            for name, command in ({"cache": memcached} | commands).items()
        }
        # Until all are there, or one is gone.
        until(
            lambda: all(map(listens, ports.values())) or not all(each.running for each in programs.values()),
            f"the servers of Swift listen; see {log}",
            60,
        )
        assert all(map(listens, ports.values())), log.read_text()
        yield Swift(f"http://{HOST}:{ports['proxy']}", programs, ports)


def _ring(folder: Path, kind: str, port: int) -> None:
    """Where things are: all on the one disk."""
    builder = str(folder / f"{kind}.builder")
    for arguments in (
        ["create", "4", "1", "1"],
        ["add", f"r1z1-{HOST}:{port}/d1", "1"],
        ["rebalance"],
    ):
        done = subprocess.run(["swift-ring-builder", builder, *arguments], capture_output=True, text=True)
        # 1 is a warning: the ring has one disk.
        assert done.returncode <= 1, done.stdout + done.stderr


def _common(folder: Path, port: int) -> str:
    return (
        f"[DEFAULT]\nbind_ip = {HOST}\nbind_port = {port}\nworkers = 0\nuser = {_user()}\n"
        f"swift_dir = {folder}\nlog_address = {folder}/none\nlog_level = WARNING\n"
    )


def _storage_server(folder: Path, kind: str, port: int) -> None:
    (folder / f"{kind}.conf").write_text(
        _common(folder, port) + f"devices = {folder}/disk\nmount_check = false\nfallocate_reserve = 0\n"
        f"[pipeline:main]\npipeline = {kind}-server\n"
        f"[app:{kind}-server]\nuse = egg:swift#{kind}\nrecon_cache_path = {folder}\n"
    )


def _proxy(folder: Path, port: int, cache: int) -> None:
    more = {
        "cache": f"memcache_servers = {HOST}:{cache}\n",
        "s3api": "location = eu-test-1\ns3_acl = false\n",
        "tempauth": f"user_team_recorder = {SECRET} .admin\nuser_team_stranger = {SECRET}\n",
        "versioned_writes": "allow_object_versioning = true\n",
    }
    text = _common(folder, port) + f"[pipeline:main]\npipeline = {_PIPELINE}\n"
    text += "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    for name, egg in _FILTERS.items():
        text += f"[filter:{name}]\nuse = egg:swift#{egg}\n{more.get(name, '')}"
    (folder / "proxy.conf").write_text(text)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
