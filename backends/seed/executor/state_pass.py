"""The recurrence of all layers over one pass: from the states of the store to outputs, and back to the store.

T new tokens, H heads, d and v the dimensions of keys and values, C channels and K width of the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..kv_cache.state_store import StateStore
from .segment import Segment
from .state_layers.base import PieceStates, Recurrence
from .state_plan import make_state_plan


class StatePass:
    """The states of one pass, layer by layer."""

    def __init__(
        self, segments: Sequence[Segment], starts: Sequence[int], store: StateStore, device: torch.device
    ) -> None:
        """``segments`` whose tokens begin at ``starts``."""
        self.store = store
        self.plan, tokens = make_state_plan(segments, starts, store, device)
        self._states: dict[int, Mapping[tuple[int, int], PieceStates]] = {}
        self._windows: dict[int, torch.Tensor] = {}
        store.await_verification(self, tokens)
        windows = np.array([place.window for place in self.plan.places], dtype=np.int64)
        self._awaited = torch.from_numpy(windows).to(device).flatten()

    def convolution_input(self, layer: int, new: torch.Tensor) -> torch.Tensor:
        """The ``new`` inputs (T, C), then those before them: (T + R * (K - 1), C). What is needed later is kept."""
        tails = self.store.parts[layer][0]  # (rows, K - 1, C)
        inputs = torch.cat((new, tails.index_select(0, self.plan.tails).flatten(0, 1)))
        if len(self.plan.kept_rows):
            kept = inputs.index_select(0, self.plan.kept_windows)
            tails.index_copy_(0, self.plan.kept_rows, kept.view(-1, *tails.shape[1:]))
        self._windows[layer] = inputs.index_select(0, self._awaited).view(-1, *tails.shape[1:])
        return inputs

    def run(self, layer: int, recurrence: Recurrence) -> torch.Tensor:
        """Outputs (T, H, v) of a layer's recurrence."""
        states = self.store.parts[layer][1]  # (rows, H, d, v)
        out = states.new_empty(self.plan.history.shape[1], states.shape[1], states.shape[3])
        awaited: dict[tuple[int, int], PieceStates] = {}
        before = states
        for number, level in enumerate(self.plan.levels):
            ends: list[torch.Tensor] = []
            for place, group in enumerate(level.groups):
                base = before.index_select(0, group.base)
                result, own = recurrence.over(group, base)
                if group.real is None:
                    out[group.tokens.flatten()] = result.flatten(0, 1)
                else:
                    real = group.real[:, 0]
                    out[group.tokens[real]] = result[real]
                if len(group.ends):
                    ends.append(own.states(base[group.ends], group.ends, group.last))
                if group.awaited:
                    awaited[number, place] = own
            before = torch.cat(ends) if ends else states[:0]
            if len(level.rows):
                states.index_copy_(0, level.rows, before.index_select(0, level.ends))
        self._states[layer] = awaited
        return out

    def settle(self, store: StateStore, tokens: Sequence[int], rows: Sequence[int]) -> None:
        """See :class:`..kv_cache.state_store.AwaitedPass`."""
        places = [self.plan.places[token] for token in tokens]
        device = self._awaited.device
        targets = torch.tensor(rows, dtype=torch.long, device=device)
        chosen = torch.tensor(tokens, dtype=torch.long, device=device)
        by_group: dict[tuple[int, int], list[int]] = {}
        for i, place in enumerate(places):
            by_group.setdefault((place.level, place.group), []).append(i)
        picks = [
            (
                group,
                torch.tensor([places[i].base for i in members], device=device),
                torch.tensor([places[i].piece for i in members], device=device),
                torch.tensor([places[i].token for i in members], device=device),
                targets[members],
            )
            for group, members in by_group.items()
        ]
        for layer, (tails, *matrices) in store.parts.items():
            for states in matrices:
                results = [
                    (own, self._states[layer][group].states(states.index_select(0, base), pieces, last))
                    for group, base, pieces, last, own in picks
                ]
                for own, result in results:
                    states.index_copy_(0, own, result)
            tails.index_copy_(0, targets, self._windows[layer].index_select(0, chosen))
