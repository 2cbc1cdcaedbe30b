"""A capture file played inside real calls is recorded live, and Wireshark counts the same packets and
losses.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.live.audio import read_wav
from tests.live.daemon import Daemon, Installation, Json
from tests.live.sipp import SPOKEN, SippCall, sipp_call, with_holes
from tests.live.tcpdump import Tcpdump
from tests.live.tshark import time_of_bye, times_of, tshark_fields, tshark_rtp_streams
from tests.simulators import g711

pytestmark = pytest.mark.live

PACKETS = 136
"""So many of the file are played: the call goes on for some seconds after them, for a player that is late."""
BEHIND = list(range(PACKETS + 1, 237))
HOLES = [20, 21, 22, 60, 100]
LATE_S = 0.2
"""More than the holes: a player that had to wait for its turn."""


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
    wire, spoken = tmp_path / "wire.pcap", with_holes(SPOKEN, tmp_path / "spoken.pcap", BEHIND)
    holed = with_holes(spoken, tmp_path / "holed.pcap", HOLES)
    with Daemon(installation) as daemon, Tcpdump(wire) as witness:
        with sipp_call(
            tmp_path, sip_port=installation.sip_port, caller_plays=spoken, callee_plays=holed
        ) as call:
            call.wait(60)
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
    assert said == {"caller": (PACKETS, 0), "callee": (PACKETS - len(HOLES), len(HOLES))}
    assert {track["codec"] for track in tracks.values()} == {"pcma"}
    gaps = [round(gap["length_s"], 3) for gap in tracks["callee"]["gaps"]]
    assert gaps == [0.09, 0.03, 0.03]
    assert tracks["caller"]["gaps"] == []

    files = installation.export_tracks(row["id"], "heard")
    assert set(files) == {"caller", "callee"}
    ports = {label: port for port, label in speaker.items()}
    for label, source in (("caller", spoken), ("callee", holed)):
        heard, rate = read_wav(files[label])
        assert rate == 8000
        if np.diff(times_of(wire, ports[label])).max() > LATE_S:
            continue  # said with a break, and so it is heard
        said_samples = sent_audio(source)
        starts = np.flatnonzero(heard[:, 0])[0] - np.flatnonzero(said_samples)[0]
        assert starts >= 0
        assert np.array_equal(heard[starts : starts + len(said_samples), 0], said_samples)


def assert_all_there(row: Json, call: SippCall, wire: Path) -> None:
    """Every packet that was on the wire before the BYE is recorded; of those behind it, some may be."""
    ended = time_of_bye(wire, call.call_id)
    ports = {"caller": call.caller_media, "callee": call.callee_media}
    assert len(row["tracks"]) == len(ports)
    for track in row["tracks"]:
        sent = times_of(wire, ports[track["label"]])
        least = sum(at < ended for at in sent)
        assert least > 0
        assert least <= track["packets"] <= len(sent)


@pytest.mark.parametrize("transport", ["t1", "tn"])
def test_signalling_over_tcp(installation: Installation, tmp_path: Path, transport: str) -> None:
    wire = tmp_path / "wire.pcap"
    with Daemon(installation) as daemon, Tcpdump(wire, expression="udp or tcp") as witness:
        with sipp_call(tmp_path, sip_port=installation.sip_port, talk_s=2, transport=transport) as call:
            call.wait(60)
        row = installation.until_sealed(call.call_id)
        counters = daemon.status_from_now()["counters"]
    (told,) = installation.control("calls", spool=installation.spool)
    assert (told["outcome"], told["recording"]) == ("complete", row["id"])
    assert witness.dropped == 0
    assert_all_there(row, call, wire)
    assert [track["label"] for track in row["tracks"]] == ["caller", "callee"]
    assert counters["frames_tcp_messages"] >= 5
    assert counters.get("sip_malformed", 0) == counters.get("frames_signalling", 0) == 0


def test_every_call_is_accounted_for(installation: Installation, tmp_path: Path) -> None:
    """Two calls one after the other on one port; both recorded, apart, with their outcomes."""
    wire = tmp_path / "wire.pcap"
    with Daemon(installation), Tcpdump(wire) as witness:
        placed = []
        for name in ("first", "second"):
            with sipp_call(tmp_path, sip_port=installation.sip_port, name=name, talk_s=1.5) as call:
                call.wait(60)
            placed.append(call)
        rows = [installation.until_sealed(call.call_id) for call in placed]
    calls = {row["call_id"]: row for row in installation.control("calls", spool=installation.spool)}
    assert witness.dropped == 0
    assert [row["call_ids"] for row in rows] == [[call.call_id] for call in placed]
    for call, row in zip(placed, rows, strict=True):
        assert calls[call.call_id]["outcome"] == "complete"
        assert calls[call.call_id]["recording"] == row["id"]
        assert_all_there(row, call, wire)
    assert len(installation.recordings()) == 2
