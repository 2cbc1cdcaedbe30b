"""tcpdump beside a test: the witness of what was on the wire."""

import re
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.live.process import Program


class Tcpdump:
    """Captures UDP on an interface into ``path`` until the block ends; on ``lo`` each packet is seen once.

    Nanosecond times, a 16 MiB buffer. After the block ``dropped`` tells how many packets it missed.
    """

    def __init__(self, path: Path, *, interface: str = "lo", expression: str = "udp") -> None:
        self.path, self.dropped = path, 0
        command = ["tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "--time-stamp-precision=nano"]
        command += ["-B", "16384", "-w", str(path), expression]
        self._program = Program(command, path.with_suffix(".tcpdump.log"), stop=signal.SIGINT)

    def __enter__(self) -> Self:
        self._program.start()
        self._program.until_logged("listening on", 30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.stop()
        found = re.search(r"(\d+) packets? dropped by kernel", self._program.log())
        self.dropped = int(found[1]) if found else 0
