"""The systemd units: locked down as promised, and starting commands that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from recorderd.errors import ConfigError, UsageError
from recorderd.service.cli import COMMANDS

UNITS = Path(__file__).parent.parent / "systemd"
SERVICES = ["recorderd-capture.service", "recorderd-outbox.service"]


def exposure(unit: str) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    level = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert level, done.stdout
    return float(level[1])


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_exposure() -> None:
    capture, outbox = map(exposure, SERVICES)
    assert capture <= 2.0
    assert outbox < capture


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_tells_systemd_how_it_is_and_runs_as_nobody_else(unit: str) -> None:
    it = settings(unit)
    assert it["Type"] == ["notify"]
    assert it["User"] == ["recorderd"]
    assert float(it["WatchdogSec"][0]) > 0
    assert it["RestartPreventExitStatus"] == [f"{UsageError.exit_code} {ConfigError.exit_code}"]
    assert it["LimitCORE"] == ["0"]
    assert it["StartLimitIntervalSec"] == ["0"]


def test_only_capturing_has_a_capability_and_only_the_outbox_a_network() -> None:
    capture, outbox = map(settings, SERVICES)
    assert capture["CapabilityBoundingSet"] == capture["AmbientCapabilities"] == ["CAP_NET_RAW"]
    assert outbox["CapabilityBoundingSet"] == outbox["AmbientCapabilities"] == [""]
    assert "AF_INET" not in capture["RestrictAddressFamilies"][0]
    assert capture["IPAddressDeny"] == ["any"]
    assert "AF_PACKET" not in outbox["RestrictAddressFamilies"][0]
    assert outbox["InaccessiblePaths"] == ["-/var/lib/recorderd/host.key"]


@pytest.mark.parametrize("unit", SERVICES)
def test_the_command_exists(unit: str) -> None:
    program, command, *options = shlex.split(settings(unit)["ExecStart"][0])
    assert program == "/opt/recorderd/bin/recorderd"
    assert command in COMMANDS
    assert options == ["-c", "/etc/recorderd/config.yaml"]


def test_the_target_wants_both() -> None:
    assert settings("recorderd.target")["Wants"] == [" ".join(SERVICES)]
    for unit in SERVICES:
        assert settings(unit)["PartOf"] == ["recorderd.target"]


def test_neither_core_files_nor_the_swap_get_what_is_in_memory() -> None:
    assert settings("recorderd-capture.service")["LimitCORE"] == ["0"]
    assert settings("recorderd-capture.service")["MemorySwapMax"] == ["0"]
