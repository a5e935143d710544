"""The tutorials that have no test file of their own, followed word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from walkthrough import follow, follows_every_block

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
ELSEWHERE = {"own-task.md", "plugin.md"}
"""Tutorials that test_own_task.py and test_plugin_tutorial.py follow."""
TUTORIALS = sorted((path for path in FOLDER.glob("*.md") if path.name not in ELSEWHERE), reverse=True)
"""The first one, which the default run follows, is the first that a newcomer reads."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_works_from_an_empty_folder(tutorial: Path, tmp_path: Path) -> None:
    """Each file is written, each command run, and each line of output compared."""
    follow(tutorial.read_text(), tmp_path)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_every_block_of_a_tutorial_is_followed(tutorial: Path) -> None:
    """No block lies outside what the test above does with it."""
    assert follows_every_block(tutorial.read_text())
