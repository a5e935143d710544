"""Write a checkpoint of a large shape that computes the function of a small model, to measure speed with real texts.

    python -m treeagent.backends.bench.widen --model smollm2 --like llama-7b

The texts are those of the small model, at the cost of the large shape; the small model, or a draft trained for it,
drafts for it as well as for the small model itself. Figures of such a model are labelled "widened". The command
compares both models' logits over built-in prompts and exits with 1 where they differ by more than rounding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from treeagent.errors import ConfigError, TreeagentError

from .options import add_device, add_model, add_out
from .widened.shape import SHAPES, find_shape

TEXTS = 4
"""Prompts whose logits are compared."""
KIND = "mixed"
"""Their workload."""


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treeagent.backends.bench.widen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser, "smollm2", "the small model: smollm2, mini or a folder")
    parser.add_argument(
        "--like", default="llama-7b", metavar="SHAPE", help=f"{', '.join(SHAPES)}, or a config.json (default: llama-7b)"
    )
    add_out(parser, "folder to write (default: ./MODEL-widened-SHAPE); one that holds this model is compared again")
    parser.add_argument("--dtype", default="bfloat16", help="float32, bfloat16 (default) or float16")
    add_device(parser)
    parser.add_argument(
        "--tokens", type=int, default=96, metavar="TOKENS", help="tokens of each of the compared texts (default: 96)"
    )
    parser.add_argument("--no-check", action="store_true", help="do not compare the logits")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args(words)
    try:
        return run(options)
    except TreeagentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Write the checkpoint, or take one that is there, and compare. Raises TreeagentError."""
    large = find_shape(options.like)
    if options.tokens < 1:
        raise ConfigError(f"--tokens must be 1 or more, not {options.tokens}")

    from ..local.base import find_device  # noqa: PLC0415  # brings torch, which --help can do without
    from ..models import catalog  # noqa: PLC0415
    from ..models.tokenizer import load_tokenizer  # noqa: PLC0415
    from .widened.checkpoint import load_small, write_widened  # noqa: PLC0415
    from .widened.comparison import compare_widened  # noqa: PLC0415
    from .widened.label import is_widened, widened_label  # noqa: PLC0415
    from .workloads.prompts import MINI, builtin_prompts  # noqa: PLC0415

    where = catalog.resolve(options.model)
    name, like = (Path(word).stem if Path(word).exists() else word for word in (options.model, options.like))
    small, device = load_small(name, where), find_device(options.device)
    out = options.out or Path(f"{name}-widened-{like}")

    def say(line: str) -> None:
        if not options.quiet:
            print(line, file=sys.stderr)

    if is_widened(out, name, like, options.dtype):  # a folder appears when it is whole
        say(f"{out} is there already")
    else:
        write_widened(small, large, like, out, dtype=options.dtype, device=device, progress=say)
    print(f"{widened_label(out)}, {options.dtype}, {large.parameters(small.config.vocab_size):,} weights: {out}")
    if options.no_check:
        return 0
    tokenizer = load_tokenizer(where)
    prompts = builtin_prompts(MINI if name.startswith("mini") else KIND, TEXTS, 5)
    texts = [tokenizer.prompt(text)[: options.tokens] for text in prompts]
    check = compare_widened(small, out, texts, device)
    print(f"{'the same function' if check.passed else 'ANOTHER FUNCTION'} {check}")
    return 0 if check.passed else 1


if __name__ == "__main__":
    sys.exit(main())
