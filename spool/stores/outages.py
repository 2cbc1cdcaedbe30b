"""Where one failure means that the store is out: when it is asked who it is, or tried as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager

from recorderd.errors import RemoteError
from recorderd.spool.stores.base import RemoteOutage


@contextmanager
def failure_is_outage() -> Iterator[None]:
    """Every RemoteError within becomes a RemoteOutage."""
    try:
        yield
    except RemoteOutage:
        raise
    except RemoteError as error:
        raise RemoteOutage(str(error)) from None
