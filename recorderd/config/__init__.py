"""The configuration: typed models, and a loader whose every error names file, line and key."""

from recorderd.config.loader import load_config
from recorderd.config.models import (
    AUTO,
    AlertsConfig,
    CaptureConfig,
    Config,
    ControlConfig,
    EncryptionConfig,
    QualityConfig,
    SiteConfig,
    SpoolConfig,
    SyslogConfig,
)
from recorderd.config.sync import SyncConfig

__all__ = [
    "AUTO",
    "AlertsConfig",
    "CaptureConfig",
    "Config",
    "ControlConfig",
    "EncryptionConfig",
    "QualityConfig",
    "SiteConfig",
    "SpoolConfig",
    "SyncConfig",
    "SyslogConfig",
    "load_config",
]
