"""The logits of a pass, warped and ranked on demand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from treeagent.request import Sampling

from ...sampling.philox import Floats
from ..kernels.likeliest import LikeliestPaths, likeliest_paths
from ..kernels.log_probability import log_probabilities
from ..kernels.transfers import Transfers, transfers_of
from .token_choice import draw_rows, draws_on_device


class Logits:
    """The logits (R, V) of one pass, brought to the host as far as they are needed."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._best: tuple[NDArray[np.int64], NDArray[np.bool_]] | None = None

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Of every row the most likely token (R,), the lowest of equals, and whether its logit is finite (R,)."""
        if self._best is None:
            device = self._tensor.device
            cpu = device.type == "cpu"
            self._best = self._host_best() if cpu else likeliest(self._tensor, transfers_of(device))
        return self._best

    def _host_best(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """By NumPy, whose argmax is ten times as fast as torch's."""
        rows = self.rows(range(len(self._tensor)))
        ids = rows.argmax(axis=1)
        return ids, np.isfinite(rows[np.arange(len(rows)), ids])

    def top(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of every row the ``count`` likeliest tokens, the first of them first, and their probabilities, (R, count).

        At temperature 1 and without cuts; all of a smaller vocabulary, and zeros where logits are not finite.
        """
        scores, ids = self._tensor.topk(min(count, self._tensor.shape[1]), dim=1)
        wide = self._tensor if self._tensor.dtype == torch.float64 else self._tensor.float()
        chances = (scores.double() - wide.logsumexp(dim=1, keepdim=True)).exp().nan_to_num(0.0)
        return ids.cpu().numpy(), chances.cpu().numpy()

    def log_probabilities(self, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """The natural-log probability of a token in each of the given rows, at temperature 1 and without cuts."""
        if not rows:
            return []
        if (compiled := log_probabilities(self._tensor, rows, tokens)) is not None:
            return compiled
        device = self._tensor.device
        every = list(rows) == list(range(len(self._tensor)))
        chosen = self._tensor if every else self._tensor[torch.as_tensor(rows, device=device)]
        wide = chosen if chosen.dtype == torch.float64 else chosen.float()
        picked = wide.gather(1, torch.as_tensor(tokens, device=device)[:, None])[:, 0]
        values: list[float] = (picked - wide.logsumexp(dim=1)).tolist()
        return values

    def likeliest_paths(
        self, first: array[int], sizes: array[int], drafted: array[int], parents: array[int]
    ) -> LikeliestPaths | None:
        """See :func:`..kernels.likeliest.likeliest_paths`."""
        return likeliest_paths(self._tensor, first, sizes, drafted, parents)

    @property
    def on_device(self) -> bool:
        """Whether tokens are drawn where the logits are, any number of them in one launch."""
        return draws_on_device(self._tensor)

    def draw(
        self, which: Sequence[int], samplings: Sequence[Sampling], streams: Sequence[int], positions: Sequence[int]
    ) -> NDArray[np.int64]:
        """The token drawn from each of the rows (len(which),), on the device where that is possible.

        For a row without a finite maximum -1 on the device; on the host it raises BackendError.
        """
        every = list(which) == list(range(len(self._tensor)))
        chosen = self._tensor if every else self._tensor[torch.as_tensor(which)]
        return draw_rows(chosen, samplings, streams, positions)

    def slice(self, rows: range) -> torch.Tensor:
        """Rows (len(rows), V) that lie side by side, on the device."""
        return self._tensor[rows.start : rows.stop]

    def rows(self, which: Sequence[int]) -> Floats:
        """Rows (len(which), V) as float32 or float64."""
        everything = range(len(self._tensor))
        chosen = self._tensor if which == everything else self._tensor[torch.as_tensor(which)]
        wide: Floats = (chosen if chosen.dtype == torch.float64 else chosen.float()).cpu().numpy()
        return wide


def likeliest(tensor: torch.Tensor, transfers: Transfers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """See :meth:`Logits.best`, for logits (R, V) on a device: one integer for each row is fetched."""
    best = tensor.argmax(dim=1, keepdim=True)
    finite = tensor.gather(1, best).isfinite()
    fetched = transfers.fetch(torch.where(finite, best, -1 - best)[:, 0]).numpy()
    return np.where(fetched < 0, -1 - fetched, fetched), fetched >= 0
