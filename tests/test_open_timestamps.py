"""Checkpoints anchored by calendars: real proofs of the library, and calendars on the loopback."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recorderd.errors import RemoteError
from recorderd.spool.index import Index
from recorderd.spool.ledger import Ledger
from recorderd.spool.ledger_entries import Entry
from recorderd.spool.ledger_stamps import Stamps
from recorderd.spool.open_timestamps import Anchorer, anchors, complete, make_proof
from tests.spool_builder import Desk, make_desk
from tests.tools_runner import recorderctl

pytest.importorskip("opentimestamps")

from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
from opentimestamps.core.serialize import BytesSerializationContext
from opentimestamps.core.timestamp import Timestamp

HEIGHT = 358_391
NOW_S = 1_795_291_501.0
PATIENT_S = 60.0


@dataclass
class Calendar:
    """Promises everything, and has anchored it once it ``mined``."""

    url: str = ""
    mined: bool = False
    promised: dict[str, bytes] = field(default_factory=dict)

    def submit(self, digest: bytes) -> Timestamp:
        timestamp = Timestamp(digest)
        own = timestamp.ops.add(OpAppend(b"calendar")).ops.add(OpSHA256())
        own.attestations.add(PendingAttestation(self.url))
        self.promised[own.msg.hex()] = own.msg
        return timestamp

    def block(self, commitment: bytes) -> Timestamp:
        timestamp = Timestamp(commitment)
        block = timestamp.ops.add(OpPrepend(b"neighbour")).ops.add(OpSHA256())
        block.attestations.add(BitcoinBlockHeaderAttestation(HEIGHT))
        return timestamp

    def root(self) -> str:
        (commitment,) = self.promised.values()
        return hashlib.sha256(b"neighbour" + commitment).digest()[::-1].hex()


def serialized(timestamp: Timestamp) -> bytes:
    context = BytesSerializationContext()
    timestamp.serialize(context)
    return bytes(context.getbytes())


@contextmanager
def serving(calendar: Calendar) -> Iterator[Calendar]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            digest = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, serialized(calendar.submit(digest)))

        def do_GET(self) -> None:
            commitment = calendar.promised.get(self.path.removeprefix("/timestamp/"))
            if commitment is None or not calendar.mined:
                self.answer(404, b"Pending confirmation in Bitcoin blockchain")
            else:
                self.answer(200, serialized(calendar.block(commitment)))

        def answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    calendar.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield calendar
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def calendar() -> Iterator[Calendar]:
    with serving(Calendar()) as running:
        yield running


@dataclass
class Settings:
    calendars: tuple[str, ...]
    every_s: float = 86_400.0
    timeout_s: float = PATIENT_S


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = make_desk(tmp_path)
    ledger = Ledger(desk.spool.path / "ledger")
    ledger.append([Entry("started", 1, "pbx.example")])
    ledger.checkpoint(desk.signer)
    return desk


def test_a_promise_becomes_a_block(calendar: Calendar) -> None:
    proof = make_proof(b"note", [calendar.url, "http://127.0.0.1:1/"], PATIENT_S)
    assert anchors(b"note", proof).pending == (calendar.url,)
    assert complete(b"note", proof, [calendar.url], PATIENT_S) == proof
    calendar.mined = True
    assert complete(b"note", proof, ["http://127.0.0.1:1"], PATIENT_S) == proof  # nobody else is asked
    known = anchors(b"note", complete(b"note", proof, [calendar.url], PATIENT_S))
    assert known.blocks == ((HEIGHT, calendar.root()),)


def test_a_proof_of_something_else_is_refused(calendar: Calendar) -> None:
    proof = make_proof(b"note", [calendar.url], PATIENT_S)
    with pytest.raises(RemoteError, match="something else"):
        anchors(b"another", proof)
    for size in range(len(proof)):
        with pytest.raises(RemoteError):
            anchors(b"note", proof[:size])


def test_no_calendar_is_an_alert_and_tried_again(desk: Desk, calendar: Calendar) -> None:
    with Index.open(desk.spool) as index:
        settings = Settings(("http://127.0.0.1:1/",))
        anchorer = Anchorer(desk.spool, settings, index)
        anchorer.anchor_due(NOW_S)
        anchorer.anchor_due(NOW_S + 2000)
        assert [alert["kind"] for alert in index.alerts_pending()] == ["timestamp"]
        settings.calendars = (calendar.url,)
        anchorer.anchor_due(NOW_S + 4000)
        assert Stamps(desk.spool.path / "ledger").of(1).ots_path.exists()


def test_proofs_are_made_each_day_and_completed(desk: Desk, calendar: Calendar) -> None:
    anchorer = Anchorer(desk.spool, Settings((calendar.url,)))
    anchorer.anchor_due()
    calendar.mined = True
    ((stamped, known),) = anchorer.complete_all()
    assert known.blocks == ((HEIGHT, calendar.root()),)
    assert stamped.note_path.read_bytes() == Ledger(desk.spool.path / "ledger").note()


def test_the_command_shows_the_blocks(desk: Desk, calendar: Calendar) -> None:
    config = desk.spool.path.parent / "config.yaml"
    config.write_text(
        f"spool: {{path: {desk.spool.path}}}\nencryption: {{recipients: [{desk.identity_file}.pub]}}\n"
        f"ledger: {{opentimestamps: {{calendars: ['{calendar.url}']}}}}\n"
    )
    (first,) = recorderctl("-c", config, "--json", "ledger", "anchor").json
    assert (first["blocks"], first["pending"]) == ([], [calendar.url])
    calendar.mined = True
    (second,) = recorderctl("-c", config, "--json", "ledger", "anchor").json
    assert second["blocks"] == [{"height": HEIGHT, "merkle_root": calendar.root()}]
