"""How the libraries below start: told before the first of them is imported.

What the environment says already goes first.
"""

import atexit
import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


def prepare() -> None:
    """Called by the commands before anything else."""
    # The recorder multiplies no matrices: OpenBLAS would start a thread for each core, each spinning a while.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # pydantic looks through all installed distributions for plugins; one would see the configuration.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # What is there in the end goes with the process: the collector need not look through it once more.
    atexit.register(gc.freeze)
    gc.set_threshold(*_COLLECT)
    _keep_memory()


def recording() -> None:
    """Called by the processes that record, beside :func:`prepare`."""
    gc.set_threshold(*_COLLECT_RECORDING)


_COLLECT = 50_000, 10, 1
"""After so many containers more than went. A command makes less than that, and its end takes it all; the
libraries that the outbox sends with leave connections in cycles."""

_COLLECT_RECORDING = 250_000, 4, 1
"""A call in progress is 175 containers, and what a collection costs is to look through those of all calls, 10
to 30 ms for a thousand. It finds nothing: no call that is over is part of a cycle (tests/test_garbage.py).
What a library may leave all the same is found while it is young, in a tenth of a second for 250,000
containers, or when five times as many have come, some 250 MB. Sooner it must not be: to look through all that
lasts of 5,000 calls takes half as long as their packets have room to wait."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT = 1 << 30


def _keep_memory() -> None:
    """What a window of packets takes up the next one needs again. Given back to the kernel in between, every
    4 KiB of it would cost a page fault each time (mallopt(3))."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such thing
        mallopt = ctypes.CDLL(None).mallopt
        for name, option in (("TRIM", _M_TRIM_THRESHOLD), ("MMAP", _M_MMAP_THRESHOLD)):
            if f"MALLOC_{name}_THRESHOLD_" not in os.environ:
                mallopt(option, _KEPT)


@contextmanager
def loading() -> Iterator[None]:
    """Around the imports of much code: nothing of it is garbage, and the collector need not look for any,
    neither meanwhile (a tenth of the time) nor later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
