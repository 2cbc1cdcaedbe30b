"""How the libraries below start: told before the first of them is imported.

What the environment says already goes first.
"""

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
