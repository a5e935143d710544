"""Two hundred random texts of every listed family and temperature: the engine's are those of ``transformers``."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import state_families
import transformers
from draft_trees import Trees
from engine_families import FAMILIES, stated
from seed_tools import ask, fixed_costs, save_model, scheduler, tokenizer_size

from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import Key, Request, Sampling

DRAWS, TOKENS = 200, 16
"""Texts of a family at a temperature, and the most tokens of each."""
TEMPERATURES = (0.0, 0.7, 1.3)


class Chains(Trees):
    """Random chains, each token of which is the right one with probability ``hit``."""

    def _draft(self, row: SequenceState, depth: int) -> Draft:
        draft, right = Draft(), list(self.truth[row.stream][row.position :])
        for level in range(self.random.randint(0, depth)):
            true = level < len(right) and self.random.random() < self.hit
            draft.tokens.append(right[level] if true else self.random.randrange(tokenizer_size()))
            draft.parents.append(level - 1)
            draft.confidence.append(self.random.random())
        return draft


def write(family: str, where: Path) -> str:
    """A tiny model; returns its folder."""
    if family in state_families.FAMILIES:
        return state_families.write_model(where, family)
    prefix, shape = FAMILIES[family]
    sizes = dict.fromkeys((name for name in shape if name.startswith("vocab_size")), tokenizer_size())
    size = {**shape, **sizes, "initializer_range": 0.25}
    return save_model(where / "model", getattr(transformers, f"{prefix}Config")(**size))


def requests(temperature: float) -> Iterator[Request]:
    """Prompts that are all different and share beginnings with some others."""
    chance = random.Random(f"prompts at {temperature}")
    for place in range(DRAWS):
        numbers = " ".join(str(chance.randint(1, 13)) for _ in range(chance.randint(2, 4)))
        key = Key(place, "propose", f"{place} {temperature}")
        yield Request(f"Use {numbers}: {place}", key, Sampling(max_tokens=TOKENS, temperature=temperature))


def tokens(backend: Any, asked: Sequence[Request]) -> list[tuple[int, ...]]:
    """Of each text, in the order of the requests."""
    return [tuple(reply.completions[0].tokens) for reply in ask(backend, *asked)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("family", [family for family, (runs, _) in stated().items() if runs == "yes"])
def test_two_hundred_draws_are_the_same(family: str, temperature: float, tmp_path: Path) -> None:
    """Token for token: without drafts, with chains and with trees of them, in rounds of many texts."""
    folder, asked = write(family, tmp_path), list(requests(temperature))
    right = tokens(TransformersBackend(folder, device="cpu", dtype="float32", max_batch=DRAWS), asked)
    assert len(set(right)) > DRAWS // 5
    truth = {request.key.stream(0): text for request, text in zip(asked, right, strict=True)}
    for drafter in (None, Chains(truth, hit=0.8), Trees(truth, hit=0.8, over=1)):
        options: dict[str, Any] = {"drafter": "none"}
        if drafter is not None:
            options = {"drafter": lambda made=drafter: made, "draft_tokens": 8}
        with fixed_costs():
            engine = SeedBackend(folder, device="cpu", dtype="float32", max_rows=DRAWS, **options)
            own = tokens(engine, asked)
        assert (scheduler(engine).counters.accepted > DRAWS) == (drafter is not None)
        differing = [place for place in range(DRAWS) if own[place] != right[place]]
        assert not differing, f"{len(differing)} of {DRAWS} differ, with drafts {drafter and drafter.name}"
