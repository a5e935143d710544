"""How often two types of numbers of one model agree: ``python -m treeagent.backends.bench.agreement --model smollm2``.

Texts are greedy continuations by the reference of the prompts of the bench. Every position of them is judged by both
networks after the same tokens: whether their likeliest tokens are equal, and one minus the total variation distance of
their laws at temperatures 0.7 and 1, which is the share of drafts that rejection sampling accepts.

With ``--depth`` the same by position in drafts of a draft model, which goes on from keys and values of its own, or
(``--prefix target``) from those of the reference.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..models import catalog
from ..models.loader import load_model
from ..models.model import DTYPE_NAMES, INT4_DRAFT, INT8, INT8_DRAFT, Model
from ..models.tokenizer import load_tokenizer
from ..transformers import generate
from .workloads.prompts import KINDS, MINI, builtin_prompts

TEMPERATURES = (0.7, 1.0)
CPU = torch.device("cpu")
DRAFT_DTYPES = (*DTYPE_NAMES, INT8_DRAFT, INT4_DRAFT)

Text = tuple[list[int], list[int]]
"""Tokens of a prompt and of its continuation."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two networks, over all positions of some continuations."""

    positions: int
    greedy: float
    """Share of positions whose likeliest tokens are equal."""
    overlap: dict[str, float]
    """By temperature the mean of one minus the total variation distance."""


@torch.inference_mode()
def continuations(model: Model, prompts: Sequence[Sequence[int]], tokens: int) -> list[Text]:
    """Greedy continuations of at most so many tokens, one prompt after another."""
    texts: list[Text] = []
    for prompt in prompts:
        logits, cache, mask = generate.prefill(model, [tuple(prompt)])
        drawn: list[int] = []
        while len(drawn) < tokens:
            drawn.append(int(logits[0].argmax()))
            if drawn[-1] in model.eos:
                break
            mask = torch.cat((mask, mask.new_ones(1, 1)), dim=1)
            place = torch.tensor([[mask.shape[1] - 1]])
            logits, cache = generate.forward(model, torch.tensor([drawn[-1:]]), mask, place, cache)
            logits = logits[:, -1]
        texts.append((list(prompt), drawn))
    return texts


@torch.inference_mode()
def agreement(reference: Model, other: Model, texts: Sequence[Text]) -> Agreement:
    """Both networks read each text once."""
    found = _Tally()
    for prompt, drawn in texts:
        ids = torch.tensor([[*prompt, *drawn[:-1]]])
        first, second = (
            model.network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :] for model in (reference, other)
        )
        found.add(first, second)
    return found.agreement()


@torch.inference_mode()
def draft_agreement(
    reference: Model, other: Model, texts: Sequence[Text], depth: int, prefix: Model
) -> list[Agreement]:
    """The same by position in drafts of ``depth`` tokens, which begin at every position of a continuation.

    The other network goes on from the keys and values that ``prefix``, one of both, has of all tokens but the last.
    """
    found = [_Tally() for _ in range(depth)]
    for prompt, drawn in texts:
        tokens, start = [*prompt, *drawn[:-1]], len(prompt) - 1
        law, cache = _read(reference, tokens, 0, None)
        if prefix is other:
            _, cache = _read(other, tokens, 0, None)
        for begin in range(start, len(tokens)):
            known = copy.deepcopy(cache)
            known.crop(begin - len(tokens))
            drafted, _ = _read(other, tokens[begin : begin + depth], begin, known)
            for place, own in enumerate(drafted):
                found[place].add(law[begin + place][None], own[None])
    return [tally.agreement() for tally in found]


def _read(model: Model, tokens: Sequence[int], known: int, cache: Any) -> tuple[torch.Tensor, Any]:
    """Logits (T, V) of T tokens after so many ``known`` ones of a cache, and the cache with them."""
    count = len(tokens)
    mask, places = torch.ones(1, known + count, dtype=torch.long), torch.arange(known, known + count)[None]
    logits, cache = generate.forward(model, torch.tensor([list(tokens)]), mask, places, cache, keep=count)
    return logits[0, -count:], cache


class _Tally:
    """Sums over positions."""

    def __init__(self) -> None:
        self._positions = self._equal = 0
        self._shared = dict.fromkeys(TEMPERATURES, 0.0)

    def add(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Logits (n, V) of both networks."""
        self._positions += len(first)
        self._equal += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        for temperature in TEMPERATURES:
            laws = [(logits.double() / temperature).softmax(dim=1) for logits in (first, second)]
            self._shared[temperature] += float(torch.minimum(*laws).sum())

    def agreement(self) -> Agreement:
        """Their means."""
        total = max(1, self._positions)
        overlap = {str(temperature): shared / total for temperature, shared in self._shared.items()}
        return Agreement(self._positions, self._equal / total, overlap)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", choices=DRAFT_DTYPES, default=INT8, help="compared with the reference")
    parser.add_argument("--reference", default="float32")
    parser.add_argument("--workload", choices=sorted({*KINDS, MINI}), default="mixed")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", type=int, help="compare by position in drafts of so many tokens")
    parser.add_argument("--prefix", choices=("own", "target"), default="own", help="keys and values that drafts follow")
    options = parser.parse_args()
    where = catalog.resolve(options.model)
    tokenizer = load_tokenizer(where)
    prompts = builtin_prompts(options.workload, options.prompts, options.seed)
    reference = load_model(where, options.reference, CPU)
    texts = continuations(reference, [tokenizer.prompt(prompt) for prompt in prompts], options.tokens)
    other = load_model(where, options.dtype, CPU)
    if options.depth is None:
        result: Any = asdict(agreement(reference, other, texts))
    else:
        prefix = other if options.prefix == "own" else reference
        found = draft_agreement(reference, other, texts, options.depth, prefix)
        result = {"by_position": [asdict(each) for each in found]}
    print(json.dumps(vars(options) | result, indent=1))


if __name__ == "__main__":
    main()
