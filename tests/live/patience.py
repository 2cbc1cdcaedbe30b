"""For what is given less time than it may need where much else is going on."""

import time
from collections.abc import Callable
from typing import TypeVar

from recorderd.spool.stores import RemoteOutage

T = TypeVar("T")


def at_last(act: Callable[[], T], seconds: float = 60) -> T:
    """What it gives in the end: a store that waits for an answer for a second only takes even a server that
    is well, and slow for a moment, for one that is out."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except RemoteOutage:
            if time.monotonic() > deadline:
                raise
