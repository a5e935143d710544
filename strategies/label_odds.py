"""The expected value of labels from the likelihood of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def expected_label(logprobs: Sequence[float], labels: Mapping[str, float]) -> tuple[float, str] | None:
    """The mean of the labels' values, weighted by their likelihoods, and the likeliest label.

    ``logprobs`` are natural logarithms in the order of the labels. None where all labels are impossible, or a number
    is none.
    """
    best = max(logprobs)
    if not math.isfinite(best) or any(math.isnan(logprob) for logprob in logprobs):
        return None
    weights = [math.exp(logprob - best) for logprob in logprobs]
    value = sum(weight * number for weight, number in zip(weights, labels.values(), strict=True)) / sum(weights)
    return value, list(labels)[weights.index(max(weights))]
