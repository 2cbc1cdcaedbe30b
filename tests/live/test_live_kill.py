"""SIGKILL in mid-call: what was recorded until 2 s before it is kept, and nothing else changes."""

import hashlib
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tests.live.audio import read_wav
from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import sipp_call, tones
from tests.live.tcpdump import Tcpdump
from tests.live.tshark import times_of

pytestmark = pytest.mark.live

AT_RISK_S = 2.0


def fingerprints(spool: Path) -> dict[str, str]:
    """The finished files of a spool."""
    files = [path for path in (spool / "recordings").rglob("*") if path.suffix in (".rec", ".json")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def until_steady(daemon: Daemon, seconds: float) -> None:
    """Wait until the recorder told its status for so long without a second's delay: one that does not get
    its turn cannot write in time.
    """
    since = before = daemon.status_from_now()["time"]

    def steady() -> bool:
        nonlocal since, before
        now = daemon.status_from_now()["time"]
        if now - before > 1.0:
            since = now
        before = now
        return bool(now - since >= seconds)

    until(steady, f"{seconds} s of a steady recorder", 50)


def test_a_killed_capture_loses_two_seconds_at_most(installation: Installation, tmp_path: Path) -> None:
    with Daemon(installation, "capture") as daemon:
        with sipp_call(tmp_path, sip_port=installation.sip_port, name="before", talk_s=1.5) as earlier:
            earlier.wait(30)
        before = installation.until_sealed(earlier.call_id)
        kept = fingerprints(installation.spool)
        sound, wire = tones(tmp_path, 100), tmp_path / "wire.pcap"
        with (
            Tcpdump(wire) as witness,
            sipp_call(
                tmp_path,
                sip_port=installation.sip_port,
                name="killed",
                caller_plays=sound,
                callee_plays=sound,
                talk_s=None,
            ) as call,
        ):
            until(lambda: installation.recording(call.call_id) is not None, "the call in the list", 30)
            running = installation.recording(call.call_id)
            assert running is not None
            assert running["state"] == "recording"
            until_steady(daemon, 4.0)
            killed = time.time()
            daemon.kill()
            dead = time.time()

    with Daemon(installation, "capture"):
        until(
            lambda: (installation.recording(call.call_id) or {}).get("state") == "recovered", "recovery", 30
        )
        row = installation.recording(call.call_id)
        assert row is not None
        others = [found for found in installation.recordings() if found["id"] != row["id"]]
    assert others == [before]
    assert {name: kept[name] for name in kept} == {
        name: digest for name, digest in fingerprints(installation.spool).items() if name in kept
    }
    assert not list(installation.spool.rglob("*.part"))

    assert witness.dropped == 0
    began = datetime.fromisoformat(row["started_at"]).timestamp()
    ports = {"caller": call.caller_media, "callee": call.callee_media}
    tracks = installation.export_tracks(row["id"], "recovered")
    assert set(tracks) == {"caller", "callee"}
    for label, path in tracks.items():
        heard, rate = read_wav(path)
        least = sum(at < killed - AT_RISK_S for at in times_of(wire, ports[label]))
        packets = np.count_nonzero(heard) // (rate // 50)  # what is played has no sample that is zero
        assert 0 < least <= packets, f"{label}: {packets} of {least}"
        assert began + len(heard) / rate <= dead + 0.1
        assert np.count_nonzero(heard) > 0.5 * len(heard)
    calls = {found["call_id"]: found for found in installation.control("calls", spool=installation.spool)}
    account = calls[call.call_id]
    assert (account["outcome"], account["recording"]) == ("partial", row["id"])
    assert account["reason"]
    installation.control("verify", "--all", spool=installation.spool)


def test_run_starts_a_killed_capture_again(installation: Installation, tmp_path: Path) -> None:
    """After a kill of the capturing process alone, `run` goes on by itself and records the next call."""
    with Daemon(installation) as daemon:
        children = Path(f"/proc/{daemon.program.pid}/task/{daemon.program.pid}/children").read_text().split()
        lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        (capture,) = [pid for pid, line in lines.items() if b"\0capture\0" in line]
        daemon.kill_child(capture)
        daemon.until_ready()
        with sipp_call(tmp_path, sip_port=installation.sip_port, talk_s=1.5) as call:
            call.wait(30)
        assert installation.until_sealed(call.call_id)["tracks"]
