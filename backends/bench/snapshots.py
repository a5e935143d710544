"""How many prompt tokens an engine with snapshots of states can reuse, and how many it did.

A state serves only texts that go on from its place. By the policy of the engine places with a snapshot are the ends of
prompts and where prompts part; prompts that are sent together are read together, so that their common beginnings are
read once. What later prompts have in common with earlier ones beyond the last such place is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from treeagent.backend import Backend
from treeagent.request import Key, Request, Sampling

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class PrefixReuse:
    """Tokens of all prompts."""

    prompt: int
    """But the last one of each prompt, which is read with the draft after it."""
    common: int
    """Those that earlier prompts begin with: what could be reused if there were a state after every token."""
    reusable: int
    """Those of them before the last place with a snapshot."""
    reused: int
    """Those that the engine did not read again."""

    @property
    def share(self) -> float | None:
        """Of the reusable ones; None where there are none."""
        return self.reused / self.reusable if self.reusable else None


def reusable_tokens(batches: Sequence[Sequence[Tokens]]) -> tuple[int, int]:
    """Common and reusable tokens of prompts that are sent in batches, one after another."""
    known: list[tuple[int, ...]] = []
    places: set[tuple[int, ...]] = set()
    common = reusable = 0
    for batch in batches:
        begun = len(known)
        new: set[tuple[int, ...]] = set()
        for prompt in batch:
            text = tuple(prompt[:-1])
            shared = [_common(text, other) for other in known]
            kept = max((len(place) for place in places if text[: len(place)] == place), default=0)
            common += max(shared, default=0)
            reusable += max(kept, *shared[begun:], 0)
            new |= {text, *(text[:length] for length in shared if length)}
            known.append(text)
        places |= new
    return common, reusable


async def measure_reuse(backend: Backend, batches: Sequence[Sequence[tuple[str, Tokens]]]) -> PrefixReuse:
    """Send batches of prompts with their tokens to an engine that has read nothing yet, one new token each."""
    figures = backend.meter()
    number = 0
    for batch in batches:
        keys = [Key(0, "propose", str(number + place)) for place in range(len(batch))]
        number += len(batch)
        requests = [Request(text, key, Sampling(max_tokens=1)) for (text, _), key in zip(batch, keys, strict=True)]
        await asyncio.gather(*map(backend.generate, requests))
    tokens = [[own for _, own in batch] for batch in batches]
    common, reusable = reusable_tokens(tokens)
    prompt = sum(len(own) - 1 for batch in tokens for own in batch)
    return PrefixReuse(prompt, common, reusable, int(figures()["prefix_tokens_reused"]))


def _common(one: Tokens, other: Tokens) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
