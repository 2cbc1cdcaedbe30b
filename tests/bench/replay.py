"""Runs the recorder over a capture file and says what that cost."""

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BINARIES = Path(sys.executable).parent

_MADV_POPULATE_WRITE = 23  # madvise(2), since Linux 5.14


@dataclass(frozen=True)
class Run:
    """What one replay cost, children included; ``stages`` in CPU seconds, as the recorder tells them."""

    cpu_s: float
    wall_s: float
    peak_rss_mb: float
    stages: dict[str, float]


def replay(capture: Path, config: Path, spool: Path, folder: Path) -> Run:
    """Record a capture file into a new spool. Leaves with the recorder's output where it fails."""
    stages, log = folder / "stages.json", folder / "replay.log"
    command = [str(BINARIES / "recorderd"), "replay", str(capture), "-c", str(config), "--spool", str(spool)]
    command += ["--stages", str(stages)]
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{log.read_text(errors='replace')}")
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, json.loads(stages.read_text()))


def touch(size: int) -> None:
    """Use so many bytes of memory and give them back, in a process of its own.

    A hypervisor may have taken back what the machine had no use for, and giving it once more costs a fault a
    page, in the time of whoever asks first: more than a tenth of what is measured, and no part of it.
    """
    code = f"import mmap; mmap.mmap(-1, {size}).madvise({_MADV_POPULATE_WRITE})"
    subprocess.run([sys.executable, "-c", code], check=True)


def empty_capture(folder: Path) -> Path:
    """A capture file without a packet: its replay is nothing but the start and the end of the program."""
    path = folder / "empty.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
    return path


def prepare(folder: Path, **sections: object) -> Path:
    """Keys, ``identity`` in the folder, and the smallest configuration with these sections; its file."""
    identity = folder / "identity"
    keygen = [str(BINARIES / "recorderctl"), "keygen", "-o", str(identity)]
    subprocess.run(keygen, check=True, stdout=subprocess.DEVNULL)
    config = folder / "config.yaml"
    document = {
        "site": {"name": "bench"},
        "alerts": {"syslog": {"enabled": False}},
        "spool": {"path": str(folder / "spool")},
        "encryption": {"recipients": [f"{identity}.pub"]},
        **sections,
    }
    config.write_text(json.dumps(document))  # JSON is YAML
    return config
