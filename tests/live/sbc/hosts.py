"""What carries the signalling across: Kamailio as a proxy, Kamailio that hides, and Sippy's B2BUA."""

import datetime
import importlib.util
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.live.process import Program, until
from tests.live.sbc.relay import NG_PORT, answers_options
from tests.network_namespaces import Between

_HERE = Path(__file__).parent
HEP_PORT = 9060
TLS_PORT = 5061

# With mask_callid the phones on the right see Call-IDs that say nothing of those on the left; tags stay.
_HIDING = """
loadmodule "topoh.so"
modparam("topoh", "mask_key", "of these tests")
modparam("topoh", "mask_ip", "10.82.0.200")
modparam("topoh", "mask_callid", 1)
"""


# Every message, before it is encrypted and after it was decrypted, goes to a HEP collector on this host.
_TLS_GLOBALS = f"""
enable_tls=yes
tcp_children=2
listen=tls:{Between.LEFT_HOST}:{TLS_PORT}
listen=tls:{Between.RIGHT_HOST}:{TLS_PORT}
listen=udp:127.0.0.1:5090 name "trace"
"""
_TLS_MODULES = f"""
loadmodule "tls.so"
loadmodule "siptrace.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "@CERTIFICATE@")
modparam("tls", "private_key", "@CERTIFICATE@")
modparam("siptrace", "trace_on", 1)
modparam("siptrace", "trace_mode", 1)
modparam("siptrace", "hep_mode_on", 1)
modparam("siptrace", "hep_version", 3)
modparam("siptrace", "trace_to_database", 0)
modparam("siptrace", "duplicate_uri", "sip:127.0.0.1:{HEP_PORT}")
modparam("siptrace", "send_sock_name", "trace")
"""


class Border:
    """A SIP server on the host, ready inside the block, stopped after it; the left calls ``port``."""

    port = 5060
    relayed = True  #: by a relay of its own on the host
    tells = False  #: what is said to HEP_PORT

    def __init__(self, folder: Path, network: Between) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.network = folder, network
        self.program = Program([*network.host.prefix, *self.command()], folder / "border.log")

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        assert self.program.running, self.program.log()
        return answers_options(self.network, self.network.LEFT_HOST, self.port)

    def __enter__(self) -> Self:
        self.program.start()
        try:
            until(self.answers, "an answer to OPTIONS", 30)
        except BaseException as error:
            self.program.stop()
            raise AssertionError(f"{error}: {self.program.log()[-3000:]}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()


class Proxy(Border):
    """Kamailio, record-routing: one Call-ID on both sides, SDP rewritten to rtpengine's addresses."""

    globals = ""
    modules = ""
    offered = ""  #: further flags of rtpengine for offers
    next_hop = f"{Between.RIGHT_PHONES}:5060"

    def command(self) -> list[str]:
        config = (_HERE / "kamailio.cfg").read_text()
        fields = {"PORT": self.port, "NG_PORT": NG_PORT, "MODULES": self.modules}
        fields |= {
            "GLOBALS": self.globals or "disable_tcp=yes",
            "NEXT_HOP": self.next_hop,
            "OFFERED": self.offered,
        }
        fields |= {"LEFT_HOST": Between.LEFT_HOST, "RIGHT_HOST": Between.RIGHT_HOST}
        fields |= {"CERTIFICATE": self.folder / "certificate.pem"}
        for name, value in fields.items():
            config = config.replace(f"@{name}@", str(value))
        path = self.folder / "kamailio.cfg"
        path.write_text(config)
        run = self.folder / "run"
        run.mkdir(exist_ok=True)
        return ["kamailio", "-f", str(path), "-DD", "-E", "-Y", str(run), "-m", "64", "-M", "8"]


class HidingProxy(Proxy):
    """Kamailio that masks Call-ID, Via, Contact and Record-Route towards the right."""

    modules = _HIDING


class TranscodingProxy(Proxy):
    """A-law on the left, mu-law on the right: no packet on one side is like one on the other."""

    offered = " codec-mask-PCMA codec-transcode-PCMU"


class SecureProxy(Proxy):
    """Kamailio that speaks TLS to both sides, and tells by HEP what was said."""

    globals = _TLS_GLOBALS
    modules = _TLS_MODULES
    next_hop = f"{Between.RIGHT_PHONES}:{TLS_PORT};transport=tls"
    tells = True

    def command(self) -> list[str]:
        write_certificate(self.folder / "certificate.pem")
        return super().command()


class BackToBack(Border):
    """Sippy's B2BUA with rtpproxy inside: two dialogs with tags and Call-IDs of their own.

    The Call-ID on the right is the MD5 of that on the left, with ``-b2b_1`` behind it.
    """

    port = 5070
    relayed = False
    hide = True

    def command(self) -> list[str]:
        program = Path(sys.executable).parent / "b2bua"
        options = [
            "--foreground=on", "--auth_enable=off", "--acct_enable=off", f"--sip_port={self.port}",
            f"--static_route={self.network.RIGHT_PHONES}:5060",
            f"--rtp_proxy_clients=rtp.io:-F;-l;{Between.LEFT_HOST}/{Between.RIGHT_HOST};-m;30000;-M;34000",
            f"--b2bua_socket={self.folder / 'b2bua.sock'}",
        ]  # fmt: skip
        # rtpproxy writes its accounts where it was started.
        where = f"--chdir={self.folder}"
        return ["env", where, "SIPLOG_BEND=stderr", str(program), *options, *(["-H"] if self.hide else [])]


class AppendingBackToBack(BackToBack):
    """The same, where the Call-ID on the right is that on the left with ``-b2b_1`` behind it."""

    hide = False


def write_certificate(path: Path) -> None:
    """A key and a certificate for it that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "border.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    signed = made.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))


def missing() -> list[str]:
    """What these tests need and this host lacks."""
    found = [name for name in ("kamailio", "rtpengine") if shutil.which(name) is None]
    if not any(Path("/usr/lib").glob("*/kamailio/modules/tls.so")):
        found.append("kamailio-tls-modules")
    return found + [name for name in ("sippy", "rtp") if importlib.util.find_spec(name) is None]
