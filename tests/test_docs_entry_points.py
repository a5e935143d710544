"""The reference of entry points against the code that reads them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCUMENTED = re.findall(
    r"^\| `(treeagent\.\w+)`", (ROOT / "docs" / "reference" / "entry-points.md").read_text(), re.MULTILINE
)


def groups(file: Path) -> set[str]:
    """The entry-point groups of a ``pyproject.toml``."""
    return set(tomllib.loads(file.read_text())["project"]["entry-points"])


def test_every_group_that_the_code_reads_is_documented() -> None:
    """Groups are looked up in the core only, by name or through the registry's table."""
    from treeagent import registry

    code = "".join(path.read_text() for path in (ROOT / "treeagent").rglob("*.py"))
    read = re.findall(r'(?:entry_points\(group=|^_TASKS = )"(treeagent\.\w+)"', code, re.MULTILINE)
    assert {*read, *(f"treeagent.{group}" for group in registry.KINDS.values())} == set(DOCUMENTED)


def test_the_project_and_the_example_register_something_in_each_group() -> None:
    """Both are the examples that the reference points to."""
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) == 7
    assert groups(ROOT / "pyproject.toml") == set(DOCUMENTED)
    assert groups(ROOT / "examples" / "plugin" / "pyproject.toml") == set(DOCUMENTED)
