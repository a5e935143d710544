"""An agent as a stage of a Ray Data pipeline."""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import TreeagentError
from ..runtime.agent import Agent


class EvaluateBatch:
    """Solves the column ``input`` of batches: ``dataset.map_batches(EvaluateBatch, fn_constructor_kwargs={...})``.

    Takes what :class:`Agent` takes. All inputs of a batch run at one time.
    """

    def __init__(self, task: str, search: str = "bfs", **how: Any) -> None:
        self._agent = Agent(task, search, **how)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with the columns ``answer``, ``solved`` and ``error``, null where unknown."""
        rows = asyncio.run(self._solve([str(text) for text in batch["input"]]))
        names = ("answer", "solved", "error")
        return {**batch, **{name: [row[i] for row in rows] for i, name in enumerate(names)}}

    async def _solve(self, inputs: list[str]) -> list[tuple[str | None, bool | None, str | None]]:
        return list(await asyncio.gather(*map(self._one, inputs)))

    async def _one(self, text: str) -> tuple[str | None, bool | None, str | None]:
        try:
            result = await self._agent.asolve(text)
        except TreeagentError as error:
            best = error.result  # of a search that failed on its way
            return None if best is None else best.answer, None, str(error)
        return result.answer, result.solved, None
