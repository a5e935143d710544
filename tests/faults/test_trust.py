"""Task files and journals from elsewhere: which code, files and addresses they may name."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import Agent, ConfigError, Task, trust
from treeagent.backends.scripted import ScriptedBackend
from treeagent.cli import app
from treeagent.taskfile import dataset

TASK = """
name: sums
description: Questions with a short answer.
metadata: {version: 1}
input: {description: a question, examples: ["2+2?"]}
depth: 1
prompts: {io: "{{ input }}", propose: "{{ input }}", value: "{{ state }}"}
data: {file: FILE, input: "{{ line }}"}
"""


def task_with(folder: Path, file: str) -> Task:
    """A task file in a folder, with this data file."""
    path = folder / "sums.yaml"
    path.write_text(TASK.replace("FILE", repr(file)))
    return Task.load(path)


def with_evaluator(by: str) -> str:
    """The text of a task file that names an evaluator on its line 9."""
    return TASK.strip().replace("FILE", "a.txt") + f"\n\nevaluate: {{by: '{by}', labels: {{a: 1.0, b: 0.0}}}}\n"


# Files


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are POSIX's")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pipe, "it is a pipe, not a regular file"),
        (Path.mkdir, "it is a folder, not a regular file"),
        (socket_file, "it is a socket, not a regular file"),
        (link_to("/dev/zero"), "it lies outside"),
        (link_to("/etc/passwd"), "it lies outside"),
        (link_to("../outside.txt"), "it lies outside"),
        (link_to("data.txt"), "its path cannot be followed|Too many levels"),
        (link_to("gone.txt"), "No such file"),
    ],
)
def test_a_data_file_is_a_regular_file_in_the_tasks_folder(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """A pipe is not waited for, a device not read, a link not followed out of the folder."""
    folder = tmp_path / "task"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("1+1?\n")
    make(folder / "data.txt")
    with pytest.raises(ConfigError, match=reason):
        dataset.load(task_with(folder, "data.txt"))


@pytest.mark.parametrize("file", ["../outside.txt", "inner/../../outside.txt", "ABSOLUTE", "folder/outside.txt"])
def test_a_task_file_names_no_file_outside_its_folder(file: str, tmp_path: Path) -> None:
    """Neither by dots, nor by an absolute path, nor over a linked folder; the user may name any file."""
    folder = tmp_path / "task"
    (folder / "inner").mkdir(parents=True)
    (folder / "folder").symlink_to("..")
    outside = tmp_path / "outside.txt"
    outside.write_text("1+1?\n")
    task = task_with(folder, file.replace("ABSOLUTE", str(outside)))
    with pytest.raises(ConfigError, match="name another one on the command line, with --data"):
        dataset.load(task)
    assert [row.input for row in dataset.load(task, source=str(outside)).rows] == ["1+1?"]
    (tmp_path / "link.txt").symlink_to(outside)
    assert len(dataset.load(task, source=str(tmp_path / "link.txt")).rows) == 1


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    """Also where the folder itself is reached over a link."""
    (tmp_path / "real" / "sets").mkdir(parents=True)
    (tmp_path / "real" / "sets" / "a.txt").write_text("1+1?\n")
    (tmp_path / "real" / "data.txt").symlink_to("sets/a.txt")
    (tmp_path / "way").symlink_to("real")
    assert len(dataset.load(task_with(tmp_path / "way", "data.txt")).rows) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are POSIX's")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty", "pipe"])
def test_no_device_or_pipe_is_read_even_if_the_user_names_it(device: str, tmp_path: Path) -> None:
    """As data, as a task file and as a script: an error at once, where reading would never end."""
    path = tmp_path / "data.txt"
    if device == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(device)
    (tmp_path / "fine.txt").write_text("1+1?\n")
    with pytest.raises(ConfigError, match="not a regular file"):
        dataset.load(task_with(tmp_path, "fine.txt"), source=str(path))
    with pytest.raises(ConfigError, match="not a regular file"):
        Task.load(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        ScriptedBackend.open(str(path), {})


def test_a_huge_file_is_refused_before_memory_is_full(tmp_path: Path) -> None:
    """A file of holes needs no disk, but would need memory."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=r"it has more than \d+ MiB"):
        Task.load(path)
    with pytest.raises(OSError, match="more than 1 MiB"):
        trust.read_regular(path, most=2**20)


# Code


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A module on the path that leaves a mark when it is imported; its name, and the mark."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder, "imported")
        Path(folder, "foreign_code.py").write_text(
            f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
            "from treeagent import Checker\nfrom treeagent.strategies.bfs import BFS as Search\n"
            "from treeagent.strategies.evaluators import Value\n"
            "from treeagent.backends.scripted import ScriptedBackend as Backend\n"
        )
        monkeypatch.syspath_prepend(folder)
        yield "foreign_code", mark
        sys.modules.pop("foreign_code", None)


def test_a_task_file_names_no_evaluator_in_code(module: tuple[str, Path], tmp_path: Path) -> None:
    """Nothing is imported without permission, and the fault has its line; with it, the class is used."""
    name, mark = module
    path = tmp_path / "sums.yaml"
    path.write_text(with_evaluator(f"{name}:Value"))
    with pytest.raises(ConfigError, match=r"sums.yaml:9:evaluate.by: .* is code outside the registry.*--allow-code"):
        Task.load(path)
    assert not mark.exists()
    assert Agent(path, "bfs", backend=ScriptedBackend(["a"]), allow_code=True).evaluator is not None
    assert mark.exists()


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        ("valeu", "Did you mean 'value'"),
        ("", "no evaluator is called ''"),
        ("no_such_module:X", "cannot import the evaluator"),
        ("treeagent:Task", "'treeagent:Task' is no evaluator"),
        ("treeagent:NoName", "cannot import the evaluator"),
        ("os:system", "'os:system' is no evaluator"),
        (":x", "cannot import the evaluator"),
    ],
)
def test_an_evaluator_that_does_not_exist_is_a_fault_of_the_task_file(by: str, reason: str, tmp_path: Path) -> None:
    """``tasks validate`` names file, line and key, as every load does."""
    path = tmp_path / "sums.yaml"
    path.write_text(with_evaluator(by))
    with pytest.raises(ConfigError, match=reason) as fault:
        Task.load(path, allow_code=True)
    [problem] = fault.value.problems
    assert (problem.file, problem.line, problem.key) == (path, 9, "evaluate.by")
    answer = CliRunner().invoke(app, ["tasks", "validate", str(path), "--allow-code"])
    assert answer.exit_code == 2
    assert "sums.yaml:9:evaluate.by: " in answer.stderr
