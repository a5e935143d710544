"""The pages about the engine against the engine: options, drafters, figures, modes, models, and the commands they show.

``python tests/test_seed_docs.py`` writes defaults and commands anew.
"""

from __future__ import annotations

import inspect
import json
import re
import runpy
import shlex
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bench_tables
import pytest
import torch
import transformers as hf
from seed_tools import fixed_costs
from test_cli import call
from test_readme import BLOCK

from treeagent.backends.bench.config.modes import MODES
from treeagent.backends.bench.results.record import machine, to_json
from treeagent.backends.models.model import DTYPES, Model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.config import POLICIES
from treeagent.backends.seed.drafters.registry import NAMES
from treeagent.backends.seed.executor.llama import LlamaDecoder
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.weights import Weights
from treeagent.backends.seed.verifiers.rejection import VERIFIERS
from treeagent.errors import ModelError
from treeagent.reply import Round

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OPTIONS, FIGURES = DOCS / "reference" / "engine-options.md", DOCS / "reference" / "figures.md"
GUIDE, ENGINE = DOCS / "guides" / "benchmark.md", DOCS / "explanation" / "engine.md"
RESULTS = sorted((DOCS / "results").glob("*.md"))
PAGES = [OPTIONS, FIGURES, GUIDE, ENGINE, DOCS / "guides" / "gpu.md", *RESULTS]
ROW = re.compile(r"^\| `([\w.+-]+)` \| (.*?)\| (.*) \|$", re.MULTILINE)
COMMAND = re.compile(r"^treeagent bench .*?--json (\S+)(.*)$", re.MULTILINE)
OPTION_TABLES = ("names: options", "names: research options")


def part(name: str, page: Path) -> str:
    """The text of a page between the marker of that name and its end; empty where there is no such marker."""
    _, _, rest = page.read_text().partition(f"<!-- {name} -->\n")
    return rest.split("<!-- end -->")[0]


def names(name: str, page: Path) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r"^\| `([\w.+-]+)` \|", part(f"names: {name}", page), re.MULTILINE)


def default(name: str) -> Any:
    """An option's default."""
    return inspect.signature(SeedBackend).parameters[name].default


def rewritten(page: Path) -> str:
    """A page with the defaults of the code, and with the commands of the measurements that are there."""

    def option(row: re.Match[str]) -> str:
        value = default(row[1])
        return f"| `{row[1]}` | {'' if value is None else f'`{value}` '}| {row[3]} |"

    def command(line: re.Match[str]) -> str:
        file = ROOT / line[1]
        if not file.exists():
            return line[0]
        return f"{bench_tables.command_of(json.loads(file.read_text()))} --json {line[1]}{line[2]}"

    text = page.read_text()
    tables = OPTION_TABLES if page == OPTIONS else ()
    for name, pattern, replace in [*((table, ROW, option) for table in tables), ("commands", COMMAND, command)]:
        if old := part(name, page):
            text = text.replace(old, pattern.sub(replace, old))
    return text


def test_options_and_their_defaults_are_those_of_the_engine() -> None:
    """Every option of the command line with the default of the class, and every word that it takes."""
    listed = names("options", OPTIONS) + names("research options", OPTIONS)
    assert sorted(listed) == sorted([*SeedBackend.options, "model"])
    assert sorted([*listed, "shelf"]) == sorted(inspect.signature(SeedBackend).parameters)
    meaning = {name: row for table in OPTION_TABLES for name, _, row in ROW.findall(part(table, OPTIONS))}
    for option, words in (("policy", POLICIES), ("verify", VERIFIERS), ("dtype", DTYPES)):
        assert {str(default(option)), *re.findall(r"`([^`]+)`", meaning[option])} >= set(words)


def test_drafters_are_those_of_the_engine() -> None:
    """Each has a row; a table and a shape of the draft model make up every combined name."""
    listed = names("drafters", OPTIONS)
    assert sorted(listed) == sorted(name for name in NAMES if "+" not in name)
    combined = [name.split("+") for name in NAMES if "+" in name]
    assert {word for pair in combined for word in pair} == set(listed) - {"auto", "none"}


@pytest.mark.parametrize("page", [OPTIONS, *RESULTS], ids=lambda page: page.name)
def test_defaults_and_commands_are_those_of_the_code_and_of_the_measurements(page: Path) -> None:
    """A stale one is written anew by running this file."""
    assert rewritten(page) == page.read_text()


def test_every_figure_is_explained_in_its_order() -> None:
    """What ``meter`` returns, key by key, and the fields of a round."""
    backend = SeedBackend("mini")
    with fixed_costs():
        backend.load()
    assert names("figures", FIGURES) == list(backend.meter()())
    assert names("rounds", FIGURES) == [field.name for field in fields(Round)]


def commands() -> list[str]:
    """The commands that made the tables."""
    return [line for page in RESULTS for line in part("commands", page).splitlines() if line.startswith("treeagent")]


def test_a_command_can_be_had_back_from_what_it_measures() -> None:
    """A command that is made from the report of a plan gives the same plan; a report names the device that is there."""
    lines = commands()
    assert len({COMMAND.match(line)[1] for line in lines}) == len(lines)  # type: ignore[index]
    for line in (line for line in lines if "--device" not in line):
        plan = bench_tables.planned(shlex.split(line)[2:])
        where = machine(plan.settings, torch.device("cpu"), None)
        report = json.loads(json.dumps(to_json(plan, [], where, datetime.now(timezone.utc))))
        assert bench_tables.planned(shlex.split(bench_tables.command_of(report))[2:]) == plan


def test_every_bench_command_of_the_documents_is_a_valid_plan() -> None:
    """Commands for other machines included."""
    texts = [path.read_text() for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]]
    lines = [line for text in texts for line in re.findall(r"(?:^|`)(treeagent bench [^`\n]+)", text, re.MULTILINE)]
    assert len(lines) > 10
    assert all(bench_tables.planned(shlex.split(line)[2:]).plans for line in lines)


def test_the_modes_of_the_guide_are_those_of_the_benchmark() -> None:
    """In their order; other pages name no other mode."""
    assert names("modes", GUIDE) == list(MODES)
    for page in PAGES:
        words = re.findall(r"`(seed-[\w+-]+)`", page.read_text())
        assert set(words) <= set(MODES), page


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).replace(" ", "-").lower() for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    """Links within the documentation."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_no_page_about_the_engine_is_longer_than_it_may_be() -> None:
    """At most 3,000 words of prose; tables and commands that are made from files do not count."""
    for page in PAGES:
        prose = re.sub(r"<!-- (?:table: \S+|commands) -->.*?<!-- end -->", "", page.read_text(), flags=re.DOTALL)
        assert len(prose.split()) <= 3000, page


README = (ROOT / "README.md").read_text()
LINES = [
    line
    for page in PAGES
    for kind, body in BLOCK.findall(page.read_text())
    if kind == "sh"
    for line in body.splitlines()
    if line not in README
]
PROGRAMS = [body for page in PAGES for kind, body in BLOCK.findall(page.read_text()) if kind == "python"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed_times: None) -> None:
    """Run in an empty folder, without measuring this machine."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("elsewhere")
def test_a_shell_command_of_the_pages_runs(line: str) -> None:
    """Those that the README shows as well are run there."""
    program, *words = shlex.split(line)
    assert program == "treeagent"
    result = call(*words)
    assert result.exit_code == 0, result.output


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.usefixtures("elsewhere")
def test_a_python_block_of_the_pages_runs(program: str) -> None:
    """Each program works when pasted into a file."""
    Path("program.py").write_text(program)
    runpy.run_path("program.py")


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
KEPT = {
    **{**WIDE, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "sliding_window": WINDOW},
    **{"layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 8},
    **{"vocab_size_per_layer_input": 120},
}
WIDE_3N = {"laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 4}
"""Of Gemma 3n beside it."""
DELTA = {
    **{**WIDE, "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4, "pad_token_id": 0},
    **{"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
ROUTED = {
    **{"num_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
}
"""Of Qwen3.5 with experts beside it."""
SHORT = {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
MAMBA = {
    **{**GROUPED, "mamba_n_heads": 4, "mamba_n_groups": 2, "mamba_d_state": 8, "shared_intermediate_size": 24},
    **{"num_local_experts": 4, "num_experts_per_tok": 2},
}

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
    "Gemma 3n": ("Gemma3nText", {**KEPT, **WIDE_3N}),
    "Gemma 4": ("Gemma4Text", {**KEPT, "global_head_dim": 16}),
    "Ministral": ("Ministral", {**WIDE, "sliding_window": WINDOW}),
    "EXAONE 4": ("Exaone4", {**WIDE, "sliding_window": WINDOW}),
    "LFM2": ("Lfm2", SHORT),
    "LFM2-MoE": ("Lfm2Moe", {**SHORT, **ROUTED, "num_dense_layers": 1}),
    "Granite 4": ("GraniteMoeHybrid", {**MAMBA, "layer_types": ["linear_attention", "full_attention"]}),
    "Bamba": ("Bamba", {**MAMBA, "attn_layer_indices": [1]}),
    "Falcon-H1": (
        "FalconH1",
        {**GROUPED, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8},
    ),
    "Nemotron-H": ("NemotronH", {**WIDE, "layers_block_type": ["linear_attention", "full_attention"]}),
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
    "Qwen3.5": ("Qwen3_5Text", DELTA),
    "Qwen3.5-MoE": ("Qwen3_5MoeText", {**DELTA, **ROUTED}),
    "OLMo hybrid": ("OlmoHybrid", {**GROUPED, "layer_types": ["linear_attention", "full_attention"]}),
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
    for line in part("names: families", OPTIONS).splitlines():
        _, families, runs, how, _ = (cell.strip() for cell in line.split("|")) if line else [""] * 5
        found |= dict.fromkeys(families.split(", "), (runs, how)) if runs in ("yes", "no") else {}
    return found


def test_every_family_in_the_table_is_tried_here() -> None:
    """And no other."""
    assert set(stated()) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_or_is_refused_as_the_table_says(family: str) -> None:
    """A tiny model with random weights; no window limits its context."""
    prefix, shape = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(hf, f"{prefix}Config")(**shape)
    network = hf.AutoModelForCausalLM.from_config(config).eval()
    arguments = frozenset(inspect.signature(network.forward).parameters)
    context = getattr(config, "max_position_embeddings", None)
    device, text = torch.device("cpu"), config.get_text_config(decoder=True)
    model = Model(network, text, device, frozenset({0}), context, arguments, network.num_parameters(), network.dtype)
    runs, how = stated()[family]
    if runs == "no":
        with pytest.raises(ModelError, match=re.escape(how)):
            ModelRunner(Weights(model, family), 10**7)
    else:
        runner = ModelRunner(Weights(model, family), 10**7)
        assert isinstance(runner.weights.decoder, LlamaDecoder) == ("own loop" in how)
        assert runner.context == context


if __name__ == "__main__":
    for each in (OPTIONS, *RESULTS):
        each.write_text(rewritten(each))
