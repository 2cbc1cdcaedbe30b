"""`recorderctl doctor`: whether this host can record, and what to do where it cannot."""

import argparse
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
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
from recorderd.spool.layout import Spool
from recorderd.spool.sync import open_remotes
from recorderd.tools.command import Session

OK, WARNING, FAILED = "ok", "warning", "failed"
STYLES: Final = {OK: "green", WARNING: "yellow", FAILED: "red"}

DISK_WARNING: Final = 0.80
DISK_FAILED: Final = 0.95
CAP_NET_RAW: Final = 13
FILES_NEEDED: Final = 4096


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str
    detail: str
    hint: str = ""


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
        yield from _guard("spool", lambda: _spool(Spool(session.spool_path or Path())))
        return
    try:
        config = session.config
    except ConfigError as error:
        yield Check("configuration", FAILED, " | ".join(str(error).splitlines()), error.hint)
        return
    yield Check("configuration", OK, str(session.config_path or "/etc/recorderd/config.yaml"))
    yield from _guard("recipients", lambda: _recipients(config))
    yield from _guard("spool", lambda: _spool(Spool(session.spool_path or config.spool.path)))
    yield from _guard("signing key", lambda: _signing_key(config.signing_key))
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


def _spool(spool: Spool) -> list[Check]:
    if not spool.path.is_dir():
        return [Check("spool", WARNING, f"{spool.path}: not there yet", "the daemon makes it when it starts")]
    checks = []
    if os.access(spool.path, os.W_OK | os.X_OK):
        checks.append(Check("spool", OK, str(spool.path)))
    else:
        checks.append(Check("spool", FAILED, f"{spool.path}: not writable", f"chown it to uid {os.getuid()}"))
    usage = shutil.disk_usage(spool.path)
    share = usage.used / usage.total
    state = FAILED if share >= DISK_FAILED else WARNING if share >= DISK_WARNING else OK
    detail = f"{usage.free / 1e9:.1f} GB free, {share:.0%} used"
    checks.append(Check("disk", state, detail, "free space, or move old recordings off this host"))
    return checks


def _signing_key(path: Path) -> list[Check]:
    if not path.exists():
        return [Check("signing key", WARNING, f"{path}: not there yet", "the daemon makes it when it starts")]
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [Check("signing key", FAILED, f"{path}: readable by others ({mode:04o})", f"chmod 600 {path}")]
    return [Check("signing key", OK, str(path))]


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
    return [Check(f"remote {name}", OK, f"store {identity}" if identity else "reachable, not used yet")]


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
    return [*checks, _load(status), _memory(status["memory"])]


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
