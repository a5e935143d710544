"""The loss of an EAGLE-3 head with training-time test (Li et al., arXiv 2503.01840, section 3.2).

The head is trained as it drafts: from every position several steps are unrolled, the first from the target's states,
each further one from the head's own output of the step before, with the keys and values of those steps beside the
target's. Each step is held against the target's law at that place.
T tokens of a packed row, N positions that are learnt from, F layers of states, E hidden size, W draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from ..seed.drafters.heads.eagle3_network import Eagle3Network
from .packed_texts import PackedTexts

DECAY = 0.8
"""Weight of each step of a draft, as a share of that of the step before."""


@dataclass(frozen=True, slots=True)
class PairBatch(PackedTexts):
    """Texts as one row; the last common token is in each of them, as a pair depends on the token that follows."""

    REPEATED: ClassVar[int] = 1

    def inputs(self) -> dict[str, torch.Tensor]:
        """Of the target's forward."""
        ids, positions = self.tokens[None], self.positions[None]
        return {"input_ids": ids, "position_ids": positions, "attention_mask": self.seen[None, None]}

    def places(self) -> torch.Tensor:
        """(N,) positions whose first step is learnt."""
        at = torch.arange(len(self.tokens) - 2, device=self.tokens.device)
        return at[self.step_weights(at, 0) > 0]

    def step_weights(self, at: torch.Tensor, step: int) -> torch.Tensor:
        """(N,) weights of what is predicted ``step`` steps into drafts from positions (N,); 0 beyond a text's end."""
        end = (at + step + 2).clamp(max=len(self.tokens) - 1)
        inside = (at + step + 2 < len(self.tokens)) & (self.owner[end] == self.owner[at])
        return self.weights[(at + step + 1).clamp(max=len(self.tokens) - 1)] * inside


def target_states(model: Any, batch: PairBatch, layers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The states (T, F * E) that enter the target's layers, and those (T, E) that enter its output head."""
    with torch.no_grad():
        out = model.model(**batch.inputs(), output_hidden_states=True, use_cache=False)
    return torch.cat([out.hidden_states[layer][0] for layer in layers], dim=1), out.last_hidden_state[0]


def unrolled(
    network: Eagle3Network,
    embedding: Callable[[torch.Tensor], torch.Tensor],
    batch: PairBatch,
    states: torch.Tensor,
    steps: int,
) -> list[torch.Tensor]:
    """Logits (N, W) of each step of drafts from :meth:`PairBatch.places`, each along the text itself."""
    layer, config, at = network.midlayer, network.config.layer, batch.places()
    heads, keys, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    fused, last = network.fuse(states).to(network.norm.weight.dtype), len(batch.tokens) - 1

    def rotated(x: torch.Tensor, count: int, positions: torch.Tensor) -> torch.Tensor:
        x = x.view(len(x), count, dim)
        cos, sin = network.rotary(x, positions[None])
        half = torch.cat((-x[..., dim // 2 :], x[..., : dim // 2]), dim=-1)
        turned: torch.Tensor = x * cos[0][:, None] + half * sin[0][:, None]  # (rows, count, D)
        return turned

    def keys_and_values(both: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        k = rotated(layer.self_attn.k_proj(both), keys, positions)
        v = layer.self_attn.v_proj(both).view(len(both), keys, dim)
        return k.repeat_interleave(heads // keys, dim=1), v.repeat_interleave(heads // keys, dim=1)  # (rows, H, D)

    both, _ = layer.project(embedding(batch.tokens.roll(-1)), fused)
    k0, v0 = keys_and_values(both, batch.positions)
    hidden, seen = fused[at], batch.seen[at]
    own: list[tuple[torch.Tensor, torch.Tensor]] = []
    logits = []
    for step in range(steps):
        positions = batch.positions[at] + step
        both, residual = layer.project(embedding(batch.tokens[(at + step + 1).clamp(max=last)]), hidden)
        if step:
            own.append(keys_and_values(both, positions))
        q = rotated(layer.self_attn.q_proj(both), heads, positions) * dim**-0.5
        scores = torch.einsum("nhd,thd->nht", q, k0).masked_fill(~seen[:, None], float("-inf"))
        further = [(q * k).sum(dim=2, keepdim=True) for k, _ in own]  # (N, H, 1) each
        weights = torch.cat((scores, *further), dim=2).softmax(dim=2)
        attended = torch.einsum("nht,thd->nhd", weights[:, :, : len(k0)], v0)
        for place, (_, v) in enumerate(own, len(k0)):
            attended = attended + weights[:, :, place : place + 1] * v
        hidden = layer.finish(attended.reshape(len(at), heads * dim), residual)
        logits.append(network.logits(hidden))
    return logits


def draft_loss(
    logits: Sequence[torch.Tensor], batch: PairBatch, final: torch.Tensor, head: torch.Tensor
) -> tuple[torch.Tensor, list[tuple[float, float]]]:
    """The loss of all steps, and for each step how often the likeliest tokens agree: (weight that agrees, weight).

    ``final`` (T, E) enters the target's output head, whose rows for the draft vocabulary are ``head`` (W, E).
    """
    at = batch.places()
    total, share, agreed = final.new_zeros(()), 0.0, []
    for step, own in enumerate(logits):
        weights = batch.step_weights(at, step)
        with torch.no_grad():
            law = (final[(at + step + 1).clamp(max=len(final) - 1)] @ head.T).float().softmax(dim=1)
        each = F.cross_entropy(own.float(), law, reduction="none")
        whole = float(weights.sum())
        total = total + DECAY**step * (each * weights).sum() / max(whole, 1e-9)
        share += DECAY**step
        agreed.append((float(((own.argmax(dim=1) == law.argmax(dim=1)) * weights).sum()), whole))
    return total / share, agreed
