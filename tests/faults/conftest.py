"""The scene that the faults are played in."""

import pytest

from tests.faults.scene import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Three overlapping calls, and what a run without faults makes of them."""
    scene = Scene(tmp_path_factory.mktemp("scene"))
    assert scene.whole.calls
    return scene
