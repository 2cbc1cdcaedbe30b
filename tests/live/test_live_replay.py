"""Recording live and replaying tcpdump's file of the same call are one and the same thing."""

from pathlib import Path

import pytest

from tests.live.daemon import Daemon, Installation, Json
from tests.live.sipp import SPOKEN, sipp_call, with_holes
from tests.live.tcpdump import Tcpdump

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live")]

#: Differ between any two recordings of one call: names, times of writing, and what depends on fresh keys.
_OWN = ("id", "sha256", "bytes", "sync", "started_at")
#: Measured against the wall clock: a tap and tcpdump time-stamp each packet on their own, microseconds apart.
_CLOCKED = ("duration_s", "at_s", "length_s", "start_s")


def comparable(value: Json, places: int | None) -> Json:
    """What must agree, with clock figures rounded to ``places`` (None: exact)."""
    if isinstance(value, dict):
        return {
            key: round(part, places) if key in _CLOCKED and places is not None and part is not None
            else comparable(part, places)
            for key, part in value.items() if key not in _OWN
        }  # fmt: skip
    return [comparable(part, places) for part in value] if isinstance(value, list) else value


def test_live_and_replay_agree(installation: Installation, tmp_path: Path) -> None:
    wire, holed = tmp_path / "wire.pcap", with_holes(SPOKEN, tmp_path / "holed.pcap", [50, 51])
    with Daemon(installation), Tcpdump(wire) as witness:
        with sipp_call(tmp_path, sip_port=installation.sip_port, callee_plays=holed) as call:
            call.wait(30)
        live = installation.until_sealed(call.call_id)
    assert witness.dropped == 0
    once, again = tmp_path / "replayed-1", tmp_path / "replayed-2"
    for spool in (once, again):
        installation.replay(wire, spool=spool)
    replayed = [installation.recordings(spool=spool) for spool in (once, again)]
    assert len(replayed[0]) == len(replayed[1]) == 1
    assert comparable(replayed[0], None) == comparable(replayed[1], None)
    assert replayed[0][0]["started_at"] == replayed[1][0]["started_at"]
    assert comparable(replayed[0][0], 2) == comparable(live, 2)

    tracks = installation.export_tracks(live["id"], "live")
    for name, spool, rows in (("once", once, replayed[0]), ("again", again, replayed[1])):
        files = installation.export_tracks(rows[0]["id"], name, spool=spool)
        assert files.keys() == tracks.keys() == {"caller", "callee"}
        for label, path in tracks.items():
            assert files[label].read_bytes() == path.read_bytes(), f"{label} of {name}"
