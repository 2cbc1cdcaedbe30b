"""`recorderctl doctor`: whether this host can record, and what to do where it cannot."""

import argparse
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from opuslib_next.api import info as api_info

from recorderd import __version__
from recorderd.alerts.syslog import Syslog
from recorderd.errors import ChecksFailed, ConfigError, RecorderError
from recorderd.service.control import ask
from recorderd.service.opening import recipients_of
from recorderd.service.overload import Level
from recorderd.service.tap import interfaces
from recorderd.spool.budget import Limits
from recorderd.spool.database import NoIndex
from recorderd.spool.free_space import measure
from recorderd.spool.index import Index
from recorderd.spool.index_retention import DESTROYING
from recorderd.spool.layout import Spool
from recorderd.spool.signing import HostPublic, is_credential
from recorderd.spool.sync import open_remotes
from recorderd.tools.checks import FAILED, OK, WARNING, Check
from recorderd.tools.command import Session
from recorderd.tools.ledger_checks import ledger_checks
from recorderd.tools.texts import about, size

STYLES: Final = {OK: "green", WARNING: "yellow", FAILED: "red"}

FULL_SOON_H: Final = 24.0
CAP_NET_RAW: Final = 13
FILES_NEEDED: Final = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(session: Session, arguments: argparse.Namespace) -> int:
    """Check everything; 0, or ChecksFailed' code where something failed."""
    checks = list(_checks(session))
    failed = any(check.state == FAILED for check in checks)
    if session.json:
        session.emit(
            {"ok": not failed, "version": __version__, "checks": [asdict(check) for check in checks]}
        )
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            session.say(f"{check.state:8} {check.name:{width}}  {check.detail}", style=STYLES[check.state])
            if check.hint and check.state != OK:
                session.say(f"{'':8} {'':{width}}  -> {check.hint}")
    return ChecksFailed.exit_code if failed else 0


def _checks(session: Session) -> Iterator[Check]:
    yield from _guard("libopus", lambda: [Check("libopus", OK, api_info.get_version_string().decode())])
    if session.config_path is None and session.spool_path is not None:
        # Without a configuration only the spool can be looked at.
        yield from _guard("spool", lambda: _spool(Spool(session.spool_path or Path()), Limits()))
        return
    try:
        config = session.config
    except ConfigError as error:
        yield Check("configuration", FAILED, " | ".join(str(error).splitlines()), error.hint)
        return
    yield Check("configuration", OK, str(session.config_path or "/etc/recorderd/config.yaml"))
    yield from _guard("recipients", lambda: _recipients(config))
    limits = config.spool.budget.limits
    yield from _guard("spool", lambda: _spool(Spool(session.spool_path or config.spool.path), limits))
    yield from _guard("signing key", lambda: _signing_key(config.signing_key))
    yield from _guard("ledger", lambda: _ledger(config, Spool(session.spool_path or config.spool.path)))
    yield from _guard("retention", lambda: _retention(config, Spool(session.spool_path or config.spool.path)))
    yield from _guard("interfaces", lambda: _interfaces(config))
    yield from _privilege()
    yield from _limits()
    yield from _guard("syslog", lambda: _syslog(config))
    for name, store in open_remotes(config.sync.remotes).items():
        yield from _guard(f"remote {name}", lambda name=name, store=store: _remote(name, store))  # type: ignore[misc]
    yield from _daemon(config.control_socket)


def _guard(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    """A check that raises has failed."""
    try:
        return check()
    except RecorderError as error:
        return [Check(name, FAILED, str(error), error.hint)]
    except OSError as error:
        return [Check(name, FAILED, str(error))]


def _recipients(config: Any) -> list[Check]:
    found = recipients_of(config)
    return [Check("recipients", OK, ", ".join(f"{r.id.hex()} ({r.suite})" for r in found))]


def _spool(spool: Spool, limits: Limits) -> list[Check]:
    if not spool.path.is_dir():
        return [Check("spool", WARNING, f"{spool.path}: not there yet", "the daemon makes it when it starts")]
    checks = []
    if os.access(spool.path, os.W_OK | os.X_OK):
        checks.append(Check("spool", OK, str(spool.path)))
    else:
        checks.append(Check("spool", FAILED, f"{spool.path}: not writable", f"chown it to uid {os.getuid()}"))
    checks.append(_disk(spool, limits))
    return checks


def _disk(spool: Spool, limits: Limits) -> Check:
    """How full it is, of what the recordings may take."""
    try:
        with Index.read(spool) as index:
            used = index.bytes_here()
    except RecorderError:
        used = 0  # nothing of it can be made room of, then
    room = measure(spool.path, used, limits)
    state = FAILED if room.fill >= limits.marks[-1] else WARNING if room.fill >= limits.marks[0] else OK
    detail = (
        f"{size(room.free)} free, {size(max(0, room.left))} of it for recordings;"
        f" {room.fill:.0%} of their room is used"
    )
    return Check("disk", state, detail, 'see "When the disk fills up" in docs/operations.md')


def _ledger(config: Any, spool: Spool) -> list[Check]:
    remotes = [remote.name for remote in config.sync.remotes]
    return list(ledger_checks(config.ledger, spool, remotes, time.time()))


def _signing_key(path: Path) -> list[Check]:
    if is_credential(path):
        told = "given by systemd" if path.exists() else "given by systemd to the running service only"
        return [Check("signing key", OK, f"{path}: {told}")]
    if not path.exists():
        return [Check("signing key", WARNING, f"{path}: not there yet", "the daemon makes it when it starts")]
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [Check("signing key", FAILED, f"{path}: readable by others ({mode:04o})", f"chmod 600 {path}")]
    return [Check("signing key", OK, str(path))]


def _retention(config: Any, spool: Spool) -> list[Check]:
    """Nothing where recordings are kept for ever."""
    retention = config.retention
    if not retention.classes:
        return []
    for path in retention.approvers:
        HostPublic.load(path)
    told = f"{len(retention.classes)} classes, {len(retention.approvers)} approvers"
    if not retention.approvers:
        return [Check("retention", WARNING, told, "without retention.approvers nothing can be destroyed")]
    with contextlib.suppress(NoIndex), Index.read(spool) as index:
        unfinished = len(index.recordings(state=DESTROYING))
        if unfinished:
            detail = f"{unfinished} recordings are not destroyed completely"
            return [Check("retention", WARNING, detail, "run the same `recorderctl purge` again")]
    return [Check("retention", OK, told)]


def _interfaces(config: Any) -> list[Check]:
    checks = []
    for name in interfaces(config):
        link = Path("/sys/class/net") / name
        if not link.exists():
            checks.append(Check(f"interface {name}", FAILED, "no such interface", "see `ip link`"))
            continue
        up = int((link / "flags").read_text(), 16) & 1
        checks.append(
            Check(
                f"interface {name}", OK if up else WARNING, "up" if up else "down", f"ip link set {name} up"
            )
        )
    return checks


def _privilege() -> list[Check]:
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    if effective >> CAP_NET_RAW & 1:
        return [Check("privilege", OK, "CAP_NET_RAW")]
    hint = "systemd gives it to the daemon; by hand, run as root"
    return [Check("privilege", WARNING, "no CAP_NET_RAW for this user: cannot capture", hint)]


def _limits() -> list[Check]:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    state = OK if hard >= FILES_NEEDED else WARNING
    return [Check("open files", state, f"at most {hard}", "raise LimitNOFILE: a recording is one open file")]


def _syslog(config: Any) -> list[Check]:
    syslog = config.alerts.syslog
    if not syslog.enabled:
        return [Check("syslog", WARNING, "alerts are off", "set alerts.syslog.enabled")]
    if syslog.address.startswith("/") and not Path(syslog.address).exists():
        return [Check("syslog", FAILED, f"{syslog.address}: no such socket", "is a syslog daemon running?")]
    Syslog(syslog.address, syslog.facility, host=config.site.name).close()
    return [Check("syslog", OK, f"{syslog.address}, {syslog.facility}")]


def _remote(name: str, store: Any) -> list[Check]:
    identity = store.probe()
    checks = [Check(f"remote {name}", OK, f"store {identity}" if identity else "reachable, not used yet")]
    for finding in store.examine():
        # What could not be found out is not said to be well.
        state = OK if finding.ok else WARNING
        unknown = "could not be found out: " if finding.ok is None else ""
        hint = 'see "Remotes" in docs/operations.md'
        checks.append(Check(f"remote {name}", state, f"{finding.what}: {unknown}{finding.detail}", hint))
    return checks


def _daemon(socket: Path) -> list[Check]:
    status = ask(socket)
    if status is None:
        hint = "systemctl status recorderd-capture, or start `recorderd run`"
        return [Check("daemon", WARNING, f"not running (nobody answers at {socket})", hint)]
    checks = [Check("daemon", OK, f"running; {status['calls']} calls, {status['recording']} recording")]
    if "workers" in status:
        checks.append(_workers(status))
    drops = sum(ring["drops"] for ring in status["rings"])
    packets = sum(ring["packets"] for ring in status["rings"])
    state = WARNING if drops else OK
    checks.append(
        Check(
            "capture",
            state,
            f"{packets} packets, {drops} dropped by the kernel;"
            f" the ring was {status['ring_fullest']:.0%} full at most",
            "raise capture.media_ring_mb",
        )
    )
    return [*checks, _load(status), _room(status.get("room", {})), _memory(status["memory"])]


def _room(room: dict[str, Any]) -> Check:
    """Whether calls that begin are recorded, and for how long that goes on."""
    hint = 'see "When the disk fills up" in docs/operations.md'
    if room.get("level") == "no_new_calls":
        return Check("room", FAILED, "calls that begin are not recorded: the disk is full", hint)
    seconds = room.get("full_in_s")
    if seconds is None:
        return Check("room", OK, "calls that begin are recorded; the room does not get less")
    state = OK if seconds >= FULL_SOON_H * 3600 else WARNING
    return Check("room", state, f"at the pace of the last hour it is used up in {about(seconds)}", hint)


def _load(status: dict[str, Any]) -> Check:
    """Whether anything was left out for lack of time."""
    level, counters = status["level"], status["counters"]
    refused, given_up = counters.get("calls_refused", 0), counters.get("calls_given_up", 0)
    detail = "everything is recorded and measured"
    if level != Level.NONE.name.lower():
        detail = Level[level.upper()].told
    if refused or given_up:
        detail += f"; so far {refused} calls not recorded, {given_up} given up"
    hint = "the host cannot carry so many calls: see capture.workers, or give it more processors"
    return Check("load", OK if level == "none" and not (refused or given_up) else WARNING, detail, hint)


def _memory(memory: dict[str, float]) -> Check:
    detail = f"{memory['own_mb']:.0f} MB of its own, {memory['mapped_mb']:.0f} MB mapped (rings, libraries)"
    if "page_cache_mb" in memory:
        detail += f"; page cache of the unit {memory['page_cache_mb']:.0f} MB, the kernel's to give back"
    return Check("memory", OK, detail)


def _workers(status: dict[str, Any]) -> Check:
    workers = status["workers"]
    running = [worker for worker in workers if worker["state"] == "running"]
    calls = ", ".join(f"worker {w['number']} records {w['recording']}" for w in running)
    again = f"; {status['restarts']} restarts" if status["restarts"] else ""
    detail = f"{len(running)} of {len(workers)} running: {calls}{again}"
    all_well = len(running) == len(workers) and not status["restarts"]
    return Check("workers", OK if all_well else WARNING, detail, "journalctl -u recorderd-capture")
