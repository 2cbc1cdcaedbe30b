"""What the engine needs of the configuration."""

from dataclasses import dataclass, field

from recorderd.calls.join_settings import JoinSettings
from recorderd.service.admission import AdmissionSettings
from recorderd.service.orphans import OrphanSettings
from recorderd.service.pausing import PrivacySettings
from recorderd.wire.tunnel_settings import TunnelSettings


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """See docs/configuration.md."""

    sip_ports: frozenset[int] = frozenset({5060})
    grace_ms: int = 400
    pending_s: float = 5.0
    pending_bytes: int = 256 << 20
    seed: int = 0
    ws_ports: frozenset[int] = frozenset()
    hep_ports: frozenset[int] = frozenset()
    hep_password: str | None = None
    tunnels: TunnelSettings | None = None
    """None: all."""
    joining: JoinSettings = field(default_factory=JoinSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    media_timeout_s: float = 300.0
    orphans: OrphanSettings = field(default_factory=OrphanSettings)
