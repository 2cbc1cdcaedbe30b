"""A time-stamp authority of one's own: `openssl ts` behind an HTTP server on the loopback."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFIG = """
[ tsa ]
default_tsa = tsa1
[ tsa1 ]
dir = {folder}
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = {ess}
"""


@dataclass
class Authority:
    """Its files, and how it answers: ``answers`` are given instead of real ones, first come first served."""

    folder: Path
    url: str = ""
    every_s: float = 3600.0
    timeout_s: float = 60.0
    asked: int = 0
    answers: list[bytes] = field(default_factory=list)

    @property
    def ca(self) -> Path:
        """The certificate that everything must be signed under."""
        return self.folder / "ca.pem"

    def answer(self, query: bytes) -> bytes:
        """What `openssl ts -reply` makes of a query."""
        (self.folder / "query").write_bytes(query)
        openssl(
            "ts", "-reply", "-config", self.folder / "ts.cnf", "-queryfile", self.folder / "query",
            "-out", self.folder / "reply",
        )  # fmt: skip
        return (self.folder / "reply").read_bytes()

    def stamp(self, data: bytes) -> bytes:
        """The stamp of some bytes, asked for by `openssl ts -query`."""
        (self.folder / "data").write_bytes(data)
        openssl(
            "ts", "-query", "-data", self.folder / "data", "-sha256", "-cert", "-out", self.folder / "wish"
        )
        return self.answer((self.folder / "wish").read_bytes())


def openssl(*arguments: object) -> None:
    """Run it; raises where it fails."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(
    folder: Path, key: str = "rsa:2048", usage: str = "critical,timeStamping", ess: str = "sha256"
) -> Authority:
    """An authority with a certificate of a root of its own."""
    folder.mkdir(parents=True)
    (folder / "ts.cnf").write_text(CONFIG.format(folder=folder, ess=ess))
    (folder / "serial").write_text("01\n")
    new = ["-newkey", key, *(["-pkeyopt", "ec_paramgen_curve:prime256v1"] if key == "ec" else []), "-nodes"]
    openssl(
        "req", "-x509", *new, "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days", "30",
        "-subj", f"/CN=Root {folder.name}", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    openssl("req", *new, "-keyout", folder / "tsa.key", "-out", folder / "tsa.csr", "-subj", "/CN=Clock")
    (folder / "ext").write_text(f"extendedKeyUsage={usage}\nkeyUsage=critical,digitalSignature\n")
    openssl(
        "x509", "-req", "-in", folder / "tsa.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
        "-CAcreateserial", "-days", "20", "-extfile", folder / "ext", "-out", folder / "tsa.pem",
    )  # fmt: skip
    return Authority(folder)


@contextmanager
def serving(authority: Authority) -> Iterator[Authority]:
    """The authority at ``url`` for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            authority.asked += 1
            body = authority.answers.pop(0) if authority.answers else authority.answer(query)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield authority
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
