"""Random forests for the Triton kernel of attention, held against plain attention in float64; in a process of its own.

``TRITON_INTERPRET=1`` changes Triton for the whole process, so tests on a CPU ask this file, run as a program: a line
of JSON in, a line out. On a GPU they call :func:`run` themselves.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from triton_compile import compile_for  # noqa: F401  # asked for by name
from triton_draws import choose, draw_trial, trees  # noqa: F401  # asked for by name
from triton_graphs import graphed  # noqa: F401  # the same
from triton_layers import launches, layer_parts, texts_of_fused_layers, trial_of_layers  # noqa: F401  # the same
from triton_rows import over_rows

from treeagent.backends.seed.executor import attention_tiles, shared_runs
from treeagent.backends.seed.executor.attention_rule import AttentionRule
from treeagent.backends.seed.executor.attention_tiles import TileLayout
from treeagent.backends.seed.executor.forward_batch import ForwardBatch, make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.tree_attention import AttentionContext, attend_forest
from treeagent.backends.seed.kernels.attention_table import FIELDS, AttentionTiles
from treeagent.backends.seed.kv_cache.page_table import PageTable
from treeagent.backends.seed.kv_cache.pool import SlotPool
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache

DEFAULT: dict[str, Any] = {
    "dtype": "float32",
    "kinds": [(1, 2, 8)],  # key heads, query heads of each, head size: of each layer
    "window": None,
    "softcap": None,
    "sinks": False,
    "seed": 0,
    "texts": 4,
    "longest": 30,
    "nodes": [1, 2, 5],
    "keys": 16,  # of a tile
    "queries": 4,
    "least": 4,  # keys that a shared run must save
    "padded": False,
    "rows": None,  # whether keys are in rows of a window, of which those that no text sees are given back: right, ...
    "trimmed": None,  # to this window: keys before it have no tiles
    "kernel": True,  # in Triton
    "twin": None,
}
"""Of a case, where it does not say otherwise."""


def segments(forest: RadixCache, case: dict[str, Any]) -> list[Segment]:
    """Chains and trees after texts of ragged lengths, which share beginnings at several levels."""
    chance = random.Random(case["seed"])
    texts: list[list[int]] = [[chance.randrange(9) for _ in range(case["longest"] // 2)]]
    for _ in range(case["texts"] - 1):
        stem = chance.choice(texts)
        stem = stem[: chance.randint(len(stem) // 2, len(stem))]
        texts.append(stem + [chance.randrange(9) for _ in range(chance.randint(1, case["longest"] // 2))])
    spans = []
    tables = [PageTable(forest, text) for text in texts]
    for place, table in enumerate(tables):
        size = case["nodes"][place % len(case["nodes"])]
        parents = None if chance.random() < 0.3 else [chance.randint(-1, node - 1) for node in range(size)]
        spans.append(Segment([0] * size, table.take(size, 1), table.table, table.node, parents))
    spans.append(Segment([0], forest.allocate(1), np.zeros(0, dtype=np.int64), forest.root))  # a first token
    return spans


def forest_layout(case: dict[str, Any], queries: int) -> attention_tiles.TileLayout:
    """The tiles of a random forest."""
    pool = SlotPool([(1, 8)], torch.float32, torch.device("cpu"), 1 << 16)
    return TileLayout(segments(RadixCache(pool), case), queries)


def run(case: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """The largest error over all layers of a pass, and what the pass had in it."""
    case = {**DEFAULT, **case}
    with patch.object(attention_tiles, "KEYS", case["keys"]), patch.object(shared_runs, "LEAST", case["least"]):
        return run_with_cuts(case, device)


def run_with_cuts(case: dict[str, Any], device: str) -> dict[str, Any]:
    """:func:`run`, where tiles and shared runs are as the case says."""
    dtype, place = getattr(torch, case["dtype"]), torch.device(device)
    pool = SlotPool([(heads, dim) for heads, _, dim in case["kinds"]], dtype, place, 1 << 16)
    spans = segments(RadixCache(pool), case)
    generator = torch.Generator().manual_seed(case["seed"])
    for entries in pool.entries:
        entries.fill_(torch.nan)  # slots that nobody has written
        for span in spans:
            known = torch.randn(len(span.context), *entries.shape[1:], generator=generator)
            entries[torch.from_numpy(span.context).to(place)] = known.to(place, dtype)
    wide = SlotPool([(heads, dim) for heads, _, dim in case["kinds"]], torch.float64, torch.device("cpu"), 1 << 16)
    wide.allocate(pool.capacity)
    for entries, copy in zip(pool.entries, wide.entries, strict=True):
        copy.copy_(entries[: len(copy)])
    plain = make_forward_batch(spans, torch.float64, torch.device("cpu"))
    plan = make_forward_batch(spans, dtype, place, tile_queries=case["queries"])
    assert plan.tiles is not None
    whole = plan.tiles.count
    tiles = TileLayout(spans, case["queries"], case["trimmed"]).on(place) if case["trimmed"] else plan.tiles
    plan = replace(plan, tiles=replace(tiles, kernel=case["kernel"]))
    order, ranks = torch.argsort(plain.slots), torch.argsort(torch.argsort(plan.slots.cpu()))
    tokens = len(plan.slots)
    errors: list[float] = []
    padding = 0.0
    for layer, (heads, group, dim) in enumerate(case["kinds"]):
        query = torch.randn(tokens, heads * group, dim, generator=generator).to(dtype)
        new = torch.randn(tokens, 2, heads, dim, generator=generator).to(dtype)
        sinks = torch.randn(heads * group, generator=generator) if case["sinks"] else None
        rule = AttentionRule(dim**-0.5, case["window"], case["softcap"], sinks)
        there = replace(rule, sinks=None if sinks is None else sinks.to(place))
        right = attend_forest(
            query.double()[torch.argsort(order)], new.double()[torch.argsort(order)], layer,
            AttentionContext(plain, wide), rule,
        )[order][ranks]  # fmt: skip
        ours, asked, held = plan, query[ranks].to(place), pool
        if case["padded"]:
            ours, asked = padded(ours, spans, asked, case["queries"])
        if case["rows"]:
            ours, held = over_rows(ours, pool, case)
        ours, there, asked = broken(ours, there, asked, case["twin"])
        out = attend_forest(asked, new[ranks].to(place), layer, AttentionContext(ours, held), there)
        padding = max([padding, *out[tokens:].abs().flatten().tolist()])
        out = out[:tokens]
        errors.append(float((out.cpu().double() - right).abs().max()))
    longest = max(len(span.context) + 1 for span in spans)
    given = sum(max(0, len(span.context) + 1 - (case["window"] or 1 << 30)) for span in spans)
    runs = shared_runs.shared_runs(spans)[0]
    per_token = np.diff(section(plan.tiles, 4).cpu().numpy())
    return {
        "error": float(torch.tensor(errors).max()),  # NaN if there is one
        "padding": padding,
        "longest": longest,
        "outside": given,
        "trimmed": whole - tiles.count,
        "shared": len(runs),
        "levels": sum(run.start > 0 for run in runs),
        "rows": int(per_token.max()),
        "trees": sum(not span.is_chain for span in spans),
    }


def section(tiles: AttentionTiles, number: int) -> torch.Tensor:
    """The integers of a section of the table; a change changes the table."""
    begin = int(tiles.tables[number])
    end = int(tiles.tables[number + 1]) if number < 6 else len(tiles.tables)
    return tiles.tables[begin:end]


def padded(
    plan: ForwardBatch, spans: list[Segment], query: torch.Tensor, queries: int
) -> tuple[ForwardBatch, torch.Tensor]:
    """The pass with three more tokens and two more tiles, as a graph of a larger size has them."""
    assert plan.tiles is not None
    sizes = (len(query) + 3, plan.tiles.count + 2)
    tiles = TileLayout(spans, queries).on(query.device, *sizes, kernel=plan.tiles.kernel)
    return replace(plan, tiles=tiles), torch.cat((query, query.new_ones(3, *query.shape[1:])))


def broken(
    plan: ForwardBatch, rule: AttentionRule, query: torch.Tensor, twin: str | None
) -> tuple[ForwardBatch, AttentionRule, torch.Tensor]:
    """What the kernel is given; a ``twin`` has one thing wrong in it."""
    assert plan.tiles is not None
    tiles = replace(plan.tiles, tables=plan.tiles.tables.clone())
    if twin == "bits":
        section(tiles, 3).fill_(-1)
    elif twin == "keys":
        section(tiles, 1).copy_(section(tiles, 1).roll(1))
    elif twin == "rows":  # each token's first tile stands for all of them
        starts, rows = section(tiles, 4), section(tiles, 5)
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            rows[first:last] = rows[first].clone()
    elif twin == "positions":
        section(tiles, 6).view(-1, FIELDS)[:, 4] += 2
    elif twin == "window":
        rule = replace(rule, window=(rule.window or 0) + 1)
    elif twin == "softcap":
        rule = replace(rule, softcap=None)
    elif twin == "sinks":
        rule = replace(rule, sinks=None)
    elif twin == "heads":
        query = query.roll(1, dims=1)
    return replace(plan, tiles=tiles), rule, query


def load_model(folder: str) -> dict[str, Any]:
    """A checkpoint loaded with the kernel for its attention: the trial at load compares it with the plain forward."""
    from pathlib import Path

    from treeagent.backends.models import loader
    from treeagent.backends.seed.executor import weights
    from treeagent.backends.seed.executor.attention_choice import AttentionChoice

    weights.choose_attention = lambda *what: AttentionChoice(4)
    weights.host_reason = lambda *what: None
    loaded = weights.Weights(loader.load_model(Path(folder), "float32", torch.device("cpu")), folder)
    return {"kernels": loaded.kernels, "tile_queries": loaded.tile_queries}


def trial(dtype: str) -> dict[str, Any]:
    """The trial of the kernel that is made at load."""
    from treeagent.backends.seed.executor import attention_choice

    def wrong(query: Any, new: Any, layer: int, forest: AttentionContext, rule: AttentionRule) -> Any:
        scale = rule.scale if forest.plan.tiles is None else 1.1 * rule.scale
        return attend_forest(query, new, layer, forest, replace(rule, scale=scale))

    case = (torch.device("cpu"), getattr(torch, dtype), [(1, 8)], 2, 16)
    fault = attention_choice.trial(*case)
    attention_choice.attend_forest = wrong
    return {"fault": fault, "broken": attention_choice.trial(*case)}


def mend_interpreter() -> None:
    """The interpreter multiplies the bits of bfloat16 numbers as integers; their products in float32 are exact.

    It replaces Triton's functions anew for each call of a function; once is enough, and takes a third of the time.
    """
    import triton
    from triton.language import core
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    dot = builder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == core.bfloat16:
            a, b = (self.create_fp_ext(x, core.block_type(core.float32, list(x.data.shape))) for x in (a, b))
        return dot(self, a, b, *rest)

    builder.create_dot = create_dot
    replace_all, known = interpreter._patch_lang, set()

    def replace_once(fn: Any) -> Any:
        modules = tuple(
            sorted(id(value) for value in fn.__globals__.values() if value is core or value is triton.language)
        )
        if modules not in known:
            known.add(modules)
            replace_all(fn)
        return interpreter._LangPatchScope()

    interpreter._patch_lang = replace_once


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("TRITON_INTERPRET") == "1":
        np.seterr(divide="ignore")  # the logarithm of nothing seen
        mend_interpreter()
    for line in sys.stdin:
        name, argument = json.loads(line)
        try:
            with torch.inference_mode():
                answer = globals()[name](argument)
        except Exception:  # noqa: BLE001  # the test that asked fails, and the next one asks again
            answer = {"traceback": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
