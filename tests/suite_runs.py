"""``treeagent bench --suite papers`` as tests call it, on two prompts of ``mini``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from seed_tools import fixed_costs
from typer.testing import CliRunner, Result

from treeagent.backends.bench.command import bench
from treeagent.backends.models import catalog as models

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(bench)


COMMON = ["--suite", "papers", "-m", "mini", "-w", "mini", "--branches", "2", "--device", "cpu", "--threads", "1"]
FEW = ["--methods", "n-gram tables,auto"]


def call(*words: str) -> Result:
    """Run ``bench --suite papers`` in this process on two prompts of ``mini``; raise an error meant for the user."""
    result = CliRunner().invoke(app, [*COMMON, "--max-tokens", "6", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def sorted_draft(tmp_path: Path) -> str:
    """The draft of ``mini`` with an exit after its first layer, too, for which it was not trained."""
    [draft] = [named.where for named in models.list_models() if named.name == "mini-draft"]
    folder = Path(shutil.copytree(draft, tmp_path / "sorted"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "exits": [1, config["num_hidden_layers"]]}))
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def times() -> Iterator[None]:
    """Engines do not measure this machine."""
    with fixed_costs():
        yield
