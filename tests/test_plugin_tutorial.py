"""The tutorial docs/tutorials/plugin.md and the package that it makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from walkthrough import PART, files, follow, follows_every_block, run_in_shell

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "tutorials" / "plugin.md"
PACKAGE = ROOT / "examples" / "plugin"


@pytest.mark.exhaustive
def test_the_tutorial_works_from_an_empty_folder(tmp_path: Path) -> None:
    """Its files are written, the package is installed, and every command prints what the tutorial shows."""
    assert " passed in " in follow(DOC.read_text(), tmp_path, run_in_shell)


def test_every_block_is_followed() -> None:
    """No block of the tutorial is left untested."""
    assert follows_every_block(DOC.read_text())


def test_the_tutorial_shows_the_package_of_the_examples() -> None:
    """Every file of ``examples/plugin`` is in the tutorial, word for word."""
    shown = {part["file"]: part["content"] for part in PART.finditer(DOC.read_text()) if part["file"]}
    package = {
        str(path.relative_to(PACKAGE)): path.read_text()
        for suffix in ("*.py", "*.yaml", "*.toml")
        for path in PACKAGE.rglob(suffix)
        if "build" not in path.parts
    }
    assert files(DOC.read_text()) - set(package) == {"embed.py", "test_doubling.py"}
    assert {name: shown[name] for name in package} == package
