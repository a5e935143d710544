"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import treeagent
from treeagent import Backend, Checker, ConfigError, Evaluator, Search, errors, registry

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PLUGINS = ("strategies", "tasks", "backends", "prompts")
GROUPS = {"strategies": Search, "evaluators": Evaluator, "backends": Backend, "checkers": Checker}
SOURCES = [
    path
    for folder in ("treeagent", *PLUGINS, "tests", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {
                module,
                *(f"{module.rstrip('.')}.{alias.name}" if node.module else module + alias.name for alias in node.names),
            }
    return found


CORE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] == "treeagent"]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_imports_no_plugin(path: Path) -> None:
    """Contracts and run time know no strategy, task, backend or prompt, at the top of a file or within."""
    plugin = re.compile(rf"^(treeagent\.|\.+)({'|'.join(PLUGINS)})(\.|$)")
    siblings = re.compile(rf"^\.({'|'.join(child.stem for child in path.parent.iterdir())})(\.|$)")  # cli/tasks.py
    assert not [module for module in imports(path) if plugin.match(module) and not siblings.match(module)]


def test_strategies_import_no_backend_and_backends_no_strategy() -> None:
    """The plug-in folders do not know each other, but for the bundled model's training, which is about one task."""
    for folder in PLUGINS:
        for path in (ROOT / folder).rglob("*.py"):
            if "training" in path.parts:
                continue
            others = re.compile(rf"^treeagent\.({'|'.join(other for other in PLUGINS if other != folder)})(\.|$)")
            assert not [module for module in imports(path) if others.match(module)], path


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_treeagent_loads_nothing_heavy() -> None:
    """``import treeagent`` brings the standard library's light modules alone; no plug-in, no logging set-up."""
    heavy = (
        "torch",
        "transformers",
        "pydantic",
        "yaml",
        "jinja2",
        "numpy",
        "rich",
        "typer",
        "networkx",
        "asyncio",
        "logging",
        "httpx",
        "tenacity",
    )
    code = f"import sys, treeagent; print([name for name in {heavy!r} if name in sys.modules])"
    assert fresh(code) == "[]"
    assert (
        fresh("import sys, treeagent; print(sorted(n for n in sys.modules if n.startswith('treeagent')))")
        == "['treeagent']"
    )


def test_importing_an_agent_loads_no_model_library() -> None:
    """An app that brings its own backend pays for no torch."""
    code = "import sys\nfrom treeagent import Agent\nimport treeagent.strategies.mcts, treeagent.tasks.game24\n"
    assert (
        fresh(code + "print([n for n in ('torch', 'transformers', 'matplotlib', 'rich') if n in sys.modules])") == "[]"
    )


def test_every_public_name_is_there() -> None:
    """``__all__`` is what can be imported: every name resolves, and the stub imports it from the same place."""
    for name in treeagent.__all__:
        assert getattr(treeagent, name) is not None
    stub = ast.parse((ROOT / "treeagent/__init__.pyi").read_text()).body
    imported = {
        alias.name: importlib.import_module(f"treeagent.{node.module}")
        for node in stub
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*imported, "__version__"} == set(treeagent.__all__)
    assert all(getattr(treeagent, name) is getattr(module, name) for name, module in imported.items())
    [exported] = [node.value for node in stub if isinstance(node, ast.Assign)]
    assert sorted(ast.literal_eval(exported)) == sorted(treeagent.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        treeagent.nothing  # noqa: B018


def test_every_entry_point_loads() -> None:
    """What is registered exists, is of its kind, and a backend's name is the one it is registered under."""
    for group, base in GROUPS.items():
        names = metadata.entry_points(group=f"treeagent.{group}")
        assert names
        for entry in names:
            loaded = entry.load()
            assert issubclass(loaded, base), entry
            if base is Backend:
                assert loaded.name == entry.name
    assert "game24" in registry.task_files()


def test_every_plugin_of_the_tree_is_registered() -> None:
    """A search, evaluator, backend or checker in the folders has a name of its own."""
    registered = {entry.load() for group in GROUPS for entry in metadata.entry_points(group=f"treeagent.{group}")}
    for folder in ("strategies", "tasks", "backends"):
        for info in pkgutil.iter_modules([str(ROOT / folder)]):
            module = importlib.import_module(f"treeagent.{folder}.{info.name}")
            for thing in vars(module).values():
                if (
                    inspect.isclass(thing)
                    and issubclass(thing, tuple(GROUPS.values()))
                    and thing.__module__ == module.__name__
                    and not inspect.isabstract(thing)
                ):
                    assert thing in registered, thing


def test_unknown_names_suggest_the_nearest() -> None:
    """For every kind of plug-in."""
    for kind, wrong, right in [
        ("search", "bsf", "bfs"),
        ("evaluator", "valeu", "value"),
        ("backend", "replya", "replay"),
    ]:
        with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
            registry.load(kind, wrong)


def test_the_drawn_hierarchy_of_errors_is_the_real_one() -> None:
    """The picture in ``errors.py`` shows every error class below its base."""
    drawn: dict[str, str] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}((?:│   |    )*)(?:[├└]── )?([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4 + ("── " in line)
            stack[depth:] = [match[2]]
            drawn[match[2]] = stack[depth - 1] if depth else "Exception"
    real = {
        name: thing.__bases__[0].__name__
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    }
    assert drawn == real
    assert set(real) <= set(treeagent.__all__)


def test_every_package_folder_is_in_the_package_map() -> None:
    """A folder with Python files that the map forgets would be missing from the wheel."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("__init__.py")}
    folders = {folder for folder in folders if folder.split("/")[0] in ("treeagent", *PLUGINS)}
    packages = {
        ("treeagent/" + folder if folder.split("/")[0] in PLUGINS else folder).replace("/", ".") for folder in folders
    }
    assert packages == set(setuptools["packages"])
    for folder in PLUGINS:
        assert setuptools["package-dir"][f"treeagent.{folder}"] == folder
        assert not (ROOT / "treeagent" / folder).exists()
        assert not (ROOT / "treeagent" / f"{folder}.py").exists()
    with_python = {path.parent for path in SOURCES if path.relative_to(ROOT).parts[0] in ("treeagent", *PLUGINS)}
    assert all((folder / "__init__.py").exists() for folder in with_python)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_file_is_too_long(path: Path) -> None:
    """One idea a file: at most 300 lines, tests too, and a search fits one screen of code."""
    assert len(path.read_text().splitlines()) <= 300
    judging = ("evaluators.py", "labels.py", "mentions.py", "numerals.py", "reply_text.py", "tournament.py")
    if path.parent.name == "strategies" and path.name not in judging:
        statistics = path.name in ("mcts.py", "mcts_node.py", "rap.py", "ab_mcts.py")  # of nodes, a second idea
        assert len(path.read_text().splitlines()) <= (150 if statistics else 75)


def test_every_test_says_what_it_shows() -> None:
    """A test without a sentence is not finished."""
    for path in SOURCES:
        if path.name.startswith("test_"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    assert ast.get_docstring(node), f"{path.name}:{node.lineno} {node.name}"


def test_tests_do_not_sleep() -> None:
    """No test waits for a clock."""
    for path in SOURCES:
        if "tests" in path.parts and path != Path(__file__):
            waits = re.findall(r"sleep\(\s*(?!0\s*\))[^)]*\)", path.read_text())
            assert not waits, f"{path.name}: {waits}"
