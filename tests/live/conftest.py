"""Live tests wait most of their time: their files run at once, each with a loopback interface of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.daemon import Installation
from tests.live.sipp import free_ports
from tests.network_namespaces import Namespace


@pytest.fixture(scope="module", autouse=True)
def own_network() -> Iterator[None]:
    """What a file's tests send, no other recorder sees; ports that are free stay so."""
    namespace = Namespace(f"rl{secrets.token_hex(4)}")
    try:
        namespace.ip("link", "set", "lo", "up")
        with namespace.entered():
            yield
    finally:
        namespace.remove()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A configured recorder that watches one free SIP port on ``lo``; ``sip_port`` is that port."""
    return Installation(tmp_path / "recorder", sip_ports=free_ports(1))
