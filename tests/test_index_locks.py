"""A process that has the index open may open it once more: nobody takes the log away under it."""

import subprocess
import sys

import pytest

from recorderd.spool.index import Index
from recorderd.spool.layout import Spool

OTHER = """
import sys
from recorderd.spool.index import Index
from recorderd.spool.layout import Spool
with Index.open(Spool(sys.argv[1])) as index:
    print(len(index.recordings()))
"""


def seen_by_another(spool: Spool) -> int:
    """How many recordings another process sees, which then has nothing more to do with the index."""
    command = [sys.executable, "-c", OTHER, str(spool.path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("again", [Index.open, Index.read], ids=["open", "read"])
def test_opening_it_again_gives_up_no_lock(tmp_path, again):
    spool = Spool(tmp_path / "spool").prepare()
    with Index.open(spool) as index:
        for number in range(3):
            index.recording_started(f"2026112{number}T200501Z-0123456789", {})
            again(spool).close()
            assert seen_by_another(spool) == number + 1
            assert spool.index_path.with_name("index.db-wal").exists()
