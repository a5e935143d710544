"""How often two types of numbers of one model agree: ``python -m treeagent.backends.bench.agreement --model smollm2``.

Texts are greedy continuations by the reference of the prompts of the bench. Every position of them is judged by both
networks after the same tokens: whether their likeliest tokens are equal, and one minus the total variation distance of
their laws at temperatures 0.7 and 1, which is the share of drafts that rejection sampling accepts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from ..models import catalog
from ..models.loader import load_model
from ..models.model import Model
from ..models.tokenizer import load_tokenizer
from ..transformers import generate
from .workloads.prompts import KINDS, MINI, builtin_prompts

TEMPERATURES = (0.7, 1.0)
CPU = torch.device("cpu")

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
    equal, shared, positions = 0, dict.fromkeys(TEMPERATURES, 0.0), 0
    for prompt, drawn in texts:
        ids = torch.tensor([[*prompt, *drawn[:-1]]])
        first, second = (
            model.network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].double()  # (n, V)
            for model in (reference, other)
        )
        positions += len(drawn)
        equal += int((first.argmax(dim=1) == second.argmax(dim=1)).sum())
        for temperature in TEMPERATURES:
            laws = [(logits / temperature).softmax(dim=1) for logits in (first, second)]
            shared[temperature] += float(torch.minimum(*laws).sum())
    return Agreement(positions, equal / positions, {str(t): total / positions for t, total in shared.items()})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="int8", help="compared with the reference")
    parser.add_argument("--reference", default="float32")
    parser.add_argument("--workload", choices=sorted({*KINDS, MINI}), default="mixed")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    where = catalog.resolve(options.model)
    tokenizer = load_tokenizer(where)
    prompts = builtin_prompts(options.workload, options.prompts, options.seed)
    reference = load_model(where, options.reference, CPU)
    texts = continuations(reference, [tokenizer.prompt(prompt) for prompt in prompts], options.tokens)
    result = agreement(reference, load_model(where, options.dtype, CPU), texts)
    print(json.dumps(vars(options) | asdict(result), indent=1))


if __name__ == "__main__":
    main()
