"""A real nginx with WebDAV over TLS on a loopback port, with a CA of its own; clients need certificates."""

import contextlib
import datetime
import ipaddress
import os
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from recorderd.config.remotes_webdav import WebdavRemote
from tests.live.loopback import HOST, free_tcp_port, listens
from tests.live.process import Program, until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
_MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")

needs_nginx = pytest.mark.skipif(
    NGINX is None or not _MODULE.exists() or os.geteuid() != 0,
    reason="needs root, and Debian's nginx-light and libnginx-mod-http-dav-ext",
)


class Pair(NamedTuple):
    """The files of a certificate and of its private key."""

    certificate: Path
    key: Path


class Authority:
    """A CA of a test's own."""

    def __init__(self, folder: Path, name: str = "test CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._certificate = certificate.sign(self._key, hashes.SHA256())
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, server: bool) -> Pair:
        """A certificate for this host's loopback address, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


class WebServer(Program):
    """nginx that stores what it gets in ``folder/recordings``, served as ``/dav/``."""

    def __init__(
        self,
        folder: Path,
        *,
        protocols: str = "TLSv1.3",
        methods: str = "PUT DELETE MKCOL COPY MOVE",
        options: str = "",
        locations: str | None = None,
    ) -> None:
        """``locations`` stand in the place of the one for ``/dav/``."""
        self.folder, self.port = folder, free_tcp_port()
        self.root = folder / "root"
        self.recordings = self.root / "dav"
        self.recordings.mkdir(parents=True)
        (self.recordings / ".uploads").mkdir()
        self.authority = Authority(folder)
        server = self.authority.issue("server", server=True)
        self.client = self.authority.issue("client", server=False)
        usual = f"""
            location /dav/ {{
                dav_methods {methods};
                dav_ext_methods PROPFIND OPTIONS;
                dav_access user:rw group:r;
                {options}
            }}"""
        (folder / "nginx.conf").write_text(f"""
            # The folders of pytest are root's alone.
            user root;
            load_module {_MODULE};
            daemon off; worker_processes 1; pid {folder}/pid; error_log stderr info;
            events {{ worker_connections 64; }}
            http {{
                access_log {folder}/access.log;
                client_body_temp_path {self.recordings}/.uploads;
                proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                server {{
                    listen {HOST}:{self.port} ssl;
                    root {self.root};
                    ssl_certificate {server.certificate}; ssl_certificate_key {server.key};
                    ssl_protocols {protocols};
                    ssl_client_certificate {self.authority.file}; ssl_verify_client on;
                    client_max_body_size 0;
                    {usual if locations is None else locations}
                }}
            }}
            """)
        assert NGINX is not None
        super().__init__([NGINX, "-c", str(folder / "nginx.conf"), "-e", "stderr"], folder / "nginx.log")

    def start(self) -> None:
        """Start, and wait until it listens."""
        super().start()
        until(self.listens, f"nginx on port {self.port}", 30)

    def listens(self) -> bool:
        assert self.running, self.log()
        return listens(self.port)

    def kill(self) -> None:
        """Kill the server with all its connections."""
        workers = self.workers()
        super().kill()
        for pid in workers:
            _signal(pid, signal.SIGKILL)
        # They hold the port, too, until they are gone.
        until(lambda: not listens(self.port), f"that nobody listens on port {self.port}", 30)

    def workers(self) -> list[int]:
        """The processes that serve connections."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def cut(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send the processes that serve connections a signal; the master starts others."""
        for pid in self.workers():
            _signal(pid, how)

    def remote(self, **more: Any) -> WebdavRemote:
        """How a recorder would be configured for it."""
        settings = {
            "name": "web",
            "type": "webdav",
            "url": f"https://{HOST}:{self.port}/dav/",
            "ca_file": self.authority.file,
            "certificate_file": self.client.certificate,
            "certificate_key_file": self.client.key,
            "timeout_s": 20.0,
        }
        return WebdavRemote.model_validate({**settings, **more})


def _signal(pid: int, how: signal.Signals) -> None:
    """It may have ended by itself meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
