"""Plain batched beam sampling and beam search with any decoder-only transformers model.

As in ``generate.py`` prompts are read once each, then one token per row and step. A row is a distinct live beam; after
a step the cache's rows are put in the order of the beams that were drawn, some several times, some not at all.
Shapes: P prompts, R rows, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..local.beam_search import BeamSearch, Hypothesis, Joint
from ..local.sample import Sample
from ..models.model import Model
from ..sampling.philox import Floats
from .generate import forward, host, prefill


@torch.inference_mode()
def decode_beams(model: Model, samples: Sequence[Sample], finished: Callable[[Sample], None]) -> None:
    """Complete all samples as one batch, calling ``finished`` with each as soon as it is complete."""
    runs = [BeamSearch(sample, model.eos) for sample in samples if sample.open]
    if not runs:
        return
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(run.sample.prompt for run in runs))}
    logits, cache, mask = prefill(model, list(places))  # (P, V), cache of P rows, (P, T)
    rows = [(run, run.beams[0]) for run in runs]
    owner = [places[run.sample.prompt] for run in runs]
    room = max(run.sample.limit for run in runs)
    width = mask.shape[1]
    mask = torch.cat((mask, mask.new_ones(len(mask), room)), dim=1)  # (P, T + room), later (R, T + room)
    lengths = torch.tensor([[len(prompt)] for prompt in places], device=model.device)  # (P, 1), later (R, 1)
    logits = logits[owner]
    for step in range(room):
        live = _advance(rows, host(logits))
        for run in dict.fromkeys(run for run, _ in rows):
            if run.sample.completion is not None:
                finished(run.sample)
        wanted = [(run, beam, parent) for run, beam, parent in live if run.sample.open]
        if not wanted:
            return
        order = [owner[parent] for _, _, parent in wanted] if step == 0 else [parent for _, _, parent in wanted]
        if order != list(range(len(mask))):
            keep = torch.tensor(order, device=model.device)
            cache.reorder_cache(keep)
            mask, lengths = mask[keep], lengths[keep]
        rows = [(run, beam) for run, beam, _ in wanted]
        last = torch.tensor([[beam.raw[-1]] for _, beam in rows], device=model.device)
        logits, cache = forward(model, last, mask[:, : width + step + 1], lengths + step, cache)
        logits = logits[:, -1]


def _advance(rows: Sequence[tuple[BeamSearch, Hypothesis]], logits: Floats) -> list[tuple[BeamSearch, Hypothesis, int]]:
    """One step of every run from the logits (R, V) of its rows; the distinct live beams with their parents' rows."""
    live: list[tuple[BeamSearch, Hypothesis, int]] = []
    places: dict[BeamSearch, dict[tuple[int, ...], int]] = {}
    for row, (run, beam) in enumerate(rows):
        places.setdefault(run, {})[beam.raw] = row
    for run, where in places.items():
        joint = Joint(
            run.beams, [None if beam.finished else logits[where[beam.raw]] for beam in run.beams], run.sample.sampling
        )
        run.advance(joint.extended(joint.next(run.sample.stream, run.position, run.width), run.eos))
        live += [(run, beam, where[beam.raw[:-1]]) for beam in run.live()]
    return live
