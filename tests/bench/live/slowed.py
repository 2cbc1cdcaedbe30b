"""Lets a running process have only a share of one processor, so that few calls are too many for it."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PERIOD_US: Final = 50_000
_LEAST_US: Final = 1000  # what the kernel takes for a quota

_GROUPS = Path("/sys/fs/cgroup")
_KINDS = ("cpu", "cpu,cpuacct", "")  # version 1, as most mount it, then version 2


@contextlib.contextmanager
def slowed(pid: int, share: float) -> Iterator[str]:
    """The process, all its threads together, has this share of a processor; yields how: ``quota`` of a
    control group or, where none can be made, ``signals``.
    """
    group = _group(pid, share)
    if group is None:
        with _on_and_off(pid, share):
            yield "signals"
        return
    try:
        yield "quota"
    finally:
        with contextlib.suppress(OSError):  # it may have ended
            (group.parent / "cgroup.procs").write_text(str(pid))
        with contextlib.suppress(OSError):
            group.rmdir()


def _group(pid: int, share: float) -> Path | None:
    """A control group with the process in it (the kernel's Documentation/scheduler/sched-bwc.rst)."""
    quota = max(_LEAST_US, round(share * _PERIOD_US))
    for kind in _KINDS:
        group = _GROUPS / kind / f"slowed-{pid}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / "cpu.cfs_quota_us").exists():
                (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                # A group without this control does not have the file, and none is made here.
                with (group / "cpu.max").open("r+") as limit:
                    limit.write(f"{quota} {_PERIOD_US}")
            (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@contextlib.contextmanager
def _on_and_off(pid: int, share: float) -> Iterator[None]:
    """Stop and continue it, a period after the other."""
    over = threading.Event()
    on_s, period_s = share * _PERIOD_US / 1e6, _PERIOD_US / 1e6

    def drive() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not over.wait(on_s):
                os.kill(pid, signal.SIGSTOP)
                over.wait(period_s - on_s)
                os.kill(pid, signal.SIGCONT)

    driver = threading.Thread(target=drive, daemon=True)
    driver.start()
    try:
        yield
    finally:
        over.set()
        driver.join()
