"""Measure a model of random weights with Qwen3.5's shape: branches of the engine beside transformers, and prefix reuse.

    python -m treeagent.backends.bench.hybrid --out hybrid.json

Three layers of four are Gated DeltaNet layers. The model has about 300 million weights with the default sizes; its
tokenizer is that of a small model. First ``treeagent bench`` compares modes on the same prompts, cold and in float32,
with tokens compared. Then two batches of prompts with common beginnings are sent to one engine, and the tokens that it
reuses are given as a share of those that its snapshots allow. Exit codes are those of ``treeagent bench``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treeagent.errors import ConfigError, TreeagentError
from treeagent.request import Sampling

from .config.plan import BenchOptions, BenchSettings, make_grid
from .options import ANY, add_device, add_max_tokens, add_model, add_out, add_repeat, add_threads
from .workloads.prompts import KINDS, builtin_prompts

if TYPE_CHECKING:
    from .snapshots import PrefixReuse

MODES = ("transformers-batched", "seed-nodraft", "seed")
INTERVAL = 4
"""Of so many layers one attends, as in Qwen3.5."""
NAME = "qwen3.5-random"
"""Of the model in the results."""
SPREAD = 0.05
"""Standard deviation of the weights: with the usual 0.02 random models repeat one token, which drafts guess."""


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.hybrid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser, "mini", f"whose tokenizer is taken: {ANY}")
    parser.add_argument("--layers", type=int, default=16, metavar="N", help="a multiple of 4 (default: 16)")
    parser.add_argument("--hidden", type=int, default=1024, metavar="N", help="width, a multiple of 64 (default: 1024)")
    parser.add_argument(
        "--intermediate", type=int, default=2816, metavar="N", help="width of feed-forward layers (default: 2816)"
    )
    parser.add_argument("--branches", type=int, default=16, help="prompts that are live at once (default: 16)")
    parser.add_argument("--workload", default="game24", help=f"kind of the prompts, of {', '.join(KINDS)}")
    add_max_tokens(parser, 64)
    add_repeat(parser, 3)
    parser.add_argument("--modes", default=",".join(MODES), help=f"modes of the bench (default: {','.join(MODES)})")
    add_threads(parser)
    add_device(parser)
    add_out(parser, "file of results", required=True)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory(prefix="treeagent-hybrid-") as folder:
            return run(options, Path(folder) / NAME)
    except TreeagentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace, folder: Path) -> int:
    """Write the model into a folder, measure, add prefix reuse to the JSON. Raises TreeagentError."""
    for name, size, least in (("layers", options.layers, INTERVAL), ("hidden", options.hidden, 64)):
        if size < least or size % least:
            raise ConfigError(f"--{name} must be a multiple of {least}, not {size}")
    settings = BenchSettings(model=str(folder), title=NAME, threads=options.threads, device=options.device, chat=False)
    grid = make_grid(
        BenchOptions(
            settings=settings,
            workloads=(options.workload,),
            branches=(options.branches,),
            sampling=Sampling(max_tokens=options.max_tokens),
            modes=tuple(options.modes.split(",")),
            baseline=options.modes.split(",")[0],
            reference=options.modes.split(",")[0],
            repeat=options.repeat,
        )
    )
    parameters = write_hybrid(options, folder)
    from .suite import run_grid  # noqa: PLC0415  # brings torch, which --help can do without

    code = run_grid(grid, json=options.out, plot=None, quiet=options.quiet)
    reuse = _reuse(options, folder)
    content = json.loads(options.out.read_text(encoding="utf-8"))
    shape = {name: getattr(options, name) for name in ("layers", "hidden", "intermediate")}
    content["model_shape"] = {
        "family": "Qwen3.5",
        "parameters": parameters,
        "weights": "random",
        **shape,
        "tokenizer": options.model,
    }
    content["prefix_reuse"] = {**asdict(reuse), "share": reuse.share}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{parameters:,} weights; of {reuse.reusable:,} reusable prompt tokens {reuse.reused:,} were reused")
    return code


def write_hybrid(options: argparse.Namespace, folder: Path) -> int:
    """Write a random checkpoint; returns its number of weights. Raises TreeagentError."""
    import torch  # noqa: PLC0415  # --help can do without
    import transformers  # noqa: PLC0415

    from ..models import catalog  # noqa: PLC0415
    from ..models.sources import explained, source_of  # noqa: PLC0415

    where = catalog.resolve(options.model)
    with explained(where, "its tokenizer"):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(**source_of(where))
    config = transformers.Qwen3_5TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        layer_types=[
            "linear_attention" if (layer + 1) % INTERVAL else "full_attention" for layer in range(options.layers)
        ],
        num_attention_heads=max(1, options.hidden // 128),
        num_key_value_heads=max(1, options.hidden // 512),
        head_dim=min(256, options.hidden),
        linear_num_key_heads=options.hidden // 64,
        linear_num_value_heads=options.hidden // 64,
        linear_key_head_dim=min(128, options.hidden),
        linear_value_head_dim=min(128, options.hidden),
        max_position_embeddings=8192,
        initializer_range=SPREAD,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    network: Any = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # no text ends early, so that all modes write the same number of tokens
        network.get_output_embeddings().weight[tokenizer.eos_token_id] = 0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(network.num_parameters())


def _reuse(options: argparse.Namespace, folder: Path) -> PrefixReuse:
    """Of two batches of prompts, sent to an engine without drafts."""
    from ..models.tokenizer import load_tokenizer  # noqa: PLC0415
    from ..seed.backend import SeedBackend  # noqa: PLC0415
    from .snapshots import measure_reuse  # noqa: PLC0415

    tokenizer = load_tokenizer(folder, chat=False)
    texts = builtin_prompts(options.workload, 2 * options.branches, 5)
    pairs = [(text, tokenizer.prompt(text)) for text in texts]
    engine = SeedBackend(
        str(folder), drafter="none", dtype="float32", device=options.device, threads=options.threads, chat=False
    )
    return asyncio.run(measure_reuse(engine, [pairs[: options.branches], pairs[options.branches :]]))


if __name__ == "__main__":
    sys.exit(main())
