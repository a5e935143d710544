"""Cross-entropy over a few of many tokens: the right ones, and a sample that stands for all others.

A small model of a large vocabulary spends most of its training on logits of tokens that never come: four fifths of it
for four layers of SmolLM2. V vocabulary, D width, C candidates of a step, N positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F


class Candidates:
    """The tokens that a step compares the right one with: all, or those that come at all and ``drawn`` others.

    Each of the others that is drawn stands for several, so its logit is raised by the logarithm of their number: then
    the sum of exponentials is in the mean that over all tokens (sampled softmax, Jean et al., arXiv 1412.2007).
    """

    def __init__(self, weight: torch.Tensor, seen: Collection[int], drawn: int | None, seed: int) -> None:
        """``weight`` (V, D) of the output head; every token to be predicted is among ``seen``."""
        self._weight, self._drawn = weight.detach(), drawn
        self._rng = torch.Generator().manual_seed(seed)
        self._seen = torch.tensor(sorted(seen), dtype=torch.long)
        self._others = torch.ones(len(weight), dtype=torch.bool).scatter_(0, self._seen, False).nonzero()[:, 0]

    def draw(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
        """An output head (N, D) -> (N, C) for one step, and the place of each token id (V,) among its candidates."""
        weight, device, size = self._weight, self._weight.device, len(self._weight)
        if self._drawn is None or self._drawn >= len(self._others):
            return lambda states: F.linear(states, weight), torch.arange(size, device=device)
        picked = self._others[torch.randperm(len(self._others), generator=self._rng)[: self._drawn]]
        ids = torch.cat((self._seen, picked)).to(device)  # (C,)
        raised = torch.zeros(len(ids), device=device)
        raised[len(self._seen) :] = math.log(len(self._others) / len(picked))
        places = torch.zeros(size, dtype=torch.long, device=device)
        places[ids] = torch.arange(len(ids), device=device)
        chosen = weight[ids]
        return lambda states: F.linear(states, chosen) + raised, places
