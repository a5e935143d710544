"""The floor plan: imports go down, in no circle; one name stands for one class; no attribute is set from outside."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("treeagent", "strategies", "tasks", "backends", "prompts")
SOURCES = [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def module(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "treeagent" else ("treeagent", *parts))


MODULES = {module(path): path for path in SOURCES}


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file, parsed once."""
    return ast.parse((ROOT / path).read_text())


@cache
def imported(path: Path) -> set[Path]:
    """Files of the project that a file imports, at its top, later, or for types alone."""
    package = module(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                names.add(f"{start}.{alias.name}" if f"{start}.{alias.name}" in MODULES else start)
    return {MODULES[name] for name in names if name in MODULES} - {path}


def graph(depth: int | None = None, inside: str = "") -> networkx.DiGraph:
    """Who imports whom, among files, or among the folders below ``inside`` that are ``depth`` steps from the root."""
    drawn = networkx.DiGraph()
    for path in SOURCES:
        for other in imported(path):
            if path.as_posix().startswith(inside) and other.as_posix().startswith(inside):
                ends = [str(end) if depth is None else "/".join(end.parts[:depth]) for end in (path, other)]
                if ends[0] != ends[1]:
                    drawn.add_edge(*ends)
    return drawn


def circles(drawn: networkx.DiGraph) -> list[set[str]]:
    """Groups of nodes that reach each other."""
    return [group for group in networkx.strongly_connected_components(drawn) if len(group) > 1]


def test_no_files_import_each_other() -> None:
    """Not even over a detour, nor for type checkers alone; the lazy face of the package is the one exception."""
    drawn = graph()
    drawn.remove_nodes_from([node for node in ("treeagent/__init__.py",) if node in drawn])
    assert circles(drawn) == []


@pytest.mark.parametrize(
    "inside", ["", "treeagent/", "backends/", "backends/seed/", "backends/seed/drafters/", "backends/bench/"]
)
def test_no_folders_import_each_other(inside: str) -> None:
    """Rooms stand on floors: every arrow between the folders, and the loose files beside them, goes down."""
    drawn = graph(len(Path(inside).parts) + 1, inside)
    drawn.remove_nodes_from(
        [node for node in ("treeagent", "treeagent/__init__.py") if inside == "treeagent/" and node in drawn]
    )
    assert circles(drawn) == []


def test_backends_holds_folders_and_two_single_files() -> None:
    """A backend of one file, or a folder."""
    assert {path.name for path in (ROOT / "backends").glob("*.py")} == {"__init__.py", "scripted.py", "replay.py"}


def test_no_class_name_stands_for_two_classes() -> None:
    """A reader who meets a name knows which class it is."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


OTHER_LIBRARIES = {
    "mlp",
    "self_attn",
    "lm_head",
    "encode_special_tokens",
    "generation_config",
    "layers",
    "num_hidden_layers",
    "layer_idx",
    "layer_types",
    "exits",
}
"""Attributes of transformers' networks and configurations, which are changed by assignment."""


def attributes_of_classes(tree: ast.Module) -> set[str]:
    """Names of the fields and attributes that the classes of a file have."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            annotated = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            names |= {target.id for target in annotated if isinstance(target, ast.Name)}
            for leaf in ast.walk(node):
                if isinstance(leaf, ast.Attribute) and isinstance(leaf.ctx, ast.Store):
                    names |= {leaf.attr} if ast.unparse(leaf.value) == "self" else set()
    return names


def foreign_writes(path: Path) -> list[str]:
    """Assignments to an attribute of an object whose class stands in another file and that the writer has not made."""
    tree = parsed(path)
    own = attributes_of_classes(tree) | OTHER_LIBRARIES
    made = {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            made |= {
                ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            }
    return [
        f"{path}:{leaf.lineno} {ast.unparse(leaf)}"
        for leaf in ast.walk(tree)
        if isinstance(leaf, ast.Attribute) and isinstance(leaf.ctx, ast.Store)
        if leaf.attr not in own and not leaf.attr.startswith("__") and ast.unparse(leaf.value) not in made
    ]


def test_nobody_writes_into_another_objects_attributes() -> None:
    """State is changed by its class, by the file that the class stands in, or by the object that has made it."""
    assert [line for path in SOURCES for line in foreign_writes(path)] == []


PUBLIC_FACES = {"Agent", "SeedBackend", "TransformersBackend", "OpenAIBackend"}


def test_no_function_takes_more_than_eight_parameters() -> None:
    """Commands, whose parameters are their options, and the public faces aside."""
    long = []
    for path in SOURCES:
        if "cli" in path.parts or path.name == "command.py":
            continue
        tree = parsed(path)
        faces = {id(child) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name in PUBLIC_FACES
                 for child in node.body}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and id(node) not in faces:
                arguments = node.args
                count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
                count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
                if count > 8:
                    long.append(f"{path}:{node.lineno} {node.name} {count}")
    assert long == []
