"""Measures how the tracks sound, beside the engine: in the live recorder in a thread of its own.

Decoding Opus takes far longer than recording it, and gives up the interpreter while it lasts. The thread may
be a few windows behind; what it cannot take on by then is left out, and the tracks say how much of them was
measured. Without the thread everything is measured at once.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.codecs.formats import Format
from recorderd.media.columns import grown
from recorderd.quality.figures import Figures
from recorderd.quality.library_turns import LibraryTurns, Packets
from recorderd.quality.meters import Meters
from recorderd.service.window import Window

log = logging.getLogger(__name__)

MOST_BEHIND: Final = 3
"""Windows that may wait for the thread."""

JUDGED: Final = 32
"""Tracks whose figures are worked out at once: enough that each costs little, few enough to stay in the
cache."""

RELIEF_S: Final = 0.02
"""So often who waits for the thread does what cannot wait."""


class Hearing:
    """The meters of all tracks. Tracks and streams are named by numbers of its own and by table rows."""

    def __init__(self, *, threaded: bool = False) -> None:
        self.relief: Callable[[], None] = lambda: None
        """Called now and then while somebody waits for the thread, or for figures."""
        self._meters = Meters()
        self._others = LibraryTurns()
        self._undecodable: Counter[int] = Counter()
        self._mine: NDArray[np.int64] = np.zeros(64, np.int64)
        """The number in the meters of each number given out."""
        self._free: list[int] = []
        self._given = 0
        self._judged: dict[int, Figures] = {}
        """Of tracks of which nothing has come since."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._submitted = self._measured = 0
        self._put = self._done = 0  # jobs, counted by who puts them and by the thread
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                # Without its figures a recording is still a recording.
                log.exception("the sound of a window could not be measured")
            self._done += 1

    def _do(self, job: Callable[[], None]) -> None:
        """Now, or after what waits."""
        if self._thread is None:
            job()
        else:
            self._put += 1
            self._jobs.put(job)

    def settle(self) -> None:
        """Wait until all that was taken on is measured."""
        if self._thread is not None and self._done != self._put:
            done = threading.Event()
            self._do(done.set)
            while not done.wait(RELIEF_S):
                self.relief()

    def stop(self) -> None:
        """End the thread, after what waits."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def describe(self, stream: int, formats: Mapping[int, Format]) -> None:
        """Say what the payload types of a stream are; nobody changes ``formats`` afterwards."""
        self._do(partial(self._others.describe, stream, formats))

    def open(self) -> int:
        """The number of a new track."""
        if self._free:
            number = self._free.pop()
        else:
            number, self._given = self._given, self._given + 1
        self._do(partial(self._open, number))
        return number

    def _open(self, number: int) -> None:
        if number >= len(self._mine):
            self._mine = grown(self._mine, 2 * number)
        self._mine[number] = self._meters.open()

    def window(self, window: Window, meter: NDArray[np.int32], seconds: NDArray[np.int32]) -> bool:
        """Take in a window; false where that is one too many.

        ``meter`` has the track of each stream, ``seconds`` how many of it went before.
        """
        self._judged.clear()
        if self._submitted - self._measured >= MOST_BEHIND:
            return False
        self._submitted += 1
        self._do(partial(self._measure, window, meter, seconds))
        return True

    def _measure(self, window: Window, meter: NDArray[np.int32], seconds: NDArray[np.int32]) -> None:
        try:
            order, packets = window.order, window.packets
            bad = self._meters.window(
                packets.payload,
                packets.size,
                window.kind,
                order.starts,
                window.ends,
                self._mine[meter],
                order.rows,
                seconds,
            )
            if bad.any():
                bad -= self._decoded(window, meter, seconds)
            for at in np.flatnonzero(bad).tolist():
                self._undecodable[int(order.rows[at])] += int(bad[at])
        finally:
            self._measured += 1

    def _decoded(
        self, window: Window, meter: NDArray[np.int32], seconds: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Measure what libraries decode; how many packets of each stream they open."""
        order, packets = window.order, window.packets
        given = Packets(packets.payload, packets.size, window.kind, packets.payload_type)
        heard = self._others.hear(given, order.starts, window.ends, order.rows, seconds)
        tracks = self._mine[meter]
        self._meters.decoded(heard.loudness, heard.starts, heard.stretches, tracks, heard.samples)
        return heard.decodable

    def judge(self, meters: Sequence[int]) -> None:
        """Work out how several tracks sound, all different, whose figures are asked for before more of them
        comes: together that costs less."""
        if not meters:
            return
        self.settle()
        for at in range(0, len(meters), JUDGED):
            self.relief()
            some = meters[at : at + JUDGED]
            figures = self._meters.figures_of(self._mine[some].tolist())
            self._judged.update(zip(some, figures, strict=True))

    def figures(self, meter: int) -> Figures:
        """How a track sounds, after all that was taken in."""
        if (known := self._judged.get(meter)) is not None:
            return known
        self.settle()
        return self._meters.figures(int(self._mine[meter]))

    def undecodable(self, stream: int) -> int:
        """How many packets of a stream cannot be decoded."""
        self.settle()
        return self._undecodable[stream]

    def unheard(self, stream: int) -> int:
        """How many packets of a stream, all of it so far, were not measured for lack of time."""
        self.settle()
        return self._others.unheard(stream)

    def over(self, meters: Sequence[int], streams: Sequence[int]) -> None:
        """These tracks are over, and these streams, whose rows may be others'."""
        for meter in meters:
            self._judged.pop(meter, None)
        self._do(partial(self._forget, meters, streams))
        self._free += meters

    def _forget(self, meters: Sequence[int], streams: Sequence[int]) -> None:
        for meter in meters:
            self._meters.close(self._mine.item(meter))
        for stream in streams:
            self._others.forget(stream)
            self._undecodable.pop(stream, None)
