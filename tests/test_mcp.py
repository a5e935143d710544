"""The Model Context Protocol: searches as tools of a server, and tools of a server for steps."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Oracle
from serve_tools import SlowTree, agent, service_of, until
from test_acting import TASK
from test_acting import task as acting_task

from treeagent import Agent, Budget, Checker, ConfigError, Request, ToolError, YamlTask
from treeagent.backends.scripted import ScriptedBackend
from treeagent.runtime.journal import read

mcp = pytest.importorskip("mcp")

from treeagent.mcp import ToolServer  # noqa: E402
from treeagent.server.search_tools import SearchTools  # noqa: E402

RULES = """
- {match: "Possible next steps", text: "4 + 6 = 10 (left: 5 10 10)"}
- {match: "", text: "sure"}
"""
SHOP = """
import json, os, sys

tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("die", "hang", "price", "table")]
for line in sys.stdin:
    request = json.loads(line)
    method, parameters = request["method"], request.get("params", {})
    if "id" not in request or parameters.get("name") == "hang":
        continue
    result, error = None, None
    if method == "initialize":
        about = {"name": "shop", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
    elif method == "tools/list":
        page = parameters.get("cursor")
        result = {"tools": tools[2:]} if page else {"tools": tools[:2], "nextCursor": "2"}
    elif method != "tools/call":
        error = {"code": -32601, "message": "Method not found"}
    elif parameters["name"] == "die":
        os._exit(3)
    elif parameters["name"] == "table":
        result = {"content": [], "structuredContent": {"tea": 3}}
    else:
        item = parameters["arguments"].get("item", "")
        result = {"content": [{"type": "text", "text": f"{item} costs {len(item)}"}], "isError": item == "crash"}
    reply = {"error": error} if error else {"result": result}
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}), flush=True)
"""
"""A server without the library, so that it starts at once; its list of tools has two pages."""


def in_client(tools: SearchTools, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """What ``work`` returns with a client of these tools, in this process."""

    async def connected() -> Any:
        async with mcp.Client(tools.server()) as client:
            return await work(client)

    return asyncio.run(connected())


def called(tools: SearchTools, name: str, **arguments: Any) -> Any:
    """The result of one call."""
    return in_client(tools, lambda client: client.call_tool(name, arguments))


# Searches as tools


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
        ("solve", {}, "input: Field required"),
        ("solve", {"input": "r", "model": "synthetic/bsf"}, "the nearest is 'synthetic/bfs'"),
        ("solve", {"input": "r", "budget": {"tokens": -1}}, "budget.tokens"),
        ("solve", {"input": "r", "temperature": 1}, "temperature: Extra inputs are not permitted"),
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


# Tools for steps


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
        "test_mcp:Shopper", **{"timeout: 0.1": f"timeout: {timeout}", "characters: 20": "characters: 200"}
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
