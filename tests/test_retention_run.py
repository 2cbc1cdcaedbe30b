"""The short form of the retention run; the long one is in tests/faults."""

from pathlib import Path

from tests.retention_run import retention_run


def test_a_retention_run_over_300_recordings(tmp_path: Path) -> None:
    retention_run(tmp_path, 300)
