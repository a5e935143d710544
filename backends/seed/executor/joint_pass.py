"""A pass of several runners over one set of weights, which is read once for all of them.

The base product is computed for all rows, what an adapter adds for the rows of its runner.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate

import torch

from ..kernels.transfers import transfers_of
from .joint_batch import join
from .llama import LlamaDecoder
from .model_runner import ModelRunner
from .segment import Segment


def can_join(runner: ModelRunner, other: ModelRunner) -> bool:
    """Whether two runners can share passes: plain ones over the same weights, through the engine's own loop."""
    same = runner.weights is other.weights and isinstance(runner.decoder, LlamaDecoder)
    return same and all(one.graphs is None and not one.listens for one in (runner, other))


def forward_jointly(
    asked: Sequence[tuple[ModelRunner, Sequence[Segment]]],
) -> list[tuple[torch.Tensor, list[range]]]:
    """For each runner what :meth:`.ModelRunner.forward` returns for its segments, from one pass for all of them.

    All of them :func:`can_join`.
    """
    first = asked[0][0]
    if len(asked) == 1:
        return [first.forward(asked[0][1])]
    began = time.perf_counter()
    with torch.inference_mode():
        plans = [runner.batch(spans) for runner, spans in asked]
        joint = join(plans, [runner.forest.pool for runner, _ in asked])
        decoders = [runner.decoder for runner, _ in asked if isinstance(runner.decoder, LlamaDecoder)]
        decoder = decoders[0].joined(decoders[1:], [part.tokens for part in joint.parts])
        logits = decoder(joint, first.forest.pool)
    transfers_of(first.device).wait()
    seconds = time.perf_counter() - began
    for runner, _ in asked:
        runner.count_pass(joint.work, seconds)
    ends = list(accumulate(len(plan.wanted) for plan in plans))
    return [(logits[start:end], plan.rows) for plan, start, end in zip(plans, [0, *ends], ends, strict=False)]
