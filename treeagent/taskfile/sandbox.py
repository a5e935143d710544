"""Jinja in a sandbox that bounds time and memory, whatever a template and its fields say.

Everything that can take long is paid from the budget of a rendering (:mod:`.template_limits`): the rounds of loops,
calls, and every value that an operator, a literal, a filter, a method or a macro builds. What would be too large is
refused before it is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from . import template_limits as limits
from .nulls import is_null, not_null

_MOST_TOKENS = 30_000
"""Of a template; its plain text is one token."""


class _Names(Namespace):
    """Without its content in its text: that could be of any size."""

    def __repr__(self) -> str:
        return "<namespace>"


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The environment of task files: strict about undefined names, without escaping, and bounded."""

    concat = staticmethod(limits.concatenated)
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, rows: bool = False) -> None:
        """``rows``: templates over data rows, in which a null is not written."""
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,  # prompts are text, not HTML
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimiser would evaluate constants before a budget is there
            finalize=_printed_of_row if rows else _printed,
        )
        del self.globals["lipsum"]  # random text has no place in a prompt
        self.globals["namespace"] = _Names
        self.filters = {name: _bounded_filter(name, function) for name, function in self.filters.items()}
        tests: dict[str, Any] = {**self.tests, "none": is_null}
        self.tests = {name: _bounded_test(function) for name, function in tests.items()}

        self.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _plain}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A mapping's keys go before its methods: a data row may have a column ``items``."""
        return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    # Called by compiled templates

    @staticmethod
    def charge(units: int) -> None:
        """Pay for one round of a loop or one call of a macro."""
        limits.work().take(units)

    @staticmethod
    def charged(value: Any) -> Any:
        """Pay for a value."""
        return limits.charged(value)

    @staticmethod
    def counted(values: Iterable[Any], cost: int) -> Any:
        """Pay for each value that a loop takes."""
        return values if isinstance(values, Undefined) else limits.counted(values, cost)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of an operator. Raises LimitError where it would be too large."""
        limits.check_operator(operator, left, right)
        return limits.charged(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """The result of a function, method or macro. Raises LimitError where it would be too large."""
        if __obj is __self.charged or __obj is __self.charge or __obj is __self.counted:
            return __obj(*args)
        method = getattr(__obj, "__wrapped__", __obj)  # of str.format, which the sandbox replaces
        owner = getattr(method, "__self__", None)
        values = [value for name, value in kwargs.items() if not name.startswith("_")]
        if isinstance(owner, (str, bytes)) and getattr(method, "__name__", "") == "join":
            args = tuple(list(limits.counted(part)) for part in args)
        for value in (owner, *args, *values):
            items, chars = limits.weigh(value)
            limits.work().take(1 + items + chars // 16)
        limits.check_method(owner, getattr(method, "__name__", ""), [*args, *values])
        budget = limits.work()
        budget.enter()
        try:
            return limits.charged(super().call(__context, __obj, *args, **kwargs))
        finally:
            budget.leave()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Raises LimitError for a template that is too large."""
        for count, _ in enumerate(self.lex(source, name, filename)):
            if count > _MOST_TOKENS:
                raise limits.LimitError("the template is too large")
        return super()._parse(source, name, filename)

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        """Python code in which loops, macros and the values that are built are paid."""
        _Meter().visit(source)
        source.set_environment(self)
        return super()._generate(source, name, filename, defer_init)


def _printed(value: Any) -> Any:
    return value if isinstance(value, Undefined) else limits.text_of(value)


def _printed_of_row(value: Any) -> Any:
    return _printed(not_null(value))


def _plain(value: Any) -> None:
    """What ``tojson`` writes for a null."""
    if not is_null(value):
        raise TypeError(f"{type(value).__name__} is no value of JSON")


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, its arguments and its result paid; it keeps the mark of what Jinja passes to it first."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        args = tuple(_listed(part) if name in ("join", "sum") else part for part in args)
        for part in (*args[first:], *kwargs.values()):
            items, chars = limits.weigh(part)
            limits.work().take(1 + items + chars // 16)
        limits.check_filter(name, args[first] if len(args) > first else None, [*args[first + 1 :], *kwargs.values()])
        return limits.charged(function(*args, **kwargs))

    return wrapper


def _bounded_test(function: Callable[..., Any]) -> Callable[..., Any]:
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for part in (*args[first:], *kwargs.values()):
            items, chars = limits.weigh(part)
            limits.work().take(1 + items + chars // 16)
        return function(*args, **kwargs)

    return wrapper


def _listed(value: Any) -> Any:
    """An iterator as a list, paid; anything else as it is."""
    return list(limits.counted(value)) if hasattr(value, "__next__") else value


class _Meter(NodeTransformer):
    """Adds the payments to a template's syntax tree."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  the name is Jinja's
        """Each value that is taken, and each round."""
        rounds = nodes.Const(1 + _size(node.body), lineno=node.lineno)
        test = nodes.Const(0 if node.test is None else _size([node.test]), lineno=node.lineno)
        self.generic_visit(node)
        values = _call("counted", node.iter, test)
        body = [nodes.ExprStmt(_call("charge", rounds), lineno=node.lineno), *node.body]
        return nodes.For(node.target, values, body, node.else_, node.test, node.recursive, lineno=node.lineno)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        """Each call."""
        units = nodes.Const(1 + _size(node.body), lineno=node.lineno)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("charge", units), lineno=node.lineno))
        return node

    visit_CallBlock = visit_Macro  # noqa: N815

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        """Each part before it is joined."""
        self.generic_visit(node)
        parts = [_call("charged", part) for part in node.nodes]
        return _call("charged", nodes.Concat(parts, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:  # noqa: N802
        """Each side."""
        self.generic_visit(node)
        others = [nodes.Operand(part.op, _call("charged", part.expr), lineno=part.lineno) for part in node.ops]
        return nodes.Compare(_call("charged", node.expr), others, lineno=node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        """A slice."""
        self.generic_visit(node)
        return _call("charged", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Expr:  # noqa: N802
        """A literal."""
        self.generic_visit(node)
        return _call("charged", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:  # noqa: N802
        """A literal."""
        self.generic_visit(node)
        return _call("charged", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        """A literal, where it is not what a value is assigned to."""
        self.generic_visit(node)
        return _call("charged", node) if node.ctx == "load" else node


def _call(name: str, *arguments: Any) -> nodes.Call:
    line = arguments[0].lineno
    function = nodes.EnvironmentAttribute(name, lineno=line)
    return nodes.Call(function, list(arguments), [], None, None, lineno=line)


def _size(body: Iterable[nodes.Node]) -> int:
    return sum(1 + sum(1 for _ in node.find_all(nodes.Node)) for node in body)
