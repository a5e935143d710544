"""The programs of ``docs/guides/embedding.md``, run as they stand there."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
from walkthrough import PART

from treeagent import Result
from treeagent.runtime.recorded_event import from_text

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "embedding.md"
BLOCKS = {part["file"]: part["content"] for part in PART.finditer(GUIDE.read_text()) if part["file"]}
INPUT = "4 9 10 13"


def program(file: str, folder: Path) -> dict[str, Any]:
    """The names of a program of the guide after it has run."""
    path = folder / file
    path.write_text(BLOCKS[file])
    return runpy.run_path(str(path))


def served(app: Any, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    """The replies of an application to requests, between its start and its end."""

    async def work() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(work())


def test_fastapi(tmp_path: Path) -> None:
    """Seed and budget of a request count, a wrong input is 422, and the end of the application frees the model."""
    pytest.importorskip("fastapi")
    names = program("fastapi_app.py", tmp_path)
    body = {"input": INPUT, "seed": 3, "calls": 4}
    right, wrong = served(
        names["app"], ("POST", "/solve", {"json": body}), ("POST", "/solve", {"json": {"input": "x"}})
    )
    expected = names["agent"].solve(INPUT, seed=3, budget=names["Budget"](calls=4))
    assert right.json() == {
        "answer": expected.answer, "solved": expected.solved, "path": list(expected.path), "ended": "calls",
    }  # fmt: skip
    assert wrong.status_code == 422
    assert "4" in wrong.json()["detail"]


def test_starlette_streams_the_events(tmp_path: Path) -> None:
    """They are those of the journal, up to the end; a wrong input is an event."""
    names = program("starlette_app.py", tmp_path)
    right, wrong = served(
        names["app"], ("GET", "/events", {"params": {"input": INPUT}}), ("GET", "/events", {"params": {"input": "x"}})
    )
    events = [from_text(line.removeprefix("data: ")) for line in right.text.split("\n\n") if line]
    assert [event.type for event in events][:: len(events) - 1] == ["run", "end"]
    seen: list[Any] = []
    names["agent"].solve(INPUT, on_event=seen.append)
    assert [event for event in events if event.type == "thought"] == [each for each in seen if each.type == "thought"]
    assert json.loads(wrong.text.removeprefix("data: "))["type"] == "error"


def cells() -> list[str]:
    """The cells of the notebook."""
    return [cell for cell in re.split(r"^# %%\n", BLOCKS["notebook.py"], flags=re.MULTILINE) if cell]


def test_a_notebook_shows_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    """By IPython's formatter where it is installed; else its cells run as a notebook runs them."""
    shown = _in_ipython() if _has_ipython() else asyncio.run(_in_a_loop())
    assert len(shown) == 1
    assert '<div class="treeagent-result">' in shown[0]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()] == ["0", "1", "2"]


def _has_ipython() -> bool:
    try:
        import IPython  # noqa: F401
    except ImportError:
        return False
    return True


def _in_ipython() -> list[str]:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shown = []
    for cell in cells():
        outcome = shell.run_cell(cell, store_history=False)
        outcome.raise_error()
        if isinstance(outcome.result, Result):
            shown.append(shell.display_formatter.format(outcome.result)[0]["text/html"])
    return shown


async def _in_a_loop() -> list[str]:
    names: dict[str, Any] = {}
    shown = []
    for cell in cells():
        code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)  # noqa: S307  the guide's own text
        if asyncio.iscoroutine(outcome):
            await outcome
        last = cell.strip().splitlines()[-1]
        if last.isidentifier():
            shown.append(names[last]._repr_html_())
    return shown


@pytest.mark.exhaustive
def test_a_kernel_of_jupyter_shows_the_result() -> None:
    """In a process of its own, from a notebook file."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells()])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    [output] = notebook.cells[1].outputs
    assert '<div class="treeagent-result">' in output.data["text/html"]


def test_the_example_of_typed_events_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each class is matched by its fields."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "match" in block]
    exec(code, {"__name__": "guide"})  # noqa: S102  the guide's own text
    assert "has the value" in capsys.readouterr().out
