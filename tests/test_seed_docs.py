"""The manual of the engine against the engine: options, figures, fixed numbers, models, and the commands it shows.

``python tests/test_seed_docs.py`` writes defaults, fixed numbers and commands anew.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import sys
from datetime import datetime, timezone
from functools import reduce
from pathlib import Path
from typing import Any

import bench_tables
import pytest
import torch
import transformers as hf
from seed_tools import fixed_costs
from test_readme import BLOCK, _run

from treeagent.backends.bench.config.modes import MODES
from treeagent.backends.bench.results.record import machine, to_json
from treeagent.backends.models.loader import DTYPES, Model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.registry import NAMES
from treeagent.backends.seed.executor.llama import LlamaDecoder
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.scheduler.scheduler import POLICIES
from treeagent.backends.seed.verifiers.rejection import VERIFIERS
from treeagent.errors import ModelError

ROOT = Path(__file__).parent.parent
MANUAL = ROOT / "docs" / "seed.md"
ROW = re.compile(r"^\| `([\w.]+)` \| (.*?)\| (.*) \|$", re.MULTILINE)
COMMAND = re.compile(r"^treeagent bench .*?--json (\S+)(.*)$", re.MULTILINE)


def part(name: str, text: str | None = None) -> str:
    """What stands between the marker of that name and its end."""
    return (MANUAL.read_text() if text is None else text).split(f"<!-- {name} -->\n")[1].split("<!-- end -->")[0]


def names(name: str) -> list[str]:
    """The names in the first column of a table."""
    return [found[0] for found in ROW.findall(part(f"names: {name}"))]


def default(name: str) -> Any:
    """An option's default."""
    return inspect.signature(SeedBackend).parameters[name].default


def constant(name: str) -> Any:
    """A fixed number, from its module."""
    module, _, word = name.rpartition(".")
    return getattr(importlib.import_module(f"treeagent.backends.seed.{module}"), word)


def rewritten(text: str) -> str:
    """The manual with its defaults, fixed numbers and, where there are measurements, commands as they should be."""

    def option(row: re.Match[str]) -> str:
        value = default(row[1])
        return f"| `{row[1]}` | {'' if value is None else f'`{value}` '}| {row[3]} |"

    def number(row: re.Match[str]) -> str:
        return f"| `{row[1]}` | `{constant(row[1])}` | {row[3]} |"

    def command(line: re.Match[str]) -> str:
        file = ROOT / line[1]
        if not file.exists():
            return line[0]
        return f"{bench_tables.command_of(json.loads(file.read_text()))} --json {line[1]}{line[2]}"

    parts = (("names: options", ROW, option), ("names: constants", ROW, number), ("commands", COMMAND, command))
    return reduce(lambda done, each: done.replace(old := part(each[0], done), each[1].sub(each[2], old)), parts, text)


def test_options_and_their_defaults_are_those_of_the_engine() -> None:
    """Every option of the command line with the default of the class, and every word that it takes."""
    assert sorted(names("options")) == sorted(SeedBackend.options)
    assert sorted([*SeedBackend.options, "model", "shelf"]) == sorted(inspect.signature(SeedBackend).parameters)
    meaning = {name: row for name, _, row in ROW.findall(part("names: options"))}
    for option, words in (("drafter", NAMES), ("policy", POLICIES), ("verify", VERIFIERS), ("dtype", DTYPES)):
        assert {str(default(option)), *re.findall(r"`([^`]+)`", meaning[option])} >= set(words)


def test_numbers_and_commands_are_those_of_the_code_and_of_the_measurements() -> None:
    """A stale one is written anew by running this file."""
    assert rewritten(MANUAL.read_text()) == MANUAL.read_text()


def test_every_figure_is_explained_in_its_order() -> None:
    """What ``meter`` returns, key by key."""
    backend = SeedBackend("mini")
    with fixed_costs():
        backend.load()
    assert names("figures") == list(backend.meter()())


def test_the_commands_that_measure_are_understood_and_can_be_had_back_from_what_they_measure() -> None:
    """Each is a valid plan; a command made from such a plan's report plans the same."""
    lines = [line for line in part("commands").splitlines() if line.startswith("treeagent")]
    assert len({COMMAND.match(line)[1] for line in lines}) == len(lines)  # type: ignore[index]
    for line in lines:
        plan = bench_tables.planned(line.split()[2:])
        where = machine(plan.settings, torch.device("cpu"), None)
        report = json.loads(json.dumps(to_json(plan, [], where, datetime.now(timezone.utc))))
        assert bench_tables.planned(shlex.split(bench_tables.command_of(report))[2:]) == plan


def test_every_bench_command_of_the_documents_is_a_valid_plan() -> None:
    """Those for machines that are not here included."""
    texts = [path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]]
    found = [line for text in texts for line in re.findall(r"(?:^|`)(treeagent bench [^`\n]+)", text, re.MULTILINE)]
    assert len(found) > 10
    assert all(bench_tables.planned(shlex.split(line)[2:]).modes for line in found)


def test_modes_and_files_that_are_named_exist() -> None:
    """No link leads nowhere."""
    text = MANUAL.read_text()
    assert {word for word in re.findall(r"`(seed-[\w+-]+)`", text) if not word.endswith(".json")} <= set(MODES)
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert links
    assert all((MANUAL.parent / link).exists() for link in links)
    anchors = {re.sub(r"[^\w -]", "", line.lstrip("# ")).replace(" ", "-").lower() for line in text.splitlines()}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


README = (ROOT / "README.md").read_text()
LINES = [line for kind, body in BLOCK.findall(MANUAL.read_text()) if kind == "sh" for line in body.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line not in README])
def test_a_shell_command_of_the_manual_runs(line: str, tmp_path: Path) -> None:
    """Those that the README shows as well are run there."""
    _run(line, tmp_path)


@pytest.mark.parametrize("block", [body for kind, body in BLOCK.findall(MANUAL.read_text()) if kind == "python"])
def test_a_python_block_of_the_manual_runs(block: str, tmp_path: Path) -> None:
    """Each program works when pasted into a file."""
    (tmp_path / "program.py").write_text(block)
    _run([sys.executable, "program.py"], tmp_path)


SHAPE = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
WIDE = {**GROUPED, "head_dim": 8}
EXPERTS = {**WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
OLD = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, **ENDS}
WINDOW = 32
"""Of the families whose layers may slide."""

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", GROUPED),
    "Mistral": ("Mistral", {**GROUPED, "sliding_window": WINDOW}),
    "Qwen2": ("Qwen2", GROUPED),
    "Qwen3": ("Qwen3", WIDE),
    "Qwen3-MoE": ("Qwen3Moe", EXPERTS),
    "Mixtral": ("Mixtral", {**GROUPED, "num_local_experts": 4}),
    "Gemma": ("Gemma", WIDE),
    "Gemma 2": ("Gemma2", WIDE),
    "Gemma 3": ("Gemma3Text", {**WIDE, "sliding_window": WINDOW}),
    "Phi": ("Phi", SHAPE),
    "Phi-3": ("Phi3", GROUPED),
    "GPT-2": ("GPT2", OLD),
    "GPT-NeoX": ("GPTNeoX", SHAPE),
    "GPT-J": ("GPTJ", {**OLD, "rotary_dim": 8}),
    "OPT": ("OPT", {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "StarCoder2": ("Starcoder2", GROUPED),
    "OLMo 2": ("Olmo2", GROUPED),
    "OLMo 3": ("Olmo3", {**GROUPED, "sliding_window": WINDOW}),
    "Granite": ("Granite", GROUPED),
    "Cohere": ("Cohere", GROUPED),
    "Cohere 2": ("Cohere2", {**WIDE, "sliding_window": WINDOW}),
    "SmolLM3": ("SmolLM3", GROUPED),
    "GLM-4": ("Glm4", WIDE),
    "GPT-OSS": ("GptOss", {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}),
    "Llama 4": ("Llama4Text", {**WIDE, "intermediate_size_mlp": 48, "num_local_experts": 2}),
    "LFM2": ("Lfm2", {**GROUPED, "layer_types": ["conv", "full_attention"]}),
    "BLOOM": ("Bloom", {"vocab_size": 120, "hidden_size": 32, "n_layer": 2, "n_head": 4, **ENDS}),
    "Falcon": (
        "Falcon",
        {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **ENDS},
    ),
    "MPT": ("Mpt", {"vocab_size": 120, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}),
    "StableLM": ("StableLm", GROUPED),
    "Mamba": ("Mamba", {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "Qwen3-Next": (
        "Qwen3Next",
        {
            **{**EXPERTS, "shared_expert_intermediate_size": 16, "linear_num_value_heads": 4},
            **{"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
        },
    ),
    "Nemotron": ("Nemotron", GROUPED),
    "DeepSeek-V3": (
        "DeepseekV3",
        {
            **{**SHAPE, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8},
            **{"v_head_dim": 8, "qk_nope_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
            **{"num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1},
        },
    ),
}
"""Prefix of the configuration's class, and a tiny shape."""


def stated() -> dict[str, tuple[str, str]]:
    """Family to whether it runs, and how or why not."""
    found = {}
    for line in part("names: families").splitlines():
        _, families, runs, how, _ = (cell.strip() for cell in line.split("|")) if line else [""] * 5
        found |= dict.fromkeys(families.split(", "), (runs, how)) if runs in ("yes", "no") else {}
    return found


def test_every_family_in_the_table_is_tried_here() -> None:
    """And no other."""
    assert set(stated()) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_or_is_refused_as_the_table_says(family: str) -> None:
    """A tiny model with random weights; texts of models with windows are kept to them."""
    prefix, shape = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(hf, f"{prefix}Config")(**shape)
    network = hf.AutoModelForCausalLM.from_config(config).eval()
    arguments = frozenset(inspect.signature(network.forward).parameters)
    context = getattr(config, "max_position_embeddings", None)
    model = Model(network, torch.device("cpu"), frozenset({0}), context, arguments)
    runs, how = stated()[family]
    if runs == "no":
        with pytest.raises(ModelError, match=re.escape(how)):
            ModelRunner(Weights(model, family), 10**7)
    else:
        runner = ModelRunner(Weights(model, family), 10**7)
        assert isinstance(runner.weights.decoder, LlamaDecoder) == ("own loop" in how)
        assert runner.context == (WINDOW if "sliding_window" in shape else context)


if __name__ == "__main__":
    MANUAL.write_text(rewritten(MANUAL.read_text()))
