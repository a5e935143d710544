"""Plain batched decoding and scoring with any decoder-only transformers model.

Prompts are prefilled once each, left-padded, and their cache rows repeated for every sample; then one token per row and
step. Noise is keyed (see ``sampling.py``), so what else is in the batch changes a text by float rounding at most.
Shapes: P prompts, R rows (samples), T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from treeagent.errors import BackendError

from ..local.sample import Sample
from ..local.token_masks import TokenMask, masked
from ..models.model import Model
from ..sampling.philox import Floats
from ..sampling.sampler import choose_rows


@torch.inference_mode()
def decode(
    model: Model,
    samples: Sequence[Sample],
    finished: Callable[[Sample], None],
    stepped: Callable[[], None],
    masks: Mapping[Sample, TokenMask],
) -> None:
    """Complete all samples as one batch, calling ``finished`` with each as soon as it is complete.

    ``stepped`` is called after every step. ``masks`` are those of the samples with a constraint.
    """
    rows = [sample for sample in samples if sample.open]
    if not rows:
        return
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(sample.prompt for sample in rows))}
    logits, cache, mask = prefill(model, list(places))  # (P, V), cache of P rows, (P, T)
    owner = torch.tensor([places[sample.prompt] for sample in rows], device=model.device)  # (R,) row -> prompt
    logits = logits[owner]  # (R, V)
    if len(places) < len(rows):
        cache.reorder_cache(owner)
    room = max(sample.limit for sample in rows)
    mask = torch.cat((mask[owner], mask.new_ones(len(rows), room)), dim=1)  # (R, T + room)
    lengths = torch.tensor([[len(sample.prompt)] for sample in rows], device=model.device)  # (R, 1)
    width = mask.shape[1] - room
    live = list(range(len(rows)))
    for step in range(room):
        current = logits[live] if len(live) < len(rows) else logits  # (L, V)
        chosen = [rows[row] for row in live]
        current = masked(current, [masks.get(sample) for sample in chosen])
        tokens = choose_rows(
            host(current), [s.sampling for s in chosen], [s.stream for s in chosen], [step] * len(chosen)
        ).tolist()
        drawn = _log_probabilities(current[:, None], torch.tensor(tokens, device=model.device)[:, None])  # (L, 1)
        for sample, token, logprob in zip(chosen, tokens, drawn[:, 0].tolist(), strict=True):
            sample.accept(token, model.eos, logprob)
            if sample in masks:
                masks[sample].take(token)
            if sample.completion is not None:
                finished(sample)
        stepped()
        live = [row for row in live if rows[row].open]
        if not live:
            return
        if 8 * len(live) <= 7 * len(rows):  # below that, copying the cache costs more than the idle rows
            keep = torch.tensor(live, device=model.device)
            cache.reorder_cache(keep)
            mask, lengths, rows = mask[keep], lengths[keep], [rows[row] for row in live]
            live = list(range(len(rows)))
        last = torch.tensor([[sample.tokens[-1] if sample.tokens else 0] for sample in rows], device=model.device)
        logits, cache = forward(model, last, mask[:, : width + step + 1], lengths + step, cache)
        logits = logits[:, -1]


@torch.inference_mode()
def score(model: Model, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
    """Summed natural-log probability of each continuation after its prompt, for (prompt, continuation) pairs.

    Equal prompts are read once; continuations of one token (labels) need no second pass.
    """
    sums = [0.0] * len(pairs)
    scored = [i for i, (_, continuation) in enumerate(pairs) if continuation]
    if not scored:
        return sums
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(pairs[i][0] for i in scored))}
    logits, cache, mask = prefill(model, list(places))  # (P, V), cache of P rows, (P, T)
    owner = torch.tensor([places[pairs[i][0]] for i in scored], device=model.device)
    first = torch.tensor([[pairs[i][1][0]] for i in scored], device=model.device)  # (R, 1)
    firsts = _log_probabilities(logits[owner][:, None], first)[:, 0].tolist()
    for i, value in zip(scored, firsts, strict=True):
        sums[i] = value
    longer = [(i, pairs[i][1]) for i in scored if len(pairs[i][1]) > 1]
    if not longer:
        return sums
    owner = torch.tensor([places[pairs[i][0]] for i, _ in longer], device=model.device)
    cache.reorder_cache(owner)
    width = max(len(continuation) for _, continuation in longer) - 1
    inputs, targets, real = (torch.zeros(len(longer), width, dtype=torch.long) for _ in range(3))  # (R, width)
    for row, (_, continuation) in enumerate(longer):  # right-padded: causal, so no real token sees the padding
        inputs[row, : len(continuation) - 1] = torch.tensor(continuation[:-1])
        targets[row, : len(continuation) - 1] = torch.tensor(continuation[1:])
        real[row, : len(continuation) - 1] = 1
    inputs, targets, real = inputs.to(model.device), targets.to(model.device), real.to(model.device)
    lengths = torch.tensor([[len(pairs[i][0])] for i, _ in longer], device=model.device)  # (R, 1)
    positions = lengths + torch.arange(width, device=model.device)
    logits, _ = forward(model, inputs, torch.cat((mask[owner], real), dim=1), positions, cache, keep=width)
    rest = (_log_probabilities(logits, targets) * real).sum(dim=1).tolist()
    for (i, _), value in zip(longer, rest, strict=True):
        sums[i] += value
    return sums


def prefill(model: Model, prompts: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """Read prompts, left-padded. Returns the logits after each (P, V), the cache and the mask of real tokens (P, T)."""
    width = max(map(len, prompts))
    ids, mask = (torch.zeros(len(prompts), width, dtype=torch.long) for _ in range(2))
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits, cache = forward(model, ids, mask, positions, None)
    return logits[:, -1], cache, mask


def forward(
    model: Model, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, *, keep: int = 1
) -> tuple[torch.Tensor, Any]:
    """One pass over new tokens ``ids`` (R, N). Returns logits of the last ``keep`` of them at least, and the cache.

    Raises BackendError for a model that keeps what it has read to itself.
    """
    optional = {"position_ids": positions, "logits_to_keep": keep}
    out = model.network(
        input_ids=ids,
        attention_mask=mask,
        use_cache=True,
        **{model.cache: cache},
        **{name: value for name, value in optional.items() if name in model.arguments},
    )
    if out.get(model.cache) is None:
        raise BackendError(f"{type(model.network).__name__} keeps no attention cache that can be batched here")
    return out.logits, out[model.cache]


def _log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Natural-log probability (R, N) of the targets (R, N) under logits (R, N, V), summable in float64."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    picked = wide.gather(2, targets[..., None])[..., 0]
    return (picked - wide.logsumexp(dim=2)).double()


def host(logits: torch.Tensor) -> Floats:
    """Logits as a NumPy array of float32 or float64; NumPy has no bfloat16."""
    array: Floats = (logits if logits.dtype == torch.float64 else logits.float()).cpu().numpy()
    return array
