"""Fixtures of the scripts' tests."""

from pathlib import Path

import pytest
from scripts.scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)
