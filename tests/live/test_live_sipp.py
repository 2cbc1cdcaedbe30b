"""A capture file played inside real calls is recorded live, and Wireshark counts the same packets and
losses.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.live.audio import read_wav
from tests.live.daemon import Daemon, Installation
from tests.live.sipp import SPOKEN, sipp_call, with_holes
from tests.live.tcpdump import Tcpdump
from tests.live.tshark import tshark_fields, tshark_rtp_streams
from tests.simulators import g711

pytestmark = pytest.mark.live

HOLES = [20, 21, 22, 100, 180]


def sent_audio(capture: Path) -> np.ndarray:
    """The samples in a capture file of A-law, by RTP timestamp, zeros where packets are missing."""
    rows = tshark_fields(capture, "rtp", "rtp.timestamp", "rtp.payload")
    first = int(rows[0][0])
    track = np.zeros(int(rows[-1][0]) - first + 240, np.int16)
    for timestamp, payload in rows:
        coded = np.frombuffer(bytes.fromhex(payload.replace(":", "")), np.uint8)
        track[int(timestamp) - first :][:240] = g711.decode("pcma", coded)
    return track


def test_a_capture_file_played_in_a_call_is_recorded_live(installation: Installation, tmp_path: Path) -> None:
    wire, holed = tmp_path / "wire.pcap", with_holes(SPOKEN, tmp_path / "holed.pcap", HOLES)
    with Daemon(installation) as daemon, Tcpdump(wire) as witness:
        with sipp_call(tmp_path, sip_port=installation.sip_port, callee_plays=holed) as call:
            call.wait(30)
        row = installation.until_sealed(call.call_id)
        assert daemon.program.running
    assert witness.dropped == 0
    assert (row["from"], row["to"], row["call_ids"]) == ("1001", "2002", [call.call_id])
    tracks = {track["label"]: track for track in row["tracks"]}
    speaker = {call.caller_media: "caller", call.callee_media: "callee"}
    streams = [s for s in tshark_rtp_streams(wire) if s.source.port in speaker]  # others may call, too
    said = {speaker[s.source.port]: (s.packets, s.lost) for s in streams}
    assert len(streams) == 2
    assert {label: (track["packets"], track["lost"]) for label, track in tracks.items()} == said
    assert said == {"caller": (236, 0), "callee": (236 - len(HOLES), len(HOLES))}
    assert {track["codec"] for track in tracks.values()} == {"pcma"}
    gaps = [round(gap["length_s"], 3) for gap in tracks["callee"]["gaps"]]
    assert gaps == [0.09, 0.03, 0.03]
    assert tracks["caller"]["gaps"] == []

    files = installation.export_tracks(row["id"], "heard")
    assert set(files) == {"caller", "callee"}
    for label, source in (("caller", SPOKEN), ("callee", holed)):
        heard, rate = read_wav(files[label])
        assert rate == 8000
        said_samples = sent_audio(source)
        starts = np.flatnonzero(heard[:, 0])[0] - np.flatnonzero(said_samples)[0]
        assert starts >= 0
        assert np.array_equal(heard[starts : starts + len(said_samples), 0], said_samples)


@pytest.mark.parametrize("transport", ["t1", "tn"])
def test_signalling_over_tcp(installation: Installation, tmp_path: Path, transport: str) -> None:
    with Daemon(installation) as daemon:
        with sipp_call(tmp_path, sip_port=installation.sip_port, talk_s=2, transport=transport) as call:
            call.wait(30)
        row = installation.until_sealed(call.call_id)
        counters = daemon.status()["counters"]
        (told,) = installation.control("calls", spool=installation.spool)
    assert (told["outcome"], told["recording"]) == ("complete", row["id"])
    assert all(track["packets"] >= 60 for track in row["tracks"])
    assert [track["label"] for track in row["tracks"]] == ["caller", "callee"]
    assert counters["frames_tcp_messages"] >= 5
    assert counters.get("sip_malformed", 0) == counters.get("frames_signalling", 0) == 0


def test_every_call_is_accounted_for(installation: Installation, tmp_path: Path) -> None:
    """Two calls one after the other on one port; both recorded, apart, with their outcomes."""
    with Daemon(installation):
        ids = []
        for name in ("first", "second"):
            with sipp_call(tmp_path, sip_port=installation.sip_port, name=name, talk_s=1.5) as call:
                call.wait(30)
            ids.append(call.call_id)
        rows = [installation.until_sealed(call_id) for call_id in ids]
        calls = {row["call_id"]: row for row in installation.control("calls", spool=installation.spool)}
    assert [row["call_ids"] for row in rows] == [[call_id] for call_id in ids]
    for call_id, row in zip(ids, rows, strict=True):
        assert calls[call_id]["outcome"] == "complete"
        assert calls[call_id]["recording"] == row["id"]
        assert all(40 <= track["packets"] <= 60 for track in row["tracks"])
    assert len(installation.recordings()) == 2
