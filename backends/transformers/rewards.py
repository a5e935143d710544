"""Rewards of steps, plainly: whole texts in a batch, with the logits of their marks alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..local.reward_tokens import RewardTokens
from ..models.model import Model

ROWS = 8
"""Texts of a pass: each has the logits of all texts' marks."""


@torch.inference_mode()
def rewards(model: Model, texts: Sequence[RewardTokens]) -> list[list[float]]:
    """The natural-log rewards of each text's steps."""
    return [values for start in range(0, len(texts), ROWS) for values in _batch(model, texts[start : start + ROWS])]


def _batch(model: Model, texts: Sequence[RewardTokens]) -> list[list[float]]:
    width = max(len(text.tokens) for text in texts)
    ids, mask = (torch.zeros(len(texts), width, dtype=torch.long) for _ in range(2))
    for row, text in enumerate(texts):  # right-padded: causal, so no real token sees the padding
        ids[row, : len(text.tokens)] = torch.tensor(text.tokens)
        mask[row, : len(text.tokens)] = 1
    marks = sorted({mark for text in texts for mark in text.marks})
    keeps = "logits_to_keep" in model.arguments
    optional = {"logits_to_keep": torch.tensor(marks, dtype=torch.long, device=model.device)} if keeps else {}
    out = model.network(
        input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False, **optional
    )
    places = {mark: place if keeps else mark for place, mark in enumerate(marks)}
    return [
        text.rewards(out.logits[row, [places[mark] for mark in text.marks]]) if text.marks else []
        for row, text in enumerate(texts)
    ]
