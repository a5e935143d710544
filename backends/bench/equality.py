"""Whether two modes gave the same tokens, and the gap in logits at the first difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..models.model import Model
from ..sampling.philox import gumbel
from ..sampling.sampler import warp
from ..transformers import generate as decoding
from .config.plan import BenchPlan
from .runners.base import Prompt, Tokens


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """Where a mode's tokens first differ from the reference."""

    prompt: int
    """Number of the first prompt with a difference, from 0."""
    position: int
    """Of the first differing token in the completion, from 0."""
    expected: int | None
    """The reference's token; None: end of its text."""
    got: int | None
    gap: float | None = None
    """Gap between the reference's two best tokens, in logits (divided by the temperature and with noise added if it
    is above 0); a tie up to rounding is about 1e-5 in float32. None: unknown."""

    def __str__(self) -> str:
        words = ["the end of the text" if token is None else f"token {token}" for token in (self.expected, self.got)]
        gap = "" if self.gap is None else f"; the reference's best two tokens lie {self.gap:.2g} apart there"
        return f"prompt {self.prompt}, position {self.position}: expected {words[0]}, got {words[1]}{gap}"


def equal(reference: Sequence[Tokens], outputs: Sequence[Tokens]) -> int:
    """Number of outputs that equal the reference's."""
    return sum(expected == got for expected, got in zip(reference, outputs, strict=False))


def first_difference(reference: Sequence[Tokens], outputs: Sequence[Tokens]) -> TokenDifference | None:
    """The first difference of the first output that is not the reference's; None if all are equal."""
    for number, (expected, got) in enumerate(zip(reference, outputs, strict=False)):
        if expected != got:
            pairs = enumerate(zip(expected, got, strict=False))
            place = next((place for place, (a, b) in pairs if a != b), min(len(expected), len(got)))
            return TokenDifference(number, place, _at(expected, place), _at(got, place))
    return None


def gap(model: Model, plan: BenchPlan, prompt: Prompt, before: Tokens) -> float:
    """Gap in logits between the two best next tokens after a prompt and the tokens ``before``."""
    ids = torch.tensor([[*prompt.ids, *before]], device=model.device)
    with torch.inference_mode():
        logits: Any = model.network(input_ids=ids, use_cache=False).logits[0, -1].double().cpu().numpy()  # (V,)
    if plan.sampling.temperature > 0:
        noise = gumbel(plan.key(prompt.number).stream(0), len(before), np.arange(len(logits)))
        logits = warp(logits, plan.sampling) + noise
    second, best = np.partition(logits, -2)[-2:]
    return float(best - second)


def score(model: Model, prompts: Sequence[Prompt], outputs: Sequence[Tokens]) -> float:
    """Mean over the outputs of their summed natural-log probability, untempered, an end of text not counted."""
    pairs = [(prompt.ids, output) for prompt, output in zip(prompts, outputs, strict=False)]
    return sum(decoding.score(model, pairs)) / len(pairs)


def _at(tokens: Tokens, place: int) -> int | None:
    return tokens[place] if place < len(tokens) else None
