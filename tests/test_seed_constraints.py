"""Constraints in the engine: masks along the draft tree, the texts and the law of plain constrained sampling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from treeagent.backend import Backend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.constraint import Constraint
from treeagent.request import Key, Request, Sampling

STEP = Constraint("regex", r"\d+ [-+*/] \d+ = \d{1,3} \(left: \d+( \d+){0,2}\)(\n\d+ [-+*/] \d+ = \d{1,3})*")
SCHEMA = Constraint("json_schema", json.dumps({"type": "object", "properties": {"x": {"type": "integer"}}}))
CONSTRAINTS = (STEP, SCHEMA, Constraint.of_choices([" sure", " likely", " impossible"]), None)
PROMPT = "Combine two of the numbers with + - * / on the way to 24.\nNumbers: 4 9 10 13\nSteps:\n"


def _tokens(backend: Backend, temperature: float, **more: Any) -> list[list[tuple[int, ...]]]:
    """The tokens of completions under each constraint, requested together."""

    async def ask() -> list[list[tuple[int, ...]]]:
        samplings = [Sampling(temperature, max_tokens=40, constraint=each, **more) for each in CONSTRAINTS]
        requests = [Request(PROMPT, Key(i, "propose", "0"), each, 3) for i, each in enumerate(samplings)]
        try:
            replies = [await asyncio.gather(*map(backend.generate, requests)) for _ in range(2)]  # tables learn
        finally:
            await backend.aclose()
        return [[completion.tokens for completion in reply.completions] for turn in replies for reply in turn]

    return asyncio.run(ask())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("options", [{}, {"drafter": "none"}, {"draft": "mini-draft", "drafter": "merged+model"}])
def test_constrained_texts_are_those_of_plain_decoding(options: dict[str, Any], temperature: float) -> None:
    """Whatever is drafted, the tokens are those of backend transformers, also with warpers."""
    more: dict[str, Any] = {"top_p": 0.9, "top_k": 40} if temperature else {}
    engine = SeedBackend("mini", dtype="float64", **options)
    assert "constraints" in engine.capabilities
    plain = TransformersBackend("mini", dtype="float64")
    assert _tokens(engine, temperature, **more) == _tokens(plain, temperature, **more)
