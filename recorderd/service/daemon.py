"""What the processes of the service have in common: signals, systemd, and one line for every error."""

import ctypes
import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from recorderd.errors import RecorderError
from recorderd.service.notify import Notifier
from recorderd.wire.printable import printable


class Service:
    """A process that runs until it is told to stop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notifier = Notifier()
        self._stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()

    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as it is told to stop."""
        return self._stop.wait(seconds)

    def ready(self, text: str) -> None:
        """Start-up is over."""
        self.notifier.ready(text)
        say(f"{self.name}: {text}")


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process a signal when its parent is gone (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, int(number))


def say(text: str) -> None:
    """One line to standard error, where systemd's journal takes it up."""
    print(printable(text, limit=2000), file=sys.stderr, flush=True)


def set_up_logging() -> None:
    """Log lines go to standard error, as one printable line each."""

    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record), limit=2000)

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def guarded(run: Callable[[], int]) -> int:
    """Run a command; an error becomes its lines, its hint and its exit code."""
    try:
        return run()
    except RecorderError as error:
        for line in str(error).splitlines():
            say(f"recorderd: {line}")
        if error.hint:
            say(f"recorderd: hint: {error.hint}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
