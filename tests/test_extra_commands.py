"""Commands that plug-ins add to the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
def greet(name: str = "you") -> None:
    \"\"\"Say hello.

    In full.
    \"\"\"
    from treeagent import BackendError
    if name == "nobody":
        raise BackendError("nobody is there")
    print("hello", name)
"""
ENTRY_POINTS = """
[treeagent.commands]
greet = loud.inner:greet
lost = nowhere.at.all:greet
gone = loud.inner:gone
broken = loud.broken:greet
solve = loud.inner:greet
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package whose import cannot be overlooked."""
    folder = tmp_path_factory.mktemp("site")
    files = {
        "loud/__init__.py": "print('imported')\n",
        "loud/inner.py": PLUGIN,
        "loud/broken.py": "def greet(:\n",
        "loud-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n",
        "loud-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def treeagent(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that has the package."""
    command = [sys.executable, "-c", "from treeagent.cli import main; main()", *words]
    env = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_the_help_lists_commands_of_plug_ins_without_importing_them(site):
    """With the first line of what they say of themselves; one that is broken is listed all the same."""
    done = treeagent(site, "--help")
    assert done.returncode == 0
    assert "imported" not in done.stdout
    lines = [line.split(maxsplit=1) for line in done.stdout.partition("Commands:")[2].splitlines()]
    said = {line[0]: line[1] for line in lines if len(line) == 2}
    assert said["greet"] == "Say hello."
    assert said["lost"] == "A command of nowhere."
    assert said["gone"] == said["broken"] == "A command of loud."
    assert said["solve"].startswith("Search for")  # the project's own names win


def test_a_command_of_a_plug_in_runs_with_its_own_options(site):
    """Its function is a command like any other, help and errors included."""
    done = treeagent(site, "greet", "--name", "Ada")
    assert (done.returncode, done.stdout) == (0, "imported\nhello Ada\n")
    shown = treeagent(site, "greet", "--help").stdout
    assert "In full." in shown
    assert "--name" in shown
    assert "Usage: treeagent greet" in shown or "greet [OPTIONS]" in shown
    assert treeagent(site, "greet", "--nam").returncode == 2
    failed = treeagent(site, "greet", "--name", "nobody")
    assert failed.returncode == 3
    assert failed.stderr == "Error: nobody is there\n"


@pytest.mark.parametrize(
    ("name", "said"), [("lost", "No module named 'nowhere'"), ("gone", "no attribute 'gone'"), ("gret", "'greet'")]
)
def test_a_command_that_cannot_be_imported_is_one_clear_error(site, name, said):
    """It names what is registered; a wrong name offers the nearest, plug-ins included."""
    done = treeagent(site, name)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_command_does_not_hurt_the_others(site):
    """Only who calls it sees its fault."""
    assert treeagent(site, "greet").returncode == 0
    assert treeagent(site, "solve", "--help").returncode == 0
    assert "SyntaxError" in treeagent(site, "broken").stderr
