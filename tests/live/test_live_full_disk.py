"""A real recorder on a small disk that others fill, and that has room again."""

import os
from pathlib import Path
from typing import Any

import pytest

from recorderd.calls.outcomes import NO_ROOM
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import free_ports, sipp_call
from tests.small_disk import small_disk

pytestmark = pytest.mark.live

LEFT = 800_000
"""Less than the reserve, which is 2 % of 64 MiB."""

EARLY_S = 16
"""How long the call goes on that outlasts the want of room."""


def fill(folder: Path, left: int) -> Path:
    """Others' files, up to so many bytes."""
    found = os.statvfs(folder)
    path = folder / "others"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - left)
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_the_reserve_is_for_the_calls_in_progress(tmp_path: Path, workers: int) -> None:
    ports = free_ports(3)
    home = tmp_path / "recorder"
    installation = Installation(home, sip_ports=ports, capture={"workers": workers})

    def level() -> Any:
        return (daemon.status() or {}).get("room", {}).get("level")

    def later(seconds: float) -> None:
        since = daemon.status()["time"]
        until(lambda: daemon.status()["time"] - since > seconds, f"{seconds} s", 20)

    def told(call_id: str) -> Any:
        (row,) = [row for row in installation.control("calls") if row["call_id"] == call_id]
        return row

    with small_disk(home / "spool", "64m"), Daemon(installation) as daemon:
        until(lambda: level() == "none", "the room", 10)
        with sipp_call(tmp_path, sip_port=ports[0], name="early", talk_s=EARLY_S) as early:
            until(lambda: installation.recording(early.call_id) is not None, "the recording", 10)
            others = fill(home / "spool", LEFT)
            until(lambda: level() == "no_new_calls", "the reserve", 10)
            later(2)  # until the other worker knows, too
            with sipp_call(tmp_path, sip_port=ports[1], name="refused", talk_s=1) as refused:
                refused.wait(30)
            until(lambda: daemon.status()["recording"] == 1, "its end", 20)
            with sipp_call(tmp_path, sip_port=ports[2], name="late", talk_s=4) as late:
                until(lambda: daemon.status()["recording"] >= 2, "the call", 20)
                later(1)  # some of it is lost
                others.unlink()
                until(lambda: level() == "none", "room again", 10)
                until(lambda: installation.recording(late.call_id) is not None, "that it is resumed", 10)
                late.wait(30)
            early.wait(60)
        assert installation.until_sealed(early.call_id)["outcome"] == "complete"
        assert installation.until_sealed(late.call_id)["outcome"] == "partial"
        until(lambda: told(refused.call_id)["outcome"] is not None, "the outcome", 20)
        assert (told(early.call_id)["outcome"], told(early.call_id)["reason"]) == ("complete", "")
        assert (told(refused.call_id)["outcome"], told(refused.call_id)["reason"]) == ("missing", NO_ROOM)
        assert (told(late.call_id)["outcome"], told(late.call_id)["reason"]) == ("partial", NO_ROOM)
        assert installation.control("verify", "--all")["ok"]


def test_room_is_made_and_what_went_comes_back(tmp_path: Path) -> None:
    home = tmp_path / "recorder"
    installation = Installation(home, sip_ports=free_ports(1), remote=True)
    with small_disk(home / "spool", "64m"), Daemon(installation):
        fill(home / "spool", 4_000_000)
        with sipp_call(tmp_path, sip_port=installation.sip_port) as call:
            call.wait(30)
        row = installation.until_sealed(call.call_id)
        spool = Spool(home / "spool")

        def verified() -> bool:
            now = installation.recording(call.call_id)
            return now is not None and [each["state"] for each in now["sync"]] == ["verified"]

        until(verified, "the copy", 20)
        with Index.open(spool) as index:
            # As if it were all that there is room for.
            left = index.bytes_here()
        (home / "spool" / "others").unlink()
        fill(home / "spool", int(64 * 1024 * 1024 * 0.02) + left // 4)
        path = spool.record_path(row["id"])
        assert row["review"]["needed"]  # the noise of the file that is played
        (reviewed,) = installation.control("review", row["id"], "--done")
        assert reviewed["review"]["reviewed"]["by"].startswith("user ")
        until(lambda: not path.exists(), "that it goes", 30)
        until(lambda: not installation.control("list")[0]["present"], "that it is told", 10)
        (home / "spool" / "others").unlink()
        (back,) = installation.control("restore", row["id"])["recordings"]
        assert (back["became"], back["remote"]) == ("restored", "second")
        assert installation.control("verify", "--all")["ok"]
        tracks = installation.export_tracks(row["id"], "call")
        assert set(tracks) == {"caller", "callee"}
