"""The Python tool under programs that go wrong, and the task that uses it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from treeagent import Agent, Request, Task, ToolError
from treeagent.backends.scripted import ScriptedBackend
from treeagent.taskfile import dataset
from treeagent.tasks.arithmetic_tools import calculates
from treeagent.tasks.python_tool import PythonTool

DATA = Path(__file__).parents[1] / "prompts" / "data" / "arithmetic_tools.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text().splitlines()]


def output(program: str, tool: PythonTool | None = None) -> str:
    """What the tool says of a program."""
    return asyncio.run((tool or PythonTool()).run(program))


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("1 + 1", "2"),
        ("print('a')\nprint('b')\n3 * 4", "a\nb\n12"),
        ("x = 1", ""),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("(", "SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)", ""),
        ("'\u00fc\u20ac'", "\u00fc\u20ac"),
        ("input()", "EOFError: EOF when reading a line"),
        ("'x' * 10 ** 10", "MemoryError"),
        ("open('file', 'w').write('x' * 10 ** 7)", "OSError: [Errno 27] File too large"),
    ],
)
def test_a_program_ends_with_what_it_prints(program: str, printed: str) -> None:
    """Its last value too, and of an exception the last line; a lack of memory or of disk is one."""
    assert output(program) == printed


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("while True: pass", "did not end within 1 s|ended by SIG"),
        ("import signal; signal.pause()", "did not end within 1 s"),
        ("while True: print('x' * 1000)", "wrote more than 10,000 bytes"),
        ("import sys\nwhile True: sys.stderr.write('x')", "wrote more than 10,000 bytes"),
        ("import faulthandler; faulthandler._sigsegv()", "ended by SIGSEGV"),
    ],
)
def test_a_program_that_hangs_floods_or_crashes_is_ended(program: str, message: str) -> None:
    """With a ToolError of one line."""
    with pytest.raises(ToolError, match=message):
        output(program, PythonTool(seconds=1))


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.fork()",
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
        "import ctypes",
    ],
)
def test_a_program_starts_nothing_and_reaches_nobody(program: str) -> None:
    """It gets an exception."""
    assert output(program).startswith("PermissionError: ")


def gone(process: int) -> bool:
    """Whether a process has ended, or is a zombie that only waits for its parent."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("ending", ["", "while True: pass", "print('x' * 10 ** 6)"])
def test_what_a_program_leaves_behind_ends_with_it(ending: str, tmp_path: Path) -> None:
    """Its children are killed when it ends, hangs or floods, though they hold its output open."""
    note = tmp_path / "note"
    program = (
        "import os, signal\nif os.fork() == 0:\n"
        f"  open({str(note)!r}, 'w').write(str(os.getpid()))\n  signal.pause()\n"
        f"while not os.path.exists({str(note)!r}) or not open({str(note)!r}).read(): os.sched_yield()\n{ending}"
    )
    tool = PythonTool(seconds=5 if ending == "" else 1, processes=True)
    if ending:
        with pytest.raises(ToolError):
            output(program, tool)
    else:
        assert output(program, tool) == ""
    child = int(note.read_text())
    for _ in range(1000):  # the kernel may need a moment
        if gone(child):
            return
        os.sched_yield()
    assert gone(child)


def test_a_fork_bomb_is_ended() -> None:
    """All of its processes are in one group."""
    with pytest.raises(ToolError):
        output("import os\nfor _ in range(50): os.fork()", PythonTool(seconds=1, processes=True))


def test_a_cancelled_program_is_killed(tmp_path: Path) -> None:
    """As Ctrl-C and a budget do."""
    note = tmp_path / "note"

    async def main() -> None:
        program = f"import os, signal; open({str(note)!r}, 'w').write(str(os.getpid())); signal.pause()"
        run = asyncio.ensure_future(PythonTool(seconds=100).run(program))
        while not note.exists() or not note.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), signal.SIGTERM)


def test_a_program_sees_an_empty_folder_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment stays behind, and the folder is removed."""
    monkeypatch.setenv("SOME_KEY", "secret")
    text = output("import os; print(os.listdir(), 'SOME_KEY' in os.environ); os.getcwd()")
    listed, folder = text.splitlines()
    assert listed == "[] False"
    assert not Path(folder).exists()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["question"][:30])
def test_the_gold_answers_are_what_the_programs_print(row: dict[str, str]) -> None:
    """Each calculates, and no more than that."""
    assert calculates(row["program"])
    assert output(row["program"]) == row["answer"]


@pytest.mark.parametrize(
    "program",
    [
        "import os",
        "from os import path",
        "from . import x",
        "open('/etc/passwd').read()",
        "().__class__",
        "__import__('os')",
        "getattr(1, 'real')",
        "eval('1')",
        "(",
        "",
        "1 +" * 700 + "1",
        "x = 1\0",
    ],
)
def test_a_program_that_does_more_than_calculate_is_illegal(program: str) -> None:
    """It is never run."""
    assert not calculates(program)


def scripted() -> ScriptedBackend:
    """Writes the program of each question, and then its output as the answer; beside it a wrong answer."""

    def answer(request: Request) -> str | list[str]:
        [row] = [row for row in ROWS if f"\n{row['question']}\n" in request.prompt]
        lines = request.prompt.rpartition(row["question"])[2].strip().splitlines()
        if request.key.role == "value":
            return " good" if lines[-2].startswith(("Output", "Answer")) and len(lines) > 2 else " bad"
        if lines:
            return f"Answer: {lines[-1].removeprefix('Output: ')}"
        return [f"Code: {row['program']}", "Code: 1 / 0", "Code: import os", "Answer: 0"]

    return ScriptedBackend(answer)


@pytest.mark.parametrize("search", ["greedy", "bfs", "mcts"])
def test_every_row_is_answered_with_the_tool(search: str) -> None:
    """And graded right, exactly."""
    task = Task.load("arithmetic_tools")
    agent = Agent(task, search, backend=scripted(), options={"simulations": 6} if search == "mcts" else {})
    data = dataset.load(task, 0, None if search == "greedy" else 3)
    for row in data.rows:
        result = agent.solve(row.input)
        assert data.gold.grade(row, result.answer) is True
        assert data.gold.grade(row, "1") is False
        assert result.counts.illegal >= 1
        assert result.counts.failed == 0
        assert re.search(r"\nOutput: ", result.tree[1].state)
