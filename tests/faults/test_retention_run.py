"""The long form of tests/test_retention_run.py."""

from pathlib import Path

import pytest

from tests.retention_run import retention_run


@pytest.fixture
def recordings(pytestconfig: pytest.Config) -> int:
    return 10_000 if pytestconfig.getoption("--thorough") else 1_000


def test_a_retention_run(tmp_path: Path, recordings: int) -> None:
    retention_run(tmp_path, recordings)
