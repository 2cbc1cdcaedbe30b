"""Stopped at any moment: by SIGKILL, and by the loss of power."""

import random
import shutil
from pathlib import Path

import pytest

from recorderd.spool.layout import Spool
from tests.faults.moments import FASTER, stopped, tails
from tests.faults.scene import Scene
from tests.test_power_cut import Disk

KILLS = 8, 1000
CUTS = 2, 200
LENGTH_S = 6.0
"""Of the scene, in the capture's time."""

KILLED_TAIL_S = 2.0
CUT_TAIL_S = 5.0


def report(what: str, lost: list[float], stops: int) -> None:
    """For docs/assurance.md; shown with ``-s``."""
    print(
        f"\n{what}: {stops} stops, {len(lost)} calls in progress, tail {max(lost, default=0):.2f} s at most"
    )


def test_killed_at_random_moments(scene: Scene, thorough: bool, tmp_path: Path) -> None:
    chance = random.Random(1)
    lost: list[float] = []
    for number in range(KILLS[thorough]):
        spool = Spool(tmp_path / str(number))
        told = stopped(scene, spool.path, chance.uniform(0, LENGTH_S / FASTER))
        lost += tails(scene, spool, told)
        shutil.rmtree(spool.path, ignore_errors=True)
    report("killed", lost, KILLS[thorough])
    assert len(lost) > KILLS[thorough] / 2
    assert max(lost) <= KILLED_TAIL_S


@pytest.mark.live
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_at_random_moments(scene: Scene, thorough: bool, tmp_path: Path, kind: str) -> None:
    chance = random.Random(2)
    lost: list[float] = []
    for number in range(CUTS[thorough]):
        disk = Disk(tmp_path / str(number), kind)
        try:
            after_s = chance.uniform(0.2, 1) * LENGTH_S / FASTER
            told = stopped(scene, disk.mount / "spool", after_s, disk.cut)
            disk.boot()
            lost += tails(scene, Spool(disk.mount / "spool"), told)
        finally:
            disk.unmount()
        shutil.rmtree(disk.image.parent, ignore_errors=True)
    report(f"power cut on {kind}", lost, CUTS[thorough])
    assert len(lost) > CUTS[thorough] / 2
    assert max(lost) <= CUT_TAIL_S
