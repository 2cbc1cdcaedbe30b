"""The thread that measures: who waits for it can do other things meanwhile."""

import threading
from typing import Any

import numpy as np

from recorderd.service.hearing import Hearing


class Slow:
    """A window that takes until an event to measure, and then cannot be."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __getattr__(self, name: str) -> Any:
        assert self._event.wait(60)
        raise AttributeError(name)


def test_who_waits_for_figures_is_relieved() -> None:
    """A call that ends while the thread is behind must not keep the rings from being emptied."""
    hearing, relieved = Hearing(threaded=True), threading.Event()
    hearing.relief = relieved.set
    nothing = np.zeros(0, np.int32)
    assert hearing.window(Slow(relieved), nothing, nothing)  # type: ignore[arg-type]
    hearing.settle()
    assert relieved.is_set()
    hearing.stop()
