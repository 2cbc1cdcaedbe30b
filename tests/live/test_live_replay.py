"""Recording live and replaying tcpdump's file of the same call are one and the same thing."""

from pathlib import Path

import numpy as np
import pytest

from tests.live.audio import read_wav
from tests.live.daemon import Daemon, Installation, Json
from tests.live.sipp import SPOKEN, sipp_call, with_holes
from tests.live.tcpdump import Tcpdump
from tests.simulators.compare import first_difference

pytestmark = pytest.mark.live

#: Differ between any two recordings of one call: names, and what depends on fresh keys.
_OWN = ("id", "sha256", "bytes", "sync")


def comparable(rows: list[Json]) -> list[Json]:
    """What must agree of `list --json`."""
    return [{key: value for key, value in row.items() if key not in _OWN} for row in rows]


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
    # The kernel stamps a packet once for all who tap it, so that not even the times differ.
    assert comparable(replayed[0]) == comparable(replayed[1]) == comparable([live])

    tracks = installation.export_tracks(live["id"], "live")
    for name, spool, rows in (("once", once, replayed[0]), ("again", again, replayed[1])):
        files = installation.export_tracks(rows[0]["id"], name, spool=spool)
        assert files.keys() == tracks.keys() == {"caller", "callee"}
        for label, path in tracks.items():
            (heard, rate), (said, said_rate) = read_wav(files[label]), read_wav(path)
            assert rate == said_rate
            assert np.array_equal(heard, said), (
                f"{label} of {name}: {first_difference(said[:, 0], heard[:, 0])}"
            )
