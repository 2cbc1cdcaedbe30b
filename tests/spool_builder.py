"""A spool with keys, and recordings to put into it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorderd.spool.container import PACKET_ROW
from recorderd.spool.index import Index
from recorderd.spool.keys import Identity, Recipient, generate_identity, load_identities
from recorderd.spool.layout import Spool, new_recording_id
from recorderd.spool.signing import HostKey
from recorderd.spool.times import rfc3339
from recorderd.spool.writer import RecordingWriter, Sealed

STARTED_US = 1_795_291_501_000_000
STARTED_NS = STARTED_US * 1000
SECOND_US = 1_000_000


@dataclass
class Desk:
    """A spool and everything that its tests need."""

    spool: Spool
    identity_file: Path
    identity: Identity
    recipient: Recipient
    signer: HostKey

    def start(self, number: int = 0, recording_id: str | None = None, **more: Any) -> RecordingWriter:
        """A new recording in progress, ``number`` seconds after the first."""
        started_ns = STARTED_NS + number * 1_000_000_000
        recording_id = recording_id or new_recording_id(started_ns, number.to_bytes(5, "big"))
        recipients = more.pop("recipients", [self.recipient])
        return RecordingWriter.create(
            self.spool,
            recording_id,
            started_ns=started_ns,
            host="pbx.example",
            recipients=recipients,
            signer=self.signer,
            **more,
        )

    def record(self, number: int = 0, windows: int = 3, packets: int = 10, size: int = 20) -> Sealed:
        """A small sealed recording."""
        writer = self.start(number)
        fill(writer, windows, packets, size)
        return writer.seal(summary(number), now_ns=STARTED_NS + 60 * 1_000_000_000)

    def enter(self, index: Index, sealed: Sealed, number: int = 0) -> None:
        """Tell the index of a sealed recording."""
        index.recording_finished(
            sealed.recording, "sealed", summary(number), sealed.path, sealed.sha256, sealed.bytes
        )


def make_desk(folder: Path, suite: str = "x25519") -> Desk:
    """A new spool in ``folder``/spool, with one recipient."""
    spool = Spool(folder / "spool").prepare()
    identity_file = folder / "identity"
    recipient = generate_identity(identity_file, suite)
    (identity,) = load_identities([identity_file])
    return Desk(spool, identity_file, identity, recipient, HostKey.load_or_create(spool.host_key_path))


def summary(number: int = 0) -> dict[str, Any]:
    """What the list contract says of a recording."""
    return {
        "call_ids": [f"call-{number}@192.0.2.1"],
        "from": f"10{number:02d}",
        "to": "200",
        "started_at": rfc3339(STARTED_US + number * SECOND_US),
        "duration_s": 3.0,
        "tracks": [{"label": "caller", "codec": "pcmu"}, {"label": "callee", "codec": "pcmu"}],
        "review": {"needed": False, "causes": []},
    }


def window(
    number: int, packets: int = 10, size: int = 20, streams: int = 2
) -> tuple[int, NDArray[np.void], NDArray[np.uint8]]:
    """One second of packets: base time, rows, payload; different for each number, the same each time."""
    rows = np.zeros(packets * streams, PACKET_ROW)
    place = np.tile(np.arange(packets), streams)
    rows["time"] = place * 20_000
    rows["seq"] = 65_530 + number * packets + place
    rows["timestamp"] = (number * packets + place) * 160
    rows["size"] = size
    rows["stream"] = np.repeat(np.arange(streams), packets)
    payload = np.random.default_rng(number).integers(0, 256, packets * streams * size, dtype=np.uint8)
    return STARTED_US + number * SECOND_US, rows, payload


def fill(writer: RecordingWriter, windows: int, packets: int = 10, size: int = 20) -> None:
    """Two streams announced, and some seconds of their packets."""
    for stream, track in enumerate(("caller", "callee")):
        event = {"event": "stream", "stream": stream, "time_us": STARTED_US, "track": track}
        writer.event(event)
    for number in range(windows):
        writer.media(*window(number, packets, size))
