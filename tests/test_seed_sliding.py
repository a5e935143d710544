"""Sliding windows, soft caps, sinks and head sizes by layer, three windows into a text: the plain model's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from device import DEVICE
from draft_trees import Trees
from seed_tools import SHAPE, Naive, ask, save_model, scheduler, told

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import attention_call
from treeagent.backends.seed.executor.architecture import check_files
from treeagent.backends.seed.executor.forward_batch import make_forward_batch
from treeagent.backends.seed.executor.segment import Segment
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.kv_cache.radix_tree import RadixCache
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import UnsupportedModelError
from treeagent.request import Key, Request, Sampling

WINDOW = 16
GROUPED = {**SHAPE, "num_key_value_heads": 2, "sliding_window": WINDOW, "num_hidden_layers": 3}
MIXED = {**GROUPED, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
ENDS = {"pad_token_id": 0}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHARED = {
    **{**MIXED, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8},
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "vocab_size_per_layer_input": SHAPE["vocab_size"],
}
GEMMA_3N = {"intermediate_size": 48, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Mistral": ("Mistral", GROUPED),
    "Qwen2": ("Qwen2", {**GROUPED, "use_sliding_window": True, "max_window_layers": 1}),
    "Ministral": ("Ministral", MIXED),
    "Gemma 2": ("Gemma2", {**MIXED, "attn_logit_softcapping": 1.0, **ENDS}),
    "Gemma 3": ("Gemma3Text", {**MIXED, **ENDS}),
    "Gemma 3n": ("Gemma3nText", {**SHARED, **GEMMA_3N, **ENDS}),
    "Gemma 4": ("Gemma4Text", {**SHARED, "global_head_dim": 16, **ENDS}),
    "GPT-OSS": ("GptOss", {**MIXED, **EXPERTS, **ENDS}),
    "EXAONE 4": ("Exaone4", {**MIXED, **ENDS}),
    "Cohere 2": ("Cohere2", {**MIXED, **ENDS}),
    "OLMo 3": ("Olmo3", {key: value for key, value in {**MIXED, **ENDS}.items() if key != "head_dim"}),
}
"""Prefix of the configuration's class, and a tiny shape of three or four layers."""

ROUNDED = {"Gemma 2", "Gemma 3n", "Gemma 4"}
"""Transformers computes a part of these in float32 whatever the weights are."""


def config(family: str) -> Any:
    """Of a tiny model."""
    prefix, shape = FAMILIES[family]
    return getattr(transformers, f"{prefix}Config")(**shape)


def network(family: str, folder: Path) -> str:
    """A saved tiny model; sinks and soft caps matter to its logits."""
    return save_model(folder / family.replace(" ", "-"), config(family))


@pytest.fixture(scope="module", autouse=True)
def _costs(fixed_times: None) -> None:
    """Times are not measured."""


def tree_logits(weights: Weights, tokens: list[int], prompt: int, tree: list[int]) -> torch.Tensor:
    """Logits (n, V) of a tree of new tokens after a prompt, which is read in two chunks."""
    pool = weights.new_pool(10**8)
    cache = RadixCache(pool)
    nothing, half = np.zeros(0, dtype=np.int64), prompt // 2
    slots = pool.allocate(len(tokens))
    node = cache.root
    spans = (
        Segment(tokens[:half], slots[:half], nothing, node),
        Segment(tokens[half:prompt], slots[half:prompt], slots[:half], node),
        Segment(tokens[prompt:], slots[prompt:], slots[:prompt], node, tree, range(len(tree))),
    )
    with torch.inference_mode():
        for span in spans:
            logits = weights.decoder(make_forward_batch([span], weights.dtype, weights.device, weights.in_place), pool)
    return logits


def paths(tree: list[int]) -> list[list[int]]:
    """The nodes from the root to each node."""
    whole: list[list[int]] = []
    for node, parent in enumerate(tree):
        whole.append([*(whole[parent] if parent >= 0 else []), node])
    return whole


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        (family, dtype)
        for family in FAMILIES
        for dtype in ("float32", "float64")
        if (family, dtype) != ("GPT-OSS", "float64")
    ],
)
def test_a_tree_across_the_windows_edge_has_the_plain_logits(family: str, dtype: str, tmp_path: Path) -> None:
    """Every node's, for trees that begin before, at and after the edge, and three windows into the text."""
    folder = network(family, tmp_path)
    plain = load_model(Path(folder), dtype, torch.device("cpu")).network
    weights = Weights(load_model(Path(folder), dtype, torch.device("cpu")), family)
    tree = [-1, 0, 1, 2, 1, 4, 5, 6, 7, -1, 9, 10]
    generator = torch.Generator().manual_seed(1)
    for prompt in (WINDOW - 5, WINDOW, WINDOW + 1, 3 * WINDOW):
        tokens = torch.randint(1, weights.vocabulary, (prompt + len(tree),), generator=generator).tolist()
        logits = tree_logits(weights, tokens, prompt, tree)
        for node, path in enumerate(paths(tree)):
            text = tokens[:prompt] + [tokens[prompt + place] for place in path]
            with torch.inference_mode():
                right = plain(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
            limit = 1e-9 if dtype == "float64" and family not in ROUNDED else 1e-4
            assert float((logits[node] - right).abs().max()) <= limit * max(1.0, float(right.abs().max()))


def long_requests() -> list[Request]:
    """Greedy and sampled texts that begin within the window or at its edge and end three windows later."""
    prompts = ["4 5 6", "4 5 6 = 24", "4 5 6 = 24\nSteps:\n" * 2]
    settings = [Sampling(max_tokens=3 * WINDOW), Sampling(max_tokens=3 * WINDOW, temperature=0.9, top_k=9)]
    keys = [Key(7, "propose", str(place)) for place in range(6)]
    return [
        Request(prompt, keys[2 * i + j], how, 1 + j)
        for i, prompt in enumerate(prompts)
        for j, how in enumerate(settings)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_and_transformers_write_the_same_three_windows(family: str, tmp_path: Path) -> None:
    """With random draft trees around the true tokens, which cross the window's edge, and without drafts."""
    folder, requests = network(family, tmp_path), long_requests()
    # transformers has no experts in float64, and Gemma 2 in float64 gives it NaN where texts of a batch are padded
    dtype = "float32" if family in ("GPT-OSS", "Gemma 2") else "float64"
    right = told(ask(TransformersBackend(folder, device="cpu", dtype=dtype), *requests))
    naive = Naive(folder, dtype)
    assert right == naive.expected(requests)
    drafter = Trees(naive.truth(requests), hit=0.8, over=2)
    for options in ({"drafter": "none"}, {"drafter": lambda: drafter, "draft_tokens": 12}):
        backend = SeedBackend(folder, device=DEVICE, dtype=dtype, **options)
        assert told(ask(backend, *requests)) == right
    assert scheduler(backend).counters.accepted > 0


@pytest.mark.parametrize(("window", "context", "name"), [(None, 64, ""), (64, 64, ""), (63, 64, "sliding windows")])
def test_the_compiled_kernels_run_no_layers_that_slide(
    window: int | None, context: int, name: str, tmp_path: Path
) -> None:
    """They know no windows; one as long as the context is none."""
    shape = {**GROUPED, "sliding_window": window, "max_position_embeddings": context}
    folder = Path(save_model(tmp_path, transformers.MistralConfig(**shape)))
    weights = Weights(load_model(folder, "float32", torch.device("cpu")), folder)
    assert weights.context == context
    assert ("sliding windows" in weights.kernels) == bool(name)
    assert not (weights.in_place and name)


def test_a_window_forgotten_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With masks that lack the window the logits past its edge are others: the comparison above can fail."""
    folder = network("Gemma 3", tmp_path)
    whole = attention_call.call_mask
    monkeypatch.setattr(
        attention_call, "call_mask", lambda spans, depths, n, most, window=None: whole(spans, depths, n, most)
    )
    plain = load_model(Path(folder), "float64", torch.device("cpu")).network
    weights = Weights(load_model(Path(folder), "float64", torch.device("cpu")), "Gemma 3")
    tree = list(range(-1, 2 * WINDOW))
    tokens = torch.arange(1, 4 * WINDOW + 2)[: len(tree) + WINDOW].tolist()
    logits = tree_logits(weights, tokens, WINDOW, tree)
    with torch.inference_mode():
        right = plain(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, WINDOW:]
    differs = (logits - right).abs().amax(dim=1) > 1e-6
    assert bool(differs[1:].all())


def test_a_model_whose_layers_contradict_its_configuration_is_refused(
    tmp_path: Path,
) -> None:
    """A layer that passes another window than the configuration states is not run on a guess."""
    folder = Path(network("Gemma 3", tmp_path))
    model = load_model(folder, "float32", torch.device("cpu"))
    model.network.model.layers[0].self_attn.sliding_window = 5
    with pytest.raises(UnsupportedModelError, match="layer 0 has a sliding window of 5, its configuration says 16"):
        Weights(model, folder)


@pytest.mark.parametrize(
    ("prefix", "network_class", "reason"),
    [
        ("OlmoHybrid", "OlmoHybridForCausalLM", "attention cannot be replaced"),
        ("DeepseekV32", "DeepseekV32ForCausalLM", "layers of another kind"),
        ("Gemma4Text", "Gemma4ForCausalLM", None),
    ],
)
def test_files_say_what_cannot_run_in_one_line(
    prefix: str, network_class: str, reason: str | None, tmp_path: Path
) -> None:
    """Linear and indexed attention is refused; settings that differ by layer, where transformers raises, are not."""
    made = getattr(transformers, f"{prefix}Config")(architectures=[network_class])
    made.save_pretrained(tmp_path)
    if reason is None:
        check_files(tmp_path, prefix)
        return
    with pytest.raises(UnsupportedModelError, match=reason) as raised:
        check_files(tmp_path, prefix)
    assert "\n" not in str(raised.value)
