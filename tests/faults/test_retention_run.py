"""A retention run, of 10,000 recordings in the long form."""

from pathlib import Path

from tests.retention_run import retention_run


def test_a_retention_run(tmp_path: Path, thorough: bool) -> None:
    retention_run(tmp_path, 10_000 if thorough else 300)
