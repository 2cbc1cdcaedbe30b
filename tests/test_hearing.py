"""The thread that measures: who waits for it can do other things meanwhile."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np

from recorderd.media.streams import PCMU
from recorderd.service.hearing import JUDGED, Hearing

ONE = np.zeros(1, np.int32)


class Slow:
    """A window that takes until an event to measure, and then cannot be."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __getattr__(self, name: str) -> Any:
        assert self._event.wait(60)
        raise AttributeError(name)


def second_of(byte: int) -> Any:
    """What is measured of a window: a second of one stream of G.711, all of whose samples are coded so."""
    packets = SimpleNamespace(
        payload=np.full((50, 160), byte, np.uint8),
        size=np.full(50, 160, np.int32),
        payload_type=np.zeros(50, np.uint8),
    )
    order = SimpleNamespace(starts=np.zeros(1, np.int64), rows=np.zeros(1, np.int64))
    return SimpleNamespace(
        order=order, packets=packets, kind=np.full(50, PCMU, np.uint8), ends=np.array([50])
    )


def test_figures_worked_out_together_are_those_of_all_that_came() -> None:
    hearing = Hearing()
    others, meter = [hearing.open() for _ in range(JUDGED)], hearing.open()
    track = np.array([meter], np.int32)
    assert hearing.window(second_of(0xFF), track, ONE)
    hearing.judge([*others, meter])
    assert [hearing.figures(each).total_s for each in (*others, meter)] == [0] * JUDGED + [1]
    assert hearing.figures(meter).peak_dbov is None
    assert hearing.window(second_of(0x00), track, ONE)
    assert hearing.figures(meter).total_s == 2
    assert hearing.figures(meter).peak_dbov is not None
    hearing.judge([meter])
    hearing.over([meter], [0])
    assert hearing.open() == meter
    assert hearing.figures(meter).total_s == 0


def test_who_waits_for_figures_is_relieved() -> None:
    """A call that ends while the thread is behind must not keep the rings from being emptied."""
    hearing, relieved = Hearing(threaded=True), threading.Event()
    hearing.relief = relieved.set
    nothing = np.zeros(0, np.int32)
    assert hearing.window(Slow(relieved), nothing, nothing)  # type: ignore[arg-type]
    hearing.settle()
    assert relieved.is_set()
    hearing.stop()
