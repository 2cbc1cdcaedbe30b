"""What the engine needs of the configuration."""

from typing import NamedTuple

from recorderd.calls.join_settings import JoinSettings
from recorderd.service.admission import AdmissionSettings
from recorderd.service.orphans import OrphanSettings
from recorderd.service.pausing import PrivacySettings
from recorderd.wire.tunnel_settings import TunnelSettings


class Bounds(NamedTuple):
    """What the tables of the engine may hold."""

    calls: int = 25_000
    streams: int = 65_536
    pending_bytes: int = 256 << 20
    """Packets that nothing explains yet."""

    @classmethod
    def within(cls, memory: int) -> "Bounds":
        """For a process that may have so many bytes: each table is to fill an eighth at most."""
        # Measured: a call without media 8 to 11 kB, a stream 2 to 3.
        usual = cls()
        return cls(
            min(usual.calls, memory // (128 << 10)),
            min(usual.streams, memory // (32 << 10)),
            min(usual.pending_bytes, memory // 16),
        )


class EngineSettings(NamedTuple):
    """See docs/configuration.md."""

    sip_ports: frozenset[int] = frozenset({5060})
    grace_ms: int = 400
    pending_s: float = 5.0
    bounds: Bounds = Bounds()
    memory: int = 0
    """Bytes that the process may have; 0: as many as it likes."""
    seed: int = 0
    ws_ports: frozenset[int] = frozenset()
    hep_ports: frozenset[int] = frozenset()
    hep_password: str | None = None
    tunnels: TunnelSettings | None = None
    """None: all."""
    joining: JoinSettings = JoinSettings()
    admission: AdmissionSettings = AdmissionSettings()
    privacy: PrivacySettings = PrivacySettings()
    media_timeout_s: float = 300.0
    orphans: OrphanSettings = OrphanSettings()
