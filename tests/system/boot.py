"""The installed product on a real systemd. Run with ``make test-system``: it takes minutes, so its name keeps
it out of ``make test``.

A Debian 12 is made and booted, `make install` run in it, and a simulated call played into one end of a veth
pair whose other end is tapped, as a mirror port would be.
"""

import json
import re
import subprocess
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd.spool.keys import generate_identity
from tests.simulators.pbx import PbxSimulator
from tests.simulators.script import CallScript
from tests.system.machine import ROOT, SOURCES, Machine, missing, run, wait_until

CAPTURE, OUTBOX = "recorderd-capture.service", "recorderd-outbox.service"
CONFIG = """
site: {name: machine}
capture: {interfaces: [tap1]}
spool: {path: /var/lib/recorderd}
encryption: {recipients: [vault.pub]}
sync:
  interval_s: 0.5
  remotes: [{name: second, type: file, path: /srv/second}]
"""


@dataclass
class Installed:
    """The running machine, and the key that opens its recordings."""

    machine: Machine
    identity: Path

    @property
    def spool(self) -> Path:
        return self.machine.root / "var/lib/recorderd"

    def ctl(self, *words: str) -> Any:
        """Ask recorderctl of the machine."""
        return json.loads(self.machine.run("recorderctl", "--json", *words))

    def wait_for(self, unit: str, state: str) -> None:
        """Wait until a unit is ``active``, ``inactive`` or ``failed``; fail with its journal."""

        def is_so() -> bool:
            return self.machine.show(unit, "ActiveState")["ActiveState"] == state

        try:
            wait_until(is_so, f"{unit} {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine.journal(unit)[-4000:]}") from None


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    assert not missing(), missing()
    folder = tmp_path_factory.mktemp("machine")
    machine = Machine(folder)
    machine.debootstrap()
    said = machine.install()
    assert "recorderd is installed" in said
    identity = folder / "vault"
    generate_identity(identity)
    etc = machine.root / "etc/recorderd"
    assert (etc / "config.yaml").stat().st_mode & 0o777 == 0o640
    (etc / "config.yaml").write_text(CONFIG)
    (etc / "vault.pub").write_bytes((folder / "vault.pub").read_bytes())
    drop_in = machine.root / f"etc/systemd/system/{OUTBOX}.d"
    drop_in.mkdir(parents=True)
    (drop_in / "remote.conf").write_text("[Service]\nReadWritePaths=/srv/second\n")
    second = machine.root / "srv/second"
    second.mkdir()
    run("chown", "--reference", machine.root / "var/lib/recorderd", second)
    run("systemctl", f"--root={machine.root}", "enable", "recorderd.target")
    with machine.booted():
        yield Installed(machine, identity)


def test_a_missing_interface_is_told_and_waited_for(installed: Installed) -> None:
    machine = installed.machine
    wait_until(lambda: "tap1" in machine.journal(CAPTURE), "a line about the interface")
    assert machine.show(CAPTURE, "ExecMainStatus")["ExecMainStatus"] in ("0", "11")
    machine.run("ip", "link", "add", "tap0", "type", "veth", "peer", "name", "tap1")
    machine.run("ip", "link", "set", "tap0", "up")
    machine.run("ip", "link", "set", "tap1", "up")
    installed.wait_for(CAPTURE, "active")
    installed.wait_for(OUTBOX, "active")


def test_the_services_said_that_they_are_ready(installed: Installed) -> None:
    for unit in (CAPTURE, OUTBOX):
        shown = installed.machine.show(
            unit, "Type", "StatusText", "SubState", "NotifyAccess", "WatchdogTimestamp"
        )
        assert shown["Type"] == "notify"
        assert shown["SubState"] == "running"
        assert shown["StatusText"]
        # Set by the first WATCHDOG=1 or READY=1 that arrived.
        assert shown["WatchdogTimestamp"]


@pytest.mark.parametrize(("unit", "most"), [(CAPTURE, 2.0), (OUTBOX, 1.9)])
def test_the_running_units_are_locked_down(installed: Installed, unit: str, most: float) -> None:
    said = installed.machine.run("systemd-analyze", "security", "--no-pager", unit)
    level = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert level
    print(f"\n{unit}: {level[1]}")
    assert float(level[1]) <= most


def test_a_process_has_only_what_it_needs(installed: Installed) -> None:
    for unit, capabilities in ((CAPTURE, 1 << 13), (OUTBOX, 0)):  # CAP_NET_RAW is 13, capabilities(7)
        pid = installed.machine.show(unit, "MainPID")["MainPID"]
        status = installed.machine.run("cat", f"/proc/{pid}/status")
        for kind in ("CapEff", "CapBnd", "CapAmb"):
            assert int(re.search(rf"{kind}:\t(\w+)", status)[1], 16) == capabilities, kind  # type: ignore[index]
        assert re.search(r"NoNewPrivs:\t1", status)
        assert re.search(r"Seccomp:\t2", status)
        assert not re.search(r"^Uid:\t0", status, re.MULTILINE)
    seen = installed.machine.command(
        "nsenter", "--target", pid, "--mount", "cat", "/var/lib/recorderd/host.key"
    )
    assert subprocess.run(seen, capture_output=True, check=False).stdout == b""  # pid is the outbox's
    assert (installed.spool / "host.key").read_bytes() != b""


def test_a_call_is_recorded_sealed_carried_and_verified(installed: Installed, tmp_path: Path) -> None:
    simulator = PbxSimulator(seed=7)
    truth = simulator.add(CallScript(talk_s=6.0, ring_s=0.5))
    simulator.write(installed.machine.root / "call.pcap")
    player = f"{SOURCES}/tests/system/play.py"
    installed.machine.run("/opt/recorderd/bin/python", player, "/call.pcap", "tap0")

    def carried() -> bool:
        return any(
            row["state"] == "sealed" and [remote["state"] for remote in row["sync"]] == ["verified"]
            for row in installed.ctl("list")
        )

    wait_until(carried, "the recording on the remote")
    [row] = installed.ctl("list")
    [call] = installed.ctl("calls")
    assert (row["from"], row["to"]) == ("1001", "2002")
    assert (call["outcome"], call["recording"]) == ("complete", row["id"])
    installed.ctl("verify", row["id"])
    # Everything in the spool belongs to the service, and to nobody else's eyes.
    owner = installed.spool.stat()
    for path in [installed.spool, *installed.spool.rglob("*")]:
        assert (path.stat().st_uid, path.stat().st_mode & 0o007) == (owner.st_uid, 0), path

    out = tmp_path / "call.wav"
    recorderctl = ROOT / ".venv/bin/recorderctl"
    run(
        recorderctl,
        "--spool",
        installed.spool,
        "export",
        row["id"],
        "-o",
        out,
        "--identity",
        installed.identity,
    )
    with wave.open(str(out)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    for column, side in ((0, truth.caller), (1, truth.callee)):
        sent = side.samples()
        assert len(sent) > 40_000
        assert sent.tobytes() in samples[:, column].tobytes(), side.side


def test_the_watchdog_brings_back_a_service_that_hangs(installed: Installed) -> None:
    machine = installed.machine
    before = machine.show(CAPTURE, "MainPID", "NRestarts")
    machine.run("systemctl", "kill", "--signal=SIGSTOP", CAPTURE)

    def restarted() -> bool:
        now = machine.show(CAPTURE, "MainPID", "NRestarts", "ActiveState")
        return now["NRestarts"] > before["NRestarts"] and now["ActiveState"] == "active"

    wait_until(restarted, "a restart by the watchdog", 90)
    assert machine.show(CAPTURE, "MainPID")["MainPID"] != before["MainPID"]


def test_a_wrong_configuration_keeps_the_service_down_with_its_reason(installed: Installed) -> None:
    machine = installed.machine
    config = machine.root / "etc/recorderd/config.yaml"
    config.write_text(CONFIG.replace("interfaces", "interface"))
    machine.run("systemctl", "restart", CAPTURE, check=False)
    installed.wait_for(CAPTURE, "failed")
    assert machine.show(CAPTURE, "ExecMainStatus")["ExecMainStatus"] == "10"
    fault = "/etc/recorderd/config.yaml:3 capture.interface: unknown key; did you mean interfaces?"
    assert fault in machine.journal(CAPTURE)
    config.write_text(CONFIG)
    machine.run("systemctl", "restart", "recorderd.target")
    installed.wait_for(CAPTURE, "active")
    installed.wait_for(OUTBOX, "active")


def test_the_services_stop_when_told(installed: Installed) -> None:
    machine = installed.machine
    machine.run("systemctl", "stop", "recorderd.target")
    for unit in (CAPTURE, OUTBOX):
        installed.wait_for(unit, "inactive")
        assert machine.show(unit, "Result")["Result"] == "success"
