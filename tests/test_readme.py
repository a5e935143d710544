"""Every command and every program that the README shows is run for real, in this process where that is enough."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import call

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((ROOT / "README.md").read_text()) if kind == language]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files of the checkout that the README uses."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [block for block in _blocks("sh") if "venv" not in block]
"""All shell blocks but the two installing ones, which CI runs word for word in clean environments."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("block", COMMANDS, ids=[block.splitlines()[0][:60] for block in COMMANDS])
@pytest.mark.usefixtures("house")
def test_a_shell_block_of_the_readme_runs(block: str) -> None:
    """Each block works when pasted, from its first line to its last."""
    for line in block.splitlines():
        program, *words = shlex.split(line)
        assert program == "treeagent"
        result = call(*words)
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("block", _blocks("python"))
def test_a_python_block_of_the_readme_runs(block: str, house: Path) -> None:
    """Each program works when pasted into a file."""
    (house / "program.py").write_text(block)
    runpy.run_path("program.py", run_name="__main__")


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
LONG = {"solve.sh", "embed.py"}
"""They take a quarter of a minute each; tests of the command line and of the agent show in less time what they do."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] if name in LONG else []) for name in EXAMPLES]
)
def test_an_example_runs_and_prints_its_point(name: str, house: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The four ways of use, as programs; a shell runs the installed command."""
    if name.endswith(".sh"):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["sh", f"examples/{name}"], env={**os.environ, "PATH": path}, check=True, timeout=300)
    else:
        runpy.run_path(f"examples/{name}", run_name="__main__")
    assert EXAMPLES[name] in capfd.readouterr().out


def test_every_example_is_listed_here() -> None:
    """No program is untested."""
    assert {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".sh")} == set(EXAMPLES)
