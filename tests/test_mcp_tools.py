"""The Model Context Protocol: tools of a server for steps."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from acting_tools import TASK
from acting_tools import task as acting_task
from mcp_tools import RULES, SHOP

from treeagent import Agent, Checker, ConfigError, Request, ToolError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.mcp import ToolServer
from treeagent.runtime.journal import read


class Shopper(Checker):
    """Looks prices up; a step that ends needs no observation."""

    shop: ToolServer

    async def observe(self, parent: str, text: str) -> str | None:
        verb, _, rest = text.partition(" ")
        if verb == "end":
            return None
        tool = rest if rest in ("hang", "die", "steal") else "price"
        return await self.shop.call(tool, {"item": rest} if tool == "price" else {})


def solve(at: Any, steps: str, monkeypatch: pytest.MonkeyPatch, timeout: str = "30", **how: Any) -> Any:
    """A search whose first steps are these; below them every step ends."""
    monkeypatch.setattr(Shopper, "shop", ToolServer(at, **how.pop("server", {})), raising=False)

    task = acting_task(
        "test_mcp_tools:Shopper", **{"timeout: 0.1": f"timeout: {timeout}", "characters: 20": "characters: 200"}
    )
    return Agent(task, backend=proposing(steps)).solve("start", **how)


def proposing(steps: str) -> ScriptedBackend:
    """Proposes these steps first, and below them a step that ends."""

    def answer(request: Request) -> str:
        if request.key.role == "value":
            return "sure"
        return steps if request.prompt == "next of start\n" else "end it"

    return ScriptedBackend(answer)


def python(code: str) -> list[str]:
    """A command that runs a program."""
    return [sys.executable, "-c", code]


def test_a_step_calls_the_tools_of_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tool returns is in the state and in the journal; what fails drops its step alone, with the reason."""
    journal = tmp_path / "run.jsonl"
    result = solve(python(SHOP), "do tea\ndo crash\ndo steal\ndo milk", monkeypatch, journal=journal)
    observed = {event.data["text"]: event.data for event in read(journal) if event.type == "observed"}
    assert observed["do tea"]["observation"] == "tea costs 3"
    errors = {text: data["error"] for text, data in observed.items() if data["error"]}
    assert set(errors) == {"do crash", "do steal"}
    assert "the tool 'price' of the MCP server" in errors["do crash"]
    assert "reports an error: crash costs 5" in errors["do crash"]
    assert "has no tool 'steal'; it has: die, hang, price, table" in errors["do steal"]
    assert "tea costs 3" in next(thought.state for thought in result.tree if thought.text == "do tea")
    assert (result.counts.failed, result.ended) == (2, "finished")


TOOLS = """
observe:
  server: [{python}, -c, {shop}]
  tool: "{{{{ text.split()[1] if text.startswith('do') }}}}"
  arguments: "{{{{ text.split(' ', 2)[2] or '{{}}' }}}}"
"""


def task_of_tools(text: str = TOOLS, *, allow_code: bool = True) -> YamlTask:
    """The task ``acting`` without a checker, whose steps are calls: ``do TOOL ARGUMENTS``."""
    start, _, rest = TASK.partition("observe:\n  timeout: 0.1\n  characters: 20\n")
    keys = text.format(python=json.dumps(sys.executable), shop=json.dumps(SHOP))
    return YamlTask(start.replace("checker: CHECKER\n", "") + keys.lstrip() + rest, allow_code=allow_code)


def test_a_task_file_alone_can_name_a_server_and_its_tools() -> None:
    """The tool and its arguments are templates of the step; arguments that are no object drop the step."""
    steps = 'do price {"item": "tea"}\ndo price [3]\ndo price {"item"\ndo steal {}\ndo table {}\nend it'
    reasons: dict[str, str] = {}
    result = Agent(task_of_tools(), backend=proposing(steps)).solve(
        "start", on_event=lambda event: reasons.update({event.data["text"]: event.data["error"] or ""})
        if event.type == "observed" else None,
    )  # fmt: skip
    states = {thought.text: thought.state for thought in result.tree if thought.depth == 1}
    assert states['do price {"item": "tea"}'].endswith("tea costs 3")
    assert states["do table {}"].endswith('{"tea": 3}')
    assert reasons["do price [3]"].endswith("observe.arguments: no JSON object: '[3]'")
    assert "no JSON object" in reasons['do price {"item"']
    assert "has no tool 'steal'" in reasons["do steal {}"]
    assert (reasons["end it"], result.counts.failed) == ("", 3)


def test_a_task_file_names_no_server_without_leave() -> None:
    """It could start any command."""
    with pytest.raises(ConfigError, match=r"observe\.server: a server is code outside the registry.*--allow-code"):
        task_of_tools(allow_code=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("observe: {{server: [x]}}\n", "observe: 'server' and 'tool' need each other"),
        ("observe: {{tool: x}}\n", "observe: nothing is observed: .* or 'server' and 'tool'"),
        ("observe: {{server: shop, tool: x}}\n", "observe.server: 'shop' is no address of an MCP server"),
        ("observe: {{server: [], tool: x}}\n", "observe.server: an MCP server is an address or the words"),
        ('observe: {{server: [x], tool: "{{{{ stepp }}}}"}}\n', "observe.tool: .*stepp"),
    ],
)
def test_a_server_that_a_task_file_names_wrongly_is_a_problem_of_its_line(text: str, message: str) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError, match=message):
        task_of_tools(text)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (["no-such-program"], "No such file or directory"),
        (python("raise SystemExit('the file is missing')"), "Connection closed; its last line: the file is missing"),
        (python("import sys; print('hello'); sys.stdin.read()"), "it did not answer within 0.5 s"),
        ("http://127.0.0.1:9/mcp", "All connection attempts failed"),
    ],
)
def test_a_server_that_does_not_start_costs_its_steps_alone(
    at: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the reason in one line, and the search ends in an orderly way."""
    reasons: list[str] = []
    seconds = 0.5 if "hello" in str(at) else 30
    result = solve(
        at, "do tea\ndo milk\nend it", monkeypatch, server={"seconds": seconds},
        on_event=lambda event: reasons.append(event.data["error"]) if event.type == "observed" else None,
    )  # fmt: skip
    reasons = [each for each in reasons if each]
    assert len(reasons) == 2
    assert all("did not start: " + reason in each and "\n" not in each for each in reasons)
    assert [thought.text for thought in result.tree][1:] == ["end it"]


def test_a_server_that_ends_is_started_again_at_the_next_call() -> None:
    """The calls that it has fail; one that is cancelled disturbs no other; each event loop has a server of its own."""
    shop = ToolServer(python(SHOP))

    async def work() -> list[str]:
        hanging = asyncio.ensure_future(shop.call("hang"))
        results = [await shop.call("price", {"item": "tea"})]
        hanging.cancel()
        results += await asyncio.gather(*(shop.call("price", {"item": "x" * n}) for n in range(20)))
        with pytest.raises(ToolError, match=r"the tool 'die' of the MCP server .* failed: Connection closed"):
            await shop.call("die")
        return [*results, await shop.call("table")]

    for _ in range(2):
        assert asyncio.run(work()) == ["tea costs 3", *(f"{'x' * n} costs {n}" for n in range(20)), '{"tea": 3}']


@pytest.mark.exhaustive
def test_a_search_can_be_the_tool_of_a_search(tmp_path: Path) -> None:
    """The server of this project is a server for its own tasks; it ends with the event loop."""
    (tmp_path / "rules.yaml").write_text(RULES)
    how = ["--task", "game24", "--search", "bfs", "--backend", "scripted", "--model", str(tmp_path / "rules.yaml")]
    server = ToolServer([*python("from treeagent.cli import main; main()"), "serve", "--mcp", *how], seconds=120)
    reply = json.loads(asyncio.run(server.call("solve", {"input": "4 5 6 10", "seed": 3})))
    assert (reply["ended"], reply["seed"]) == ("finished", 3)


@pytest.mark.parametrize("at", [[], "python server.py", ["python", ""], [1]])
def test_a_server_without_a_command_or_an_address_is_refused_at_once(at: Any) -> None:
    """Before any search."""
    with pytest.raises(ConfigError, match="MCP server"):
        ToolServer(at)
