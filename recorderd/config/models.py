"""What can be configured: one model a section, its defaults and its bounds.

The texts of the fields are the reference's: docs/configuration.md has a row for each key, and a test compares
them. Values are strict: ``"5060"`` is no number and ``yes`` is no string. Paths are absolute after loading; a
relative one is taken from the folder of the configuration file.
"""

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
)

from recorderd.alerts.syslog import FACILITIES
from recorderd.config.budget import BudgetConfig
from recorderd.config.conversations import ConversationsConfig
from recorderd.config.fields import AbsolutePath, some, unique
from recorderd.config.ledger import LedgerConfig
from recorderd.config.policy import PolicyConfig
from recorderd.config.privacy import PrivacyConfig
from recorderd.config.retention import RetentionConfig
from recorderd.config.section import Part, Section
from recorderd.config.sync import SyncConfig
from recorderd.config.yaml_lines import Document, key_text
from recorderd.wire.tunnel_settings import PORTS, TUNNELS, Tunnel, TunnelSettings

AUTO: Literal["auto"] = "auto"

LATER = ("siprec",)
"""Sections of the product that this version does not have: refused by name, so that nobody believes them."""


def _interface(value: str) -> str:
    # Linux: IFNAMSIZ is 16 with the closing zero; no slash, colon or white space.
    if not re.fullmatch(r"[^\s/:]{1,15}", value) or value in (".", ".."):
        raise ValueError(f"{value!r} cannot be the name of an interface")
    return value


def _frame_bytes(value: int) -> int:
    # Frames tile the ring's blocks, which are whole pages: only a power of two always fits.
    if value & (value - 1):
        raise ValueError(f"must be a power of two, is {value}")
    return value


def _suite_name(value: object) -> object:
    # Libraries and drafts write MLKEM768_X25519; key files, and we, write mlkem768-x25519.
    return value.lower().replace("_", "-") if isinstance(value, str) else value


def _syslog_address(value: str) -> str:
    if value.startswith("/"):
        return value
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/\[\]]+)):([0-9]{1,5})", value)
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError(f"must be the path of a socket or HOST:PORT (UDP), is {value!r}")
    return value


def _hep_address(value: str) -> str:
    match = re.fullmatch(r"(?:udp|tcp):(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", value)
    try:
        if not match or not 0 < int(match[3]) < 65536:
            raise ValueError
        ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise ValueError(f"must be udp:ADDRESS:PORT or tcp:ADDRESS:PORT, is {value!r}") from None
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"must be a network such as 10.0.0.0/8: {error}") from None


Port = Annotated[int, Field(ge=1, le=65535)]
Interface = Annotated[str, AfterValidator(_interface)]
FrameBytes = Annotated[int, Field(ge=256, le=65536), AfterValidator(_frame_bytes)]
Workers = Annotated[int, Field(ge=1, le=64)]
RingMegabytes = Annotated[int, Field(ge=1, le=4096)]
Dbov = Annotated[float, Field(ge=-127.0, le=0.0)]
# Strict mode takes no list for a tuple; the elements stay strict.
Tunnels = Annotated[tuple[Tunnel, ...], Field(strict=False), AfterValidator(unique)]
Interfaces = Annotated[tuple[Interface, ...], Field(strict=False), AfterValidator(some)]


class SiteConfig(Section):
    """Where this recorder stands."""

    name: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=255,
        description="the name of this recorder in recordings, manifests and alerts",
    )


class HepConfig(Section):
    """Who may pass on signalling that cannot be read on the wire."""

    listen: Annotated[
        tuple[Annotated[str, AfterValidator(_hep_address)], ...],
        Field(strict=False),
        AfterValidator(unique),
    ] = Field(
        default=(),
        description="where HEP is taken in, each `udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`; live only",
    )
    password: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="packets with another authentication key (HEP3), or none, are refused"
    )
    allow: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False), AfterValidator(unique)
    ] = Field(default=("127.0.0.0/8", "::1/128"), description="networks whose packets are taken in")


Ports = Annotated[tuple[Port, ...], Field(strict=False), AfterValidator(some)]


class TunnelPortsConfig(Section):
    """Where tunnels over UDP are."""

    vxlan: Ports = Field(default=PORTS["vxlan"], description="UDP ports of VXLAN")
    geneve: Ports = Field(default=PORTS["geneve"], description="UDP ports of Geneve")
    tzsp: Ports = Field(default=PORTS["tzsp"], description="UDP ports of TZSP")
    l2tp: Ports = Field(default=PORTS["l2tp"], description="UDP ports of L2TP version 2")


class CaptureConfig(Section):
    """What is tapped, and how long the engine waits."""

    interfaces: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Interfaces, Tag("<list>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<list>"),
    ] = Field(
        default=AUTO, description="the interfaces to tap; `auto`: every one that is up, loopback included"
    )
    promiscuous: bool = Field(
        default=False,
        description="whether frames are taken in that are not addressed to this host: for a mirror port",
    )
    workers: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Workers, Tag("<number>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<number>"),
    ] = Field(
        default=1,
        description="processes that share the media of all calls, a processor core each; `auto`: one fewer"
        " than the host has cores; each has rings of its own",
    )
    sip_ports: Annotated[tuple[Port, ...], Field(strict=False), AfterValidator(some)] = Field(
        default=(5060,), description="ports of UDP and TCP on which SIP is spoken, over WebSocket too"
    )
    ws_ports: Annotated[tuple[Port, ...], Field(strict=False), AfterValidator(unique)] = Field(
        default=(), description="further ports of TCP on which SIP is spoken over WebSocket alone"
    )
    hep_ports: Annotated[tuple[Port, ...], Field(strict=False), AfterValidator(unique)] = Field(
        default=(), description="ports of UDP and TCP to which others send HEP: it is read as it passes by"
    )
    media_ring_mb: RingMegabytes = Field(default=64, description="MiB of kernel ring for media, an interface")
    signalling_ring_mb: RingMegabytes = Field(
        default=16, description="MiB of kernel ring for signalling, an interface"
    )
    media_frame_bytes: FrameBytes = Field(
        default=512,
        description="room for one media packet in the media ring, headers and 80 bytes of the kernel's"
        " included: a power of two, 256 to 65536; longer ones go through the signalling ring",
    )
    signalling_frame_bytes: FrameBytes = Field(
        default=16384, description="room for one signalling packet in the ring: a power of two, 256 to 65536"
    )
    grace_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=400, description="how long a window of one second waits for late packets, in milliseconds"
    )
    pending_s: Annotated[float, Field(ge=0.0, le=60.0)] = Field(
        default=5.0,
        description="how long packets of an unknown stream are kept for the SDP that explains them",
    )
    tunnels: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Tunnels, Tag("<list>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<list>"),
    ] = Field(
        default=AUTO,
        description="the tunnels that are opened: a list of `mpls`, `pppoe`, `gre`, `erspan`, `ipip`,"
        " `vxlan`, `geneve`, `tzsp`, `l2tp`; `auto`: all of them in capture files, none live",
    )
    tunnel_ports: Part[TunnelPortsConfig] = Field(default_factory=TunnelPortsConfig.model_construct)
    hep: Part[HepConfig] = Field(default_factory=HepConfig.model_construct)

    def tunnels_opened(self, *, live: bool) -> TunnelSettings:
        """Which tunnels are opened, and where."""
        chosen = self.tunnels if self.tunnels != AUTO else () if live else TUNNELS
        return TunnelSettings(frozenset(chosen), dict(self.tunnel_ports))


class QualityConfig(Section):
    """When a track is put forward for review: the fields of :class:`recorderd.quality.review.Thresholds`."""

    silent_dbov: Dbov = Field(
        default=-60.0, description="speech below this level is none: the track is silent"
    )
    low_dbov: Dbov = Field(default=-36.0, description="speech below this level is too low")
    noise_dbov: Dbov = Field(
        default=-45.0, description="noise between the words above this level is too loud"
    )
    snr_db: Annotated[float, Field(ge=0.0, le=127.0)] = Field(
        default=15.0, description="noise closer than this to the speech is too loud"
    )
    clipped_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.001, description="a share of clipped samples in the time spoken above this is distortion"
    )
    gap_s: Annotated[float, Field(gt=0.0, le=60.0)] = Field(
        default=0.2, description="a gap of lost audio at least this long, in seconds, is worth a review"
    )
    loss_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.02, description="a share of lost packets above this is worth a review"
    )
    min_speech_s: Annotated[float, Field(ge=0.0, le=3600.0)] = Field(
        default=0.3, description="less speech than this, in seconds, is none"
    )
    min_duration_s: Annotated[float, Field(ge=0.0, le=3600.0)] = Field(
        default=3.0, description="a track shorter than this, in seconds, is not judged by its sound"
    )


def _facility(value: str) -> str:
    if value not in FACILITIES:
        raise ValueError(f"{value!r} is no syslog facility; such are daemon, user and local0 to local7")
    return value


class SyslogConfig(Section):
    """Where the lines for flagged calls go."""

    enabled: bool = Field(
        default=True, description="send a line for each call that needs a review or is missing"
    )
    address: Annotated[str, AfterValidator(_syslog_address)] = Field(
        default="/dev/log",
        description="the socket of the local syslog, or `HOST:PORT` of one that listens on UDP",
    )
    facility: Annotated[str, AfterValidator(_facility)] = Field(
        default="local0", description="the syslog facility: `daemon`, `user`, `local0` ... `local7`"
    )


class AlertsConfig(Section):
    """Who is told."""

    syslog: Part[SyslogConfig] = Field(default_factory=SyslogConfig.model_construct)


class SpoolConfig(Section):
    """Where recordings are written."""

    path: AbsolutePath = Field(description="the folder of the recordings, the index and the host's key")
    signing_key: AbsolutePath | None = Field(
        default=None,
        description="the host's signing key, made on first use; `host.key` in the spool if not given",
    )
    budget: Part[BudgetConfig] = Field(default_factory=BudgetConfig.model_construct)


class EncryptionConfig(Section):
    """Who can open the recordings."""

    recipients: Annotated[tuple[AbsolutePath, ...], Field(strict=False), AfterValidator(some)] = Field(
        description="public keys (`FILE.pub` of `recorderctl keygen`); each opens every recording"
    )
    suite: Annotated[Literal["mlkem768-x25519", "x25519"], BeforeValidator(_suite_name)] = Field(
        default="mlkem768-x25519", description="the kind of key that every recipient must be of"
    )
    slots: Literal["detached", "header"] = Field(
        default="detached",
        description="where the wrapped keys of a recording are: `detached`, in a file beside it, which can be"
        " replaced, or destroyed where the recording cannot; `header`, in the recording",
    )


class ControlConfig(Section):
    """How other programs reach the running daemon."""

    socket: AbsolutePath | None = Field(
        default=None, description="the daemon's control socket; `control.sock` in the spool if not given"
    )


class Config(Section):
    """The whole configuration."""

    site: Part[SiteConfig] = Field(default_factory=SiteConfig.model_construct)
    capture: Part[CaptureConfig] = Field(default_factory=CaptureConfig.model_construct)
    conversations: Part[ConversationsConfig] = Field(default_factory=ConversationsConfig.model_construct)
    policy: Part[PolicyConfig] = Field(default_factory=PolicyConfig.model_construct)
    privacy: Part[PrivacyConfig] = Field(default_factory=PrivacyConfig.model_construct)
    quality: Part[QualityConfig] = Field(default_factory=QualityConfig.model_construct)
    alerts: Part[AlertsConfig] = Field(default_factory=AlertsConfig.model_construct)
    spool: Part[SpoolConfig]
    encryption: Part[EncryptionConfig]
    sync: Part[SyncConfig] = Field(default_factory=SyncConfig.model_construct)
    ledger: Part[LedgerConfig] = Field(default_factory=LedgerConfig.model_construct)
    retention: Part[RetentionConfig] = Field(default_factory=RetentionConfig.model_construct)
    control: Part[ControlConfig] = Field(default_factory=ControlConfig.model_construct)

    _file: str = PrivateAttr("")
    _document: Document | None = PrivateAttr(None)

    @property
    def signing_key(self) -> Path:
        """The file of the host's signing key."""
        return self.spool.signing_key or self.spool.path / "host.key"

    @property
    def control_socket(self) -> Path:
        """The path of the control socket."""
        return self.control.socket or self.spool.path / "control.sock"

    def where(self, *path: str | int) -> str:
        """Return ``FILE:LINE key.path[0]`` of a key, for errors that show only when its value is used."""
        if self._document is None:
            return key_text(path)
        return f"{self._file}:{self._document.line(path)} {key_text(path)}"

    def read_from(self, file: str, document: Document) -> None:
        """Remember the file that this configuration was read from."""
        self._file, self._document = file, document

    def with_spool(self, path: Path) -> "Config":
        """Return this configuration with another spool folder (``--spool DIR``)."""
        return self.model_copy(update={"spool": self.spool.model_copy(update={"path": path.absolute()})})
