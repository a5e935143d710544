"""Constraints in the engine: masks along the draft tree, the texts and the law of plain constrained sampling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from treeagent.backend import Backend
from treeagent.backends.local.token_masks import TokenMask
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.speculation.forced_drafts import constrained_draft
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


def test_the_plain_backend_in_8_bits_keeps_to_constraints() -> None:
    """The size of its vocabulary is that of the model, whatever its last layer is made of."""
    for texts in _tokens(TransformersBackend("mini", dtype="int8"), 1.0)[:3]:
        assert all(texts)


@pytest.mark.sampled(2, shifted=True)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("options", [{}, {"drafter": "none"}, {"draft": "mini-draft", "drafter": "merged+model"}])
def test_constrained_texts_are_those_of_plain_decoding(options: dict[str, Any], temperature: float) -> None:
    """Whatever is drafted, the tokens are those of backend transformers, also with warpers."""
    more: dict[str, Any] = {"top_p": 0.9, "top_k": 40} if temperature else {}
    engine = SeedBackend("mini", dtype="float64", **options)
    assert "constraints" in engine.capabilities
    plain = TransformersBackend("mini", dtype="float64")
    assert _tokens(engine, temperature, **more) == _tokens(plain, temperature, **more)


class Spelled(TokenMask):
    """Allows one text of tokens, or from a place on any."""

    def __init__(self, tokens: tuple[int, ...]) -> None:
        self._tokens = tokens

    def forced(self) -> list[int]:
        """See :class:`TokenMask`."""
        return list(self._tokens)

    def after(self, token: int) -> TokenMask | None:
        """See :class:`TokenMask`."""
        if not self._tokens:
            return self
        return Spelled(self._tokens[1:]) if token == self._tokens[0] else None


def test_forced_tokens_stand_first_and_forbidden_ones_are_left_out() -> None:
    """A chosen draft is joined to the forced tokens; a drawn one is given whole, or not at all beside forced tokens."""
    row = SequenceState([0], 1, Sampling(), 0, 20, mask=Spelled((7, 8)))
    chosen = Draft([7, 5, 8, 9, 6], [-1, -1, 0, 2, 1], [0.5, 0.4, 0.3, 0.2, 0.1])
    merged = constrained_draft(row, chosen, 10)
    assert (merged.tokens, merged.parents, merged.confidence) == ([7, 8, 9], [-1, 0, 1], [1.0, 1.0, 0.2])
    drawn = Draft([5], [-1], [0.5], [np.array([1.0])])
    assert constrained_draft(row, drawn, 10).tokens == [7, 8]
    assert constrained_draft(row, drawn, 0) is drawn
    free = SequenceState([0], 1, Sampling(), 0, 20, mask=Spelled(()))
    assert constrained_draft(free, drawn, 10) is drawn
    assert len(constrained_draft(SequenceState([0], 1, Sampling(), 0, 2, mask=Spelled((7, 8))), Draft(), 10)) == 1


def _rounds(drafter: str) -> tuple[int, list[str]]:
    """Rounds of constrained completions of ``mini``, and their texts."""

    async def ask() -> tuple[int, list[str]]:
        backend = SeedBackend("mini", drafter=drafter)
        constraint = Constraint("regex", r"\d = \d+ \(left: \d+ and nothing else that could be of use\)")
        request = Request(PROMPT, Key(0, "sample", "0"), Sampling(1.0, max_tokens=60, constraint=constraint), 2)
        try:
            backend.load()
            meter = backend.meter()
            reply = await backend.generate(request)
            return meter()["rounds"], [completion.text for completion in reply.completions]
        finally:
            await backend.aclose()

    return asyncio.run(ask())


def test_forced_tokens_take_few_passes() -> None:
    """A text of which most is forced takes less than half of the passes of plain decoding, with the same tokens."""
    (plain, texts), (fewer, same) = _rounds("none"), _rounds("auto")
    assert same == texts
    assert fewer < plain / 2
