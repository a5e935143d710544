"""The Triton kernels of a layer's norms, rotation and gate, held against torch; :mod:`triton_cases` asks for them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional as F

TOKENS = 7


def layer_parts(case: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Relative errors of every kernel against float64, and whether each token alone has the same bits.

    ``wrong`` names what a twin of the rotation is given wrongly.
    """
    from treeagent.backends.seed.kernels.layer_parts import add_norm, gate, rotate_and_store

    dtype, (heads, keys, dim), size = getattr(torch, case["dtype"]), case["heads"], case["size"]
    generator = torch.Generator().manual_seed(case["seed"])

    def drawn(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * case.get("scale", 1)).to(device, dtype)

    x, y, both, qkv = (
        drawn(TOKENS, size),
        drawn(TOKENS, size),
        drawn(TOKENS, 2 * size),
        drawn(TOKENS, heads + 2 * keys, dim),
    )
    angles = torch.randn(TOKENS, dim // 2, generator=generator)
    cos, sin = torch.cat((angles, angles), 1).cos(), torch.cat((-angles.sin(), angles.sin()), 1)
    cos, sin = torch.stack((cos, sin), 1)[:, :, None].to(device, dtype).unbind(1)
    weight = torch.rand(size, generator=generator).to(device) + 0.5
    norms = torch.rand(2, dim, generator=generator).to(device) + 0.5 if case["norms"] else None
    slots = torch.randperm(TOKENS + 3, generator=generator)[:TOKENS].to(device)
    given = {"qkv": qkv, "cos": cos, "sin": sin, "slots": slots, "norms": norms}
    if (wrong := case.get("wrong")) is not None:
        given[wrong] = given[wrong].roll(1, 0)

    def run(first: int, last: int) -> list[torch.Tensor]:
        own = {
            name: value if name == "norms" or value is None else value[first:last].clone()
            for name, value in given.items()
        }
        entries = torch.full((TOKENS + 3, 2, keys, dim), torch.nan, dtype=dtype, device=device)
        rotate_and_store(own["qkv"], (own["cos"], own["sin"]), entries, own["slots"], own["norms"], 0.1)
        added = add_norm(x[first:last], y[first:last].clone(), weight, 0.1)
        alone = add_norm(x[first:last], None, weight, 0.1)[1]
        kept = entries[slots[first:last]].flatten(1, 2)
        return [*added, alone, gate(both[first:last]), own["qkv"][:, :heads], kept, entries.isnan().sum()[None]]

    found = run(0, TOKENS)
    each = [torch.cat(parts) for parts in zip(*(run(place, place + 1) for place in range(TOKENS)), strict=True)]
    right = _expected(x, y, both, qkv, (cos, sin), weight, norms, *case["heads"][:2])
    errors = [
        float((one.double() - other).abs().max() / other.abs().max())
        for one, other in zip(found[:-1], right, strict=True)
    ]
    unwritten = 3 * 2 * keys * dim
    return {
        "error": float(torch.tensor(errors).max()),  # NaN if there is one
        "alone": all(torch.equal(one, other) for one, other in zip(found[:-1], each[:-1], strict=True)),
        "elsewhere": int(found[-1]) - unwritten,
    }


def _expected(
    x: torch.Tensor,
    y: torch.Tensor,
    both: torch.Tensor,
    qkv: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor],
    weight: torch.Tensor,
    norms: torch.Tensor | None,
    *counts: int,
) -> list[torch.Tensor]:
    """The results in float64."""
    heads, keys = counts
    x, total, both, wide = x.double(), x.double() + y.double(), both.double(), qkv.double()
    if norms is not None:
        for place, own in ((slice(heads), norms[0]), (slice(heads, heads + keys), norms[1])):
            part = wide[:, place]
            wide[:, place] = part * own.double() / (part.square().sum(-1, keepdim=True) + 0.1).sqrt()
    turning = wide[:, : heads + keys]
    cos, sin = (part.double() for part in rotation)
    wide[:, : heads + keys] = turning * cos + turning.roll(turning.shape[2] // 2, 2) * sin
    normed, alone = (each * weight.double() / (each.square().sum(1, keepdim=True) + 0.1).sqrt() for each in (total, x))
    gate, up = both.chunk(2, 1)
    return [total, normed, alone, F.silu(gate) * up, wide[:, :heads], wide[:, heads:]]


def trial_of_layers(dtype: str) -> dict[str, Any]:
    """The trial at load, of the right kernels and of a gate that multiplies by the gate's own half."""
    from treeagent.backends.seed.executor import fused_choice
    from treeagent.backends.seed.kernels import layer_parts as kernels

    what = (torch.device("cpu"), getattr(torch, dtype))
    fault, right = fused_choice.layer_trial.__wrapped__(*what), kernels.gate
    with patch.object(kernels, "gate", lambda both: right(both.roll(1, 1))):
        return {"fault": fault, "broken": fused_choice.layer_trial.__wrapped__(*what)}


def texts_of_fused_layers(case: dict[str, Any]) -> dict[str, Any]:
    """Texts of an engine whose passes are graphs with all kernels in them, and what its figures say."""
    from seed_tools import FEW, ask, fixed_costs, told
    from triton_graphs import KernelRecorder

    from treeagent.backends.seed import builder
    from treeagent.backends.seed.backend import SeedBackend
    from treeagent.backends.seed.executor import attention_tiles, graph_setup, shared_runs, weights
    from treeagent.backends.seed.executor.attention_choice import AttentionChoice
    from treeagent.backends.seed.executor.envelope import Envelope
    from treeagent.backends.seed.executor.model_runner import ModelRunner

    recorder = KernelRecorder()

    def set_up(runner: ModelRunner) -> str:
        why = graph_setup.set_up_graphs(runner, recorder, lambda *_: None, (Envelope(4, 12),))
        assert why is None, why
        return ", graphs"

    with (
        patch.object(attention_tiles, "KEYS", 32),
        patch.object(shared_runs, "LEAST", 8),
        patch.object(weights, "choose_attention", lambda *what: AttentionChoice(2)),
        patch.object(weights, "host_reason", lambda *what: None),
        patch.object(builder, "set_up_cuda_graphs", set_up),
        patch.dict("os.environ", TREEAGENT_KERNELS="off"),
        torch.inference_mode(False),
        fixed_costs(),
    ):
        backend = SeedBackend(
            case["folder"], device="cpu", dtype="float32", kv_memory=1.0, drafter="ngram", draft_tokens=2
        )
        backend.load()
        kernels = str(backend.meter()()["kernels"])
        found = told(ask(backend, *(FEW[number] for number in case["asked"])))
    return {"texts": found, "kernels": kernels, "replayed": recorder.replayed}


def launches(case: dict[str, Any]) -> dict[str, Any]:
    """Launches in the graph of one further layer of a pass, plain and fused, and of a pass of two layers."""
    from triton_graphs import KernelRecorder

    from treeagent.backends.models.decoder import load_decoder
    from treeagent.backends.seed.executor.llama import LlamaDecoder
    from treeagent.backends.seed.executor.model_runner import ModelRunner
    from treeagent.backends.seed.executor.trial_pass import TrialPass, trial_segments
    from treeagent.backends.seed.executor.weights import Weights

    counted: dict[str, Any] = {}
    with patch.dict("os.environ", TREEAGENT_KERNELS="off"):
        weights = Weights(load_decoder(Path(case["folder"]), "float32", torch.device("cpu")), case["folder"])
    weights.tile_queries = 2
    own, decoder = ModelRunner(weights, 10**6), weights.decoder
    assert isinstance(decoder, LlamaDecoder)
    decoder.fix_positions(torch.float32)
    for name in ("plain", "fused"):
        with torch.inference_mode(), trial_segments(own, TrialPass(2, private=8, nodes=2)) as segments:
            plan, pool, recorder = own.batch(segments), own.forest.pool, KernelRecorder()
            x = decoder.embed(plan)
            work = [partial(decoder.through, x, plan, pool, 0, last) for last in (1, 2)]
            each = []
            for one in (*work, partial(decoder.logits, x)):
                recorder.capture(one)
                each.append(recorder.launches)
        counted[name] = {"layer": each[1] - each[0], "both": each[1], "head": each[2]}
        assert decoder.fuse() is None
    return counted
