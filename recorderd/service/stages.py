"""Where the processor time goes: seconds by stage of the way from packet to recording."""

import time
from types import TracebackType

STAGES = (
    "capture",
    "dissect",
    "streams",
    "open",
    "order",
    "record",
    "follow",
    "quality",
    "signalling",
    "seal",
    "index",
)
"""Taking packets in; headers to columns; packets to their streams; opening SRTP; sorting a window; writing
its records; clocks, tones and counts; measuring the sound; SIP; beginning and ending recordings; telling the
index.
"""


class Stage:
    """Counts the time inside of a ``with`` block, less that of the blocks within it."""

    def __init__(self, stages: "Stages") -> None:
        self.seconds = 0.0
        self._stages = stages

    def __enter__(self) -> None:
        self._stages.enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stages.leave()


class Stages:
    """One thread's stages. Cheap enough for every batch of packets, not for every packet."""

    def __init__(self) -> None:
        self._all = {name: Stage(self) for name in STAGES}
        self._stack: list[Stage] = []
        self._since = 0.0

    def __getitem__(self, name: str) -> Stage:
        return self._all[name]

    def enter(self, stage: Stage) -> None:
        """From now on the time is this stage's."""
        now = time.thread_time()
        if self._stack:
            self._stack[-1].seconds += now - self._since
        self._stack.append(stage)
        self._since = now

    def leave(self) -> None:
        """From now on the time is again that of the stage around."""
        now = time.thread_time()
        self._stack.pop().seconds += now - self._since
        self._since = now

    def seconds(self) -> dict[str, float]:
        """Processor seconds so far, by stage."""
        return {name: round(stage.seconds, 6) for name, stage in self._all.items()}
