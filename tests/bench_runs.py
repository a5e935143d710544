"""A tiny model for ``treeagent bench``, and the command run on it."""

from __future__ import annotations

import pytest
import typer
from tiny_model import save_tiny_model
from typer.testing import CliRunner

from treeagent.backends.bench.command import bench
from treeagent.backends.bench.config.modes import MODES
from treeagent.backends.bench.config.plan import BenchOptions, BenchSettings, make_grid
from treeagent.request import Sampling

PROMPTS = ["24", "Numbers: 4 5 6 steps", "a longer prompt, so that rows are padded: abc abc", "xyz xyz xyz"]
TRANSFORMERS = [name for name in MODES if name.startswith("transformers-")]
SEEDS = [name for name in MODES if name.startswith("seed")]

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(bench)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a draft that is like it, and prompts."""
    there = tmp_path_factory.mktemp("bench")
    save_tiny_model(there / "model", eos_bias=1.0)
    save_tiny_model(there / "draft", seed=1, eos_bias=1.0)
    (there / "prompts.txt").write_text("\n".join(PROMPTS))
    return there


def call(*words):
    """Run the command in this process; an error meant for the user is raised."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(folder, *words, modes, tokens=12):
    """Run modes on the tiny model."""
    common = ["--model", str(folder / "model"), "--prompts", str(folder / "prompts.txt"), "--max-tokens", str(tokens)]
    return call(*common, "--modes", ",".join(modes), "--threads", "1", *words)


def made(**changes):
    """A grid with defaults."""
    fields = BenchSettings.__dataclass_fields__
    settings = {"model": "mini", "device": "cpu", **{name: changes.pop(name) for name in [*changes] if name in fields}}
    common = {"sampling": Sampling(max_tokens=8), **changes}
    return make_grid(BenchOptions(settings=BenchSettings(**settings), **common))
