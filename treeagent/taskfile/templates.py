"""Jinja in a sandbox: templates and expressions of task files, strict about undefined names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes

from ..errors import did_you_mean
from ..text import clean, lines
from .sandbox import BoundedSandbox
from .template_limits import LimitError, bounded

_TOO_LARGE = (RecursionError, MemoryError, SyntaxError, OverflowError, ValueError)
"""What Jinja's and Python's compilers raise for a template that is nested too deeply or has an absurd number."""
FAULTS = (
    TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError, MemoryError,
    SyntaxError, NameError, AssertionError,
)  # fmt: skip
"""What the evaluation of a template may raise; a limit that is exceeded among it."""

_ENVIRONMENT = BoundedSandbox()
_ROWS = BoundedSandbox(rows=True)


@lru_cache(maxsize=512)
def _template(source: str, *, row: bool = False) -> Template:
    return (_ROWS if row else _ENVIRONMENT).from_string(source)


def render(source: str, fields: dict[str, Any], *, row: bool = False) -> str:
    """The template's text. Raises one of FAULTS; over a data ``row`` also where it would write a null."""
    text: str = bounded(_template(source, row=row).render, fields)
    return clean(text)


@lru_cache(maxsize=512)
def _expression(source: str) -> Any:
    return _ENVIRONMENT.compile_expression(source, undefined_to_none=False)


def evaluate(expression: str, fields: dict[str, Any]) -> bool:
    """Whether the expression holds. Raises one of FAULTS."""
    return bool(bounded(_expression(expression), fields))


def value(expression: str, fields: dict[str, Any]) -> Any:
    """The value of an expression. Raises one of FAULTS, for an undefined value as well."""
    result = bounded(_expression(expression), fields)
    if isinstance(result, Undefined):
        str(result)  # raises UndefinedError, saying what is undefined
    return result


@lru_cache(maxsize=512)
def fields(source: str) -> frozenset[str]:
    """The names that a template looks up. Raises one of FAULTS for a template that is not valid."""
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


@lru_cache(maxsize=512)
def paths(source: str) -> frozenset[tuple[str | int, ...]]:
    """What a template reads of its fields, each as far as it is written: ``row.a["b"][0]`` is ``("row", "a", "b", 0)``.

    Of ``options[answer]`` it is ``answer`` alone: which option is read, nobody can tell from the others.
    """
    paths: set[tuple[str | int, ...]] = set()

    def visit(node: nodes.Node) -> None:
        path = _path(node)
        if path is not None:
            paths.add(path)
            return
        if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice) and _path(node.node) is not None:
            visit(node.arg)
            return
        for child in node.iter_child_nodes():
            visit(child)

    visit(_ENVIRONMENT.parse(source))
    return frozenset(paths)


def _path(node: nodes.Node) -> tuple[str | int, ...] | None:
    if isinstance(node, nodes.Name):
        return (node.name,) if node.ctx == "load" else None
    if isinstance(node, nodes.Getattr):
        before, last = _path(node.node), node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        before, last = _path(node.node), node.arg.value
    else:
        return None
    return None if before is None else (*before, last)


def texts_as_numbers(expression: str, names: Iterable[str]) -> list[str]:
    """Those of the names, which stand for texts, that are added to each other or compared with a number."""
    tree, texts = _ENVIRONMENT.parse(f"{{{{ {expression} }}}}"), set(names)
    used: dict[str, None] = {}
    pairs: list[list[nodes.Expr]] = [[node.left, node.right] for node in tree.find_all(nodes.Add)]
    sums = len(pairs)
    pairs += [[node.expr, *(part.expr for part in node.ops)] for node in tree.find_all(nodes.Compare)]
    for place, parts in enumerate(pairs):
        named = [part.name for part in parts if isinstance(part, nodes.Name) and part.name in texts]
        numbers = [part for part in parts if isinstance(part, nodes.Const) and isinstance(part.value, (int, float))]
        if named and (numbers or (place < sums and len(named) == 2)):
            used |= dict.fromkeys(named)
    return list(used)


def faults(source: str, names: Iterable[str], *, expression: bool = False) -> list[tuple[int, str]]:
    """Faults that show without rendering: ``(line within the source, message)`` each."""
    text = f"{{{{ {source} }}}}" if expression else source
    try:
        if expression:
            _expression(source)
        else:
            _template(source)
        undeclared = fields(text)
    except TemplateSyntaxError as error:
        hint = "; an expression has no {{ }} around it" if expression and "{{" in source else ""
        return [(error.lineno, f"not a valid {'expression' if expression else 'template'}: {error.message}{hint}")]
    except LimitError as error:
        return [(1, str(error))]
    except _TOO_LARGE as error:
        return [(1, f"{'the template is' if not expression else 'it is'} nested too deeply, or not valid: {error}")]
    valid = sorted(names)
    return [
        (
            next((number for number, line in enumerate(lines(source), 1) if name in line), 1),
            f"unknown variable {name!r}.{did_you_mean(name, valid)}",
        )
        for name in sorted(undeclared - set(valid))
    ]


def describe(fault: Exception) -> str:
    """One line for a user."""
    if isinstance(fault, UndefinedError):
        return f"an undefined value is used: {fault.message}"
    if isinstance(fault, LimitError):
        return str(fault)
    if isinstance(fault, RecursionError):
        return "it calls itself without end"
    return f"{type(fault).__name__}: {fault}"
