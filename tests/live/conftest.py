"""Live tests use one network and one clock: they run one after the other, on one worker."""

from pathlib import Path

import pytest

from tests.live.daemon import Installation
from tests.live.sipp import free_ports


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A configured recorder that watches one free SIP port on ``lo``; ``sip_port`` is that port."""
    return Installation(tmp_path / "recorder", sip_ports=free_ports(1))
