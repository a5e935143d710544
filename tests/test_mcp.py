"""The Model Context Protocol: searches as tools of a server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from mcp_tools import RULES, called, in_client
from serve_tools import SlowTree, agent, service_of, until

from treeagent import Agent, Budget
from treeagent.backends.scripted import ScriptedBackend
from treeagent.server.search_tools import SearchTools


def test_solve_gives_what_the_agent_gives_for_the_seed() -> None:
    """Answer, path, verdict and tokens; the text is the JSON of the structured content."""
    for seed in (0, 4):
        expected = agent(seed=seed).solve("r").to_json()
        result = called(SearchTools(service_of()), "solve", input="r", seed=seed)
        assert not result.is_error
        assert json.loads(result.content[0].text) == result.structured_content
        for name in ("answer", "path", "solved", "ended", "usage", "counts", "seed"):
            assert result.structured_content[name] == expected[name]


def test_the_tools_say_what_they_take() -> None:
    """The model may be left out where there is one; where there are more it must be one of them."""
    one, two = service_of(), service_of(agent(), agent(search="mcts"))
    for service, required in ((one, ["input"]), (two, ["input", "model"])):
        listed = in_client(SearchTools(service), lambda client: client.list_tools()).tools
        tools = {tool.name: tool for tool in listed}
        assert list(tools) == ["solve", "evaluate"]
        assert tools["solve"].input_schema["required"] == sorted(required, reverse=True)
        assert tools["solve"].input_schema["properties"]["model"]["enum"] == service.models.names
        assert "synthetic: Find the best leaf of a tree. Input: the name of the root" in tools["solve"].description


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("solve", {"input": "7"}, "is not an input of synthetic, which wants the name of the root"),
        ("solve", {}, "input: this key is missing"),
        ("solve", {"input": "r", "model": "synthetic/bsf"}, "the nearest is 'synthetic/bfs'"),
        ("solve", {"input": "r", "budget": {"tokens": -1}}, "budget.tokens"),
        ("solve", {"input": "r", "temperature": 1}, "temperature: unknown key. Valid: "),
        ("evaluate", {"limit": 0}, "limit"),
        ("evaluate", {}, "'synthetic' names no data"),
        ("evluate", {}, "there is no tool 'evluate'; there are solve and evaluate"),
    ],
)
def test_a_wrong_call_is_an_error_that_says_why(name: str, arguments: dict[str, Any], message: str) -> None:
    """The client's model reads it and can call again."""
    result = called(SearchTools(service_of()), name, **arguments)
    assert result.is_error
    assert message in result.content[0].text
    assert "\n" not in result.content[0].text


def test_the_limits_of_a_call_are_at_most_those_of_the_server() -> None:
    """A call may lower them."""
    tools = SearchTools(service_of(budget=Budget(calls=3)))
    for limit, calls in ((None, 3), (100, 3), (2, 2)):
        result = called(tools, "solve", input="r", budget={} if limit is None else {"calls": limit})
        assert result.structured_content["usage"]["calls"] == calls
        assert result.structured_content["ended"] == "calls"


def test_evaluate_gives_the_figures_of_the_outcomes() -> None:
    """The share that is right, what it cost, and each problem; ``start`` and ``limit`` choose the problems."""
    service = service_of(Agent("game24", backend=Oracle(), options={"b": 1}))
    result = called(SearchTools(service), "evaluate", start=2, limit=2).structured_content
    problems = result["problems"]
    assert [problem["number"] for problem in problems] == [2, 3]
    assert all(problem["right"] and problem["answer"] for problem in problems)
    assert (result["wanted"], result["run"], result["failed"], result["accuracy"]["value"]) == (2, 2, 0, 1.0)
    expected = [Agent("game24", backend=Oracle(), options={"b": 1}).solve(each["input"]) for each in problems]
    assert [each["answer"] for each in problems] == [each.answer for each in expected]
    assert result["tokens"] == sum(each.usage.tokens or 0 for each in expected)
    assert service.queue.running == 0


def test_a_call_that_its_client_cancels_ends_its_search() -> None:
    """No request stays, and the place in the queue is free."""
    backend = SlowTree(asyncio.Event().wait)
    service = service_of(agent(backend))

    async def leave(client: Any) -> None:
        calling = asyncio.ensure_future(client.call_tool("solve", {"input": "r"}))
        await until(lambda: backend.running > 0)
        calling.cancel()
        await until(lambda: backend.running == 0 and service.queue.running == 0)

    in_client(SearchTools(service), leave)


@pytest.mark.parametrize("tool", ["solve", "evaluate"])
def test_the_end_of_the_server_gives_what_there_is(tool: str) -> None:
    """A search ends with its best attempt, an evaluation with the problems that are solved."""
    held = ScriptedBackend(lambda request: "sure", order=lambda request: asyncio.Event().wait())  # type: ignore[arg-type]
    service = service_of(Agent("game24", backend=held))
    tools = SearchTools(service)

    async def end(client: Any) -> Any:
        arguments = {"input": "4 5 6 10"} if tool == "solve" else {"limit": 2}
        calling = asyncio.ensure_future(client.call_tool(tool, arguments))
        await until(lambda: held.requests)
        tools.close()
        return await calling

    result = in_client(tools, end)
    assert not result.is_error
    content = result.structured_content
    if tool == "solve":
        assert content["ended"] == "interrupted"
    else:
        assert (content["wanted"], content["run"]) == (2, 0)


def server_process(folder: Path, *words: str) -> subprocess.Popen[str]:
    """``treeagent serve --mcp`` with a scripted backend."""
    (folder / "rules.yaml").write_text(RULES)
    how = ["--task", "game24", "--search", "bfs", "--backend", "scripted", "--model", "rules.yaml", *words]
    command = [sys.executable, "-c", "from treeagent.cli import main; main()", "serve", "--mcp", *how]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def line(id: int, method: str, **parameters: Any) -> str:
    """A request of the protocol, as a client of before 2026 sends it."""
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}) + "\n"


def test_serve_mcp_speaks_on_standard_input_and_output_until_it_is_stopped(tmp_path: Path) -> None:
    """Nothing but the protocol is on standard output; a line that is no JSON ends nothing; exit code 0 at SIGTERM."""
    process = server_process(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    process.stdin.write("no JSON\n" + line(1, "initialize", **about))
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n")
    process.stdin.write(line(2, "tools/call", name="solve", arguments={"input": "4 5 6 10", "seed": 1}))
    process.stdin.flush()
    replies: dict[int, Any] = {}
    while 2 not in replies:
        reply = json.loads(process.stdout.readline())
        replies[reply.get("id")] = reply
    assert replies[1]["result"]["serverInfo"]["name"] == "treeagent"
    assert replies[2]["result"]["structuredContent"]["ended"] == "finished"
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "Traceback" not in errors
