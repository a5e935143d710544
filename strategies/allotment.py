"""Shares of a budget by the softmax of rewards, rounded by largest remainders."""

from __future__ import annotations

import math
from collections.abc import Sequence


def allotment(rewards: Sequence[float | None], budget: int, temperature: float) -> list[int]:
    """Whole shares of a budget by the softmax of rewards; they sum to it, and no reward gets more than a higher one.

    A thought of unknown reward gets a share only where no reward is known at all, an equal one then.
    """
    known = [reward for reward in rewards if reward is not None]
    best = max(known, default=0.0)
    weights = [float(not known) if reward is None else math.exp((reward - best) / temperature) for reward in rewards]
    quotas = [budget * weight / sum(weights) for weight in weights]
    shares = [int(quota) for quota in quotas]
    rest = [(quota - share, reward or 0.0) for quota, share, reward in zip(quotas, shares, rewards, strict=True)]
    for place in sorted(range(len(rest)), key=lambda place: rest[place], reverse=True)[: budget - sum(shares)]:
        shares[place] += 1
    return shares
