"""The tools ``solve`` and ``evaluate`` of an MCP server over the searches of this project."""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from .. import __version__, aio
from ..errors import TreeagentError
from ..evaluation.outcomes import Outcome
from ..evaluation.run import ProblemSolver
from ..evaluation.summary import summary
from ..jsonl import strict
from ..runtime.agent import Agent
from ..runtime.journal import Event
from ..runtime.result import Result
from ..taskfile import dataset
from ..taskfile.dataset import DataRow
from .http_errors import HttpError, from_error
from .protocol import BudgetFields, SearchFields, outcome, read
from .search_service import OrderedSearch, SearchService

_SEED = Field(default=None, ge=-(2**63), lt=2**63, description="Seed of every random choice.")
_BUDGET = Field(default_factory=BudgetFields, description="Limits of a search; those of the server stay the highest.")
_MODEL = Field(description="TASK/SEARCH: the task and the search that solves it.")


class SolveArguments(SearchFields):
    """Arguments of ``solve``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    input: str = Field(description="What is to be solved, in the form that the task asks for.")
    model: str = _MODEL
    seed: int | None = _SEED
    budget: BudgetFields = _BUDGET
    row: dict[str, Any] | None = Field(
        default=None, description="Fields of the input's data row, for a task that reads them."
    )


class EvaluateArguments(BaseModel):
    """Arguments of ``evaluate``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str = _MODEL
    start: int = Field(default=0, ge=0, description="Problems of the task's data to skip.")
    limit: int = Field(default=10, ge=1, description="Problems to solve.")
    seed: int | None = _SEED
    budget: BudgetFields = _BUDGET


@dataclass(frozen=True, slots=True)
class SearchTool:
    """A tool: its arguments, and what runs it."""

    definition: Tool
    call: Callable[[bytes], Awaitable[dict[str, Any]]]
    """Takes the arguments as JSON. Raises HttpError and TreeagentError."""


class SearchTools:
    """The tools over the searches of a service."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        self._calls: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Event()
        tools = (
            self._tool("solve", f"Solve an input by tree search over the thoughts of a language model. {self._tasks()}",
                       SolveArguments, self._solve),
            self._tool("evaluate", "Solve problems of a task's data set, and tell the share that is right with its "
                       "interval, the cost and each outcome.", EvaluateArguments, self._evaluate),
        )  # fmt: skip
        self._tools = {tool.definition.name: tool for tool in tools}

    def server(self) -> Server[Any]:
        """An MCP server with these tools."""

        async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
            return ListToolsResult(tools=[tool.definition for tool in self._tools.values()])

        async def call_tool(_context: Any, params: CallToolRequestParams) -> CallToolResult:
            return await self.call(params.name, params.arguments or {})

        return Server("treeagent", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)

    async def call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        """The result of a call; what goes wrong in it is an error that the client reads."""
        if (tool := self._tools.get(name)) is None:
            return _error(f"there is no tool {name[:80]!r}; there are {' and '.join(self._tools)}")
        given = {**self._defaults(), **arguments}
        running = asyncio.ensure_future(tool.call(json.dumps(given).encode()))
        self._calls.add(running)
        try:
            data = await running
        except (HttpError, TreeagentError) as error:
            return _error(str(error))
        finally:
            await aio.cancel([running])
            self._calls.discard(running)
        text = strict(data)
        return CallToolResult(content=[TextContent(text=text)], structured_content=json.loads(text))

    def close(self) -> None:
        """End all calls: searches with their best attempts, evaluations with the problems that are solved."""
        self._closing.set()
        self._service.close()

    async def ended(self, seconds: float) -> None:
        """Wait until all calls have ended, at most for so long."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)

    def _tool(self, name: str, text: str, form: type[BaseModel], call: Callable[[bytes], Any]) -> SearchTool:
        schema = form.model_json_schema()
        names = self._service.models.names
        schema["properties"]["model"] |= {"enum": names} | ({"default": names[0]} if len(names) == 1 else {})
        schema["required"] = [each for each in schema["required"] if each not in self._defaults()]
        hints = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        return SearchTool(Tool(name=name, description=text, input_schema=schema, annotations=hints), call)

    def _defaults(self) -> dict[str, Any]:
        """The model, where there is only one."""
        names = self._service.models.names
        return {"model": names[0]} if len(names) == 1 else {}

    def _tasks(self) -> str:
        """The tasks in words, with the form of their inputs."""
        tasks = {agent.task.name: agent.task for agent in self._service.models.agents.values()}
        lines = [
            f"{name}: {task.description} Input: {task.input_form}, such as {task.examples[0]!r}."
            for name, task in sorted(tasks.items())
        ]
        return "Tasks: " + " ".join(lines)

    async def _solve(self, arguments: bytes) -> dict[str, Any]:
        fields = read(SolveArguments, arguments)
        order = OrderedSearch(f"mcp-{uuid.uuid4().hex}", fields, fields.input, _ignore)
        self._service.check(order)
        with self._service.queue.place() as turn:
            result: Result = await self._service.solve(self._service.prepare(order), turn)
        return outcome(result)

    async def _evaluate(self, arguments: bytes) -> dict[str, Any]:
        fields = read(EvaluateArguments, arguments)
        agent = self._service.models.agent(fields.model)
        agent = agent.with_seed(agent.seed if fields.seed is None else fields.seed)
        try:
            agent = agent.with_budget(fields.budget.capped(self._service.budget))
            outcomes, wanted = await self._outcomes(agent, fields.start, fields.limit)
        except TreeagentError as error:
            raise from_error(error) from error
        figures = summary(outcomes, wanted).to_json()
        names = ("wanted", "run", "failed", "accuracy", "ungraded", "unanswered", "calls", "tokens", "dollars")
        problems = [
            {name: getattr(each, name) for name in ("number", "input", "answer", "right", "ended", "error")}
            for each in outcomes
        ]
        return {"model": fields.model, **{name: figures[name] for name in names}, "problems": problems}

    async def _outcomes(self, agent: Agent, start: int, limit: int) -> tuple[list[Outcome], int]:
        """The outcomes of problems in their order, and how many there are; fewer where the server ends meanwhile."""
        data = await aio.in_thread(dataset.load, agent.task, start, start + limit)
        with tempfile.TemporaryDirectory(prefix="treeagent-") as folder:
            solver = ProblemSolver(agent, data, Path(folder))

            async def solve(row: DataRow) -> Outcome:
                with self._service.queue.place() as turn:
                    await turn
                    return await solver.solve(row)

            solving = [asyncio.ensure_future(solve(row)) for row in data.rows]
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                either: set[asyncio.Future[Any]] = {asyncio.gather(*solving, return_exceptions=True), closing}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await aio.cancel([closing, *solving])
        ended = [each for each in solving if not each.cancelled()]
        if not self._closing.is_set():
            return [each.result() for each in ended], len(data.rows)
        return [each.result() for each in ended if each.exception() is None], len(data.rows)


def _ignore(_: Event) -> None:
    """The steps of a search are in its result."""


def _error(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=message)], is_error=True)
