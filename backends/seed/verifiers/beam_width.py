"""How many drafted beams will survive, and so how many a step should ask for (DSBD, Qin et al., arXiv 2409.16560, 3.2).

With the layer-wise rule of ``beam_rejection.py`` the j-th draft since the last acceptance is accepted with probability
alpha_j = sum of min(p_j, q), p_j being what j - 1 rejections leave of the target's law. m drafts of a layer.
The rows of the published tables do not use it: their width is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""A chance this little below the threshold is above it: where both laws are equal it is 1."""


def survival(alphas: Sequence[float]) -> NDArray[np.float64]:
    """P(n, k), (m + 1, m + 1): the chance that k of the first n drafts are accepted, from alpha_1 .. alpha_m.

    By the place i of the first acceptance, after which everything begins anew: P(n, k) is the sum over i of
    F(i) P(n - i, k - 1), with F(i) = alpha_i (1 - alpha_1) .. (1 - alpha_(i-1)).
    """
    m = len(alphas)
    none = np.concatenate(([1.0], np.cumprod(1 - np.asarray(alphas))))  # (m + 1,), the first j all rejected
    first = none[:-1] * np.asarray(alphas)  # (m,)
    chances = np.zeros((m + 1, m + 1))
    chances[:, 0] = none
    for n in range(1, m + 1):
        for i in range(1, n + 1):
            chances[n, 1:] += first[i - 1] * chances[n - i, :-1]
    return chances


def width_of(alphas: Sequence[float], threshold: float, least: int, most: int) -> int:
    """The most beams, between ``least`` and ``most``, that are all accepted with a chance of ``threshold``."""
    chances = survival(alphas)[-1]  # (m + 1,)
    reached = 1 - np.concatenate(([0.0], np.cumsum(chances)[:-1]))  # (m + 1,), at least so many
    widest = int(np.flatnonzero(reached >= threshold - ROUNDING)[-1])
    return min(max(least, widest), most)
