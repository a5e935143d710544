"""The core works without the optional libraries, and a missing one is one line with the command that installs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from treeagent import MissingExtraError, extras, registry

LIBRARIES = {
    "math": ("math_verify",),
    "mcp": ("mcp",),
    "local": ("accelerate", "gguf", "numpy", "safetensors", "tokenizers", "torch", "transformers"),
    "openai": ("httpx", "tenacity"),
    "otel": ("opentelemetry_exporter_otlp_proto_http", "opentelemetry_sdk"),
    "plot": ("matplotlib",),
    "ray": ("ray",),
    "serve": ("starlette", "uvicorn"),
}
WITHOUT = """
import sys
from importlib.machinery import PathFinder

found = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked!r} else found(name, path, target)
PathFinder.find_spec = find_spec
"""
"""Makes a Python in which some libraries are not installed."""
MAIN = "from treeagent.cli import main; main()"
RULES = """
- {match: "Possible next steps", text: "4 + 6 = 10 (left: 5 10 10)"}
- {match: "", text: "sure"}
"""


def light(code: str, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A program in a Python without any optional library."""
    blocked = {library for libraries in LIBRARIES.values() for library in libraries} | {"opentelemetry"}
    command = [sys.executable, "-c", WITHOUT.format(blocked=blocked) + code, *words]
    env = {**os.environ, "COLUMNS": "200", "TREEAGENT_CACHE": str(folder or "nowhere")}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)


@pytest.mark.parametrize(
    ("words", "extra", "named"),
    [
        ("solve --task game24 --search bfs", "local", "torch"),
        ("solve --task game24 --search bfs --backend seed", "local", "torch"),
        ("solve --task game24 --search bfs --backend openai", "openai", "httpx and tenacity"),
        ("eval --task game24 --search bfs --limit 1", "local", "torch"),
        ("eval --task game24 --search bfs --limit 1 --plot a.png", "plot", "matplotlib"),
        ("compare --task game24 --backends transformers,seed", "local", "torch"),
        ("compare --task game24 --backends replay:a,replay:b --repeat 2 --plot a.png", "plot", "matplotlib"),
        ("bench", "local", "torch and transformers"),
        ("models fetch smollm2", "local", "torch"),
        ("serve --task game24 --search bfs", "serve", "starlette and uvicorn"),
        ("serve --mcp --task game24 --search bfs", "mcp", "mcp"),
        ("solve --task game24 --otel", "otel", "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"),
    ],
)
def test_a_command_without_its_library_ends_with_the_one_line(
    tmp_path: Path, words: str, extra: str, named: str
) -> None:
    """Wrong usage by its exit code; the line names the library and the command, and no traceback is shown."""
    done = light(MAIN, *words.split(), folder=tmp_path)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.stderr.endswith(f"{line}\n")
    assert f"needs {named}" in line
    assert line.endswith(f"[{extra}]'")
    assert " install " in line
    assert not (tmp_path / "a.png").exists()


def test_the_core_works_without_any_extra(tmp_path: Path) -> None:
    """Help, tasks, models and plug-ins are listed; a scripted search is solved, journalled, replayed and drawn."""
    (tmp_path / "rules.yaml").write_text(RULES)
    how = ["--task", "game24", "--search", "bfs", "--input", "4 5 6 10"]
    for words in (["--help"], ["tasks", "list"], ["models", "list"]):
        assert light(MAIN, *words, folder=tmp_path).returncode == 0
    plugins = light(MAIN, "plugins", folder=tmp_path)
    assert plugins.returncode == 0
    assert plugins.stdout.count("cannot be used: ") == 2  # the backends transformers and seed
    run = ["--backend", "scripted", "--model", "rules.yaml", "--journal", "run.jsonl", "--json"]
    first = light(MAIN, "solve", *how, *run, folder=tmp_path)
    assert first.returncode in (0, 1), first.stderr  # whether these rules solve it does not matter
    again = light(MAIN, "solve", *how, "--backend", "replay", "--model", "run.jsonl", "--json", folder=tmp_path)
    tree = [json.loads(done.stdout)["counts"] for done in (first, again)]
    assert tree[0] == tree[1]
    drawn = light(MAIN, "export", "run.jsonl", folder=tmp_path)
    assert drawn.stdout.startswith("<svg"), drawn.stderr
    assert light(MAIN, "view", "run.jsonl", folder=tmp_path).returncode == 0


def test_every_search_evaluator_checker_and_light_backend_loads_without_any_extra() -> None:
    """Only the local backends need a library to be imported."""
    code = """
from treeagent import registry
for kind in registry.KINDS:
    for name in registry.names(kind):
        if name not in ("transformers", "seed"):
            registry.load(kind, name)
"""
    done = light(code)
    assert done.returncode == 0, done.stderr


def test_the_metadata_lists_the_libraries_of_each_extra() -> None:
    """The installed package and this file agree, so a message never names an extra that brings nothing."""
    listed = extras._extras("treeagent")
    for extra, libraries in LIBRARIES.items():
        assert {library for library in libraries if listed[library] == extra} == set(libraries)


def test_the_command_works_where_the_package_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout is named by its folder, here by a dot; anything else by the distribution's name."""
    site = tmp_path / "site"
    info = site / "loud-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    assert extras.install_command("all", "loud").endswith(" install 'loud[all]'")
    record = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(record))
    assert extras.install_command("all", "loud").endswith(f" install -e '{tmp_path}[all]'")
    monkeypatch.chdir(tmp_path)
    assert extras.install_command("all", "loud").endswith(" install -e '.[all]'")
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///no/such/place", "dir_info": {}}))
    assert extras.install_command("all", "loud").endswith(" install 'loud[all]'")


def test_an_extra_of_a_plug_in_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry looks into the metadata of the package that registers the plug-in."""
    info = tmp_path / "loud-1.0.dist-info"
    info.mkdir()
    requirement = "Provides-Extra: sound\nRequires-Dist: no-such-library>=1; extra == 'sound'\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n{requirement}")
    (info / "entry_points.txt").write_text("[treeagent.strategies]\nshout = loud_search:Shout\n")
    (tmp_path / "loud_search.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"the search 'shout' needs no_such_library.*'loud\[sound\]'$"):
        registry.load("search", "shout")


def test_the_manual_lists_every_extra() -> None:
    """The table of what to install names the extras of the package, and no others."""
    root = Path(__file__).parents[1]
    extras_of_package = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (root / "docs" / "index.md").read_text().partition("## What to install")[2]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(extras_of_package)


@pytest.mark.parametrize("module", [None, types.ModuleType("opentelemetry")])
def test_a_part_of_a_namespace_can_be_missing(module: types.ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's namespace is there, or not, without the part that is wanted."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    if module is not None:
        monkeypatch.setattr(module, "__path__", [], raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", module)
    with pytest.raises(MissingExtraError, match=r"^it needs opentelemetry-sdk, which is not installed.*\[otel\]'$"):
        extras.require("it", "opentelemetry-sdk")
