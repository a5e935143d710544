"""Every command and every program that the documents show is run for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((ROOT / "README.md").read_text()) if kind == language]


def _run(command: list[str] | str, folder: Path) -> str:
    scripts = Path(sys.executable).parent
    env = {"OMP_NUM_THREADS": "2", **os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder that looks like the checkout to somebody following the README."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


COMMANDS = [block for block in _blocks("sh") if "venv" not in block]
"""All shell blocks but the two installing ones, which CI runs word for word in clean environments."""


@pytest.mark.parametrize("block", COMMANDS, ids=[block.splitlines()[0][:60] for block in COMMANDS])
def test_a_shell_block_of_the_readme_runs(block: str, house: Path) -> None:
    """Each block works when pasted, from its first line to its last."""
    _run(f"set -e\n{block}", house)


@pytest.mark.parametrize("block", _blocks("python"))
def test_a_python_block_of_the_readme_runs(block: str, house: Path) -> None:
    """Each program works when pasted into a file."""
    (house / "program.py").write_text(block)
    _run([sys.executable, "program.py"], house)


def test_the_two_first_commands_make_their_own_environment_on_one_line() -> None:
    """They are marked for CI, are one shell line each, and do what the README promises."""
    text = (ROOT / "README.md").read_text()
    marked = re.findall(r"<!-- ci -->\n+```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [len(block.strip().splitlines()) for block in marked] == [1, 1]
    assert all("venv" in block for block in marked)
    assert "treeagent solve --task game24 --search bfs" in marked[0]
    assert "pytest" in marked[1]


EXAMPLES = {
    "own_task.py": "answer: ",
    "python_task.py": "solved: True",
    "solve.sh": "24",
    "embed.py": "streamed: ",
    "swap_backends.py": "same tree: True",
}
"""Each example, and what it must print."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_prints_its_point(name: str, house: Path) -> None:
    """The four ways of use, as programs."""
    runner = "sh" if name.endswith(".sh") else sys.executable
    assert EXAMPLES[name] in _run([runner, f"examples/{name}"], house)


def test_every_example_is_listed_here() -> None:
    """No program lies about untested."""
    assert {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".sh")} == set(EXAMPLES)
