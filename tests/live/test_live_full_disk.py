"""A real recorder on a small disk that others fill, and that has room again."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from recorderd.calls.outcomes import NO_ROOM
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
from tests.live.daemon import Daemon, Installation
from tests.live.process import until
from tests.live.sipp import SippCall, free_ports, sipp_call, tones
from tests.small_disk import small_disk

pytestmark = pytest.mark.live

LEFT = 800_000
"""Less than the reserve, which is 2 % of 64 MiB."""


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

    def levels() -> Any:
        status = daemon.status_from_now()
        return {each["room"]["level"] for each in status.get("workers", [status])}

    def recording() -> Any:
        return daemon.status_from_now()["recording"]

    def told(call_id: str) -> tuple[Any, Any]:
        (row,) = [row for row in installation.control("calls") if row["call_id"] == call_id] or [{}]
        return row.get("outcome"), row.get("reason")

    def call(name: str, port: int, talk_s: float | None = None) -> AbstractContextManager[SippCall]:
        return sipp_call(
            tmp_path, sip_port=port, name=name, caller_plays=sound, callee_plays=sound, talk_s=talk_s
        )

    sound = tones(tmp_path, 110)  # the calls last as long as all this takes
    with small_disk(home / "spool", "64m"), Daemon(installation) as daemon:
        until(lambda: levels() == {"none"}, "the room", 20)
        with call("early", ports[0]) as early:
            until(lambda: installation.recording(early.call_id) is not None, "the recording", 30)
            others = fill(home / "spool", LEFT)
            until(lambda: levels() == {"no_new_calls"}, "the reserve", 20)
            with call("refused", ports[1], talk_s=1) as refused:
                refused.wait(30)
            until(lambda: told(refused.call_id)[0] is not None, "its outcome", 20)
            assert recording() == 1
            with call("late", ports[2]) as late:
                until(lambda: recording() == 2, "the call", 20)
                time.sleep(1)  # some of it is lost
                others.unlink()
                until(lambda: levels() == {"none"}, "room again", 20)
                until(lambda: installation.recording(late.call_id) is not None, "that it is resumed", 30)
                late.hang_up()
                late.wait(30)
            early.hang_up()
            early.wait(30)
        assert installation.until_sealed(early.call_id)["outcome"] == "complete"
        assert installation.until_sealed(late.call_id)["outcome"] == "partial"
        placed = [early, refused, late]
        until(lambda: all(told(each.call_id)[0] for each in placed), "the outcomes", 20)
        assert [told(each.call_id) for each in placed] == [
            ("complete", ""),
            ("missing", NO_ROOM),
            ("partial", NO_ROOM),
        ]
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
        until(lambda: not installation.control("list")[0]["present"], "that it is told", 30)
        (home / "spool" / "others").unlink()
        (back,) = installation.control("restore", row["id"])["recordings"]
        assert (back["became"], back["remote"]) == ("restored", "second")
        assert installation.control("verify", "--all")["ok"]
        tracks = installation.export_tracks(row["id"], "call")
        assert set(tracks) == {"caller", "callee"}
