"""What a template may use: a budget of work for one rendering, and the size of a value."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

CHARS = 1_000_000
"""Characters of a text, and of all texts in a container."""
ITEMS = 100_000
"""Items of a container, those of its items included."""
BITS = 14_000
"""Bits of a whole number: Python writes no number of more than 4,300 digits."""
WORK = 600_000
"""Units of one rendering: a node of a loop's body each time, 16 characters of a text, an item of a container."""
DEPTH = 50
"""Calls of macros within calls."""
_WIDTH = 10_000
_SHORT = 20_000


class LimitError(SecurityError):
    """A template would need more time or memory than it may."""


class Work:
    """What is left of one rendering's budget."""

    __slots__ = ("depth", "left")

    def __init__(self) -> None:
        self.left, self.depth = WORK, 0

    def take(self, units: int) -> None:
        """Raises LimitError when none is left."""
        self.left -= units
        if self.left < 0:
            raise LimitError("the template takes too long: it loops too often, or builds too many or too long texts")

    def enter(self) -> None:
        """A call begins. Raises LimitError."""
        self.depth += 1
        if self.depth > DEPTH:
            raise LimitError(f"macros call each other more than {DEPTH} times deep")

    def leave(self) -> None:
        """A call has ended."""
        self.depth -= 1


_WORK: ContextVar[Work | None] = ContextVar("template_work", default=None)


def bounded(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, with a new budget. Raises LimitError as well."""
    token = _WORK.set(Work())
    try:
        return function(*arguments)
    finally:
        _WORK.reset(token)


def work() -> Work:
    """The budget of the rendering that runs; a new one where none does, as when a template is compiled."""
    return _WORK.get() or Work()


def weigh(value: Any) -> tuple[int, int]:
    """Items and characters of a value, those of its items included. Raises LimitError where they are too many."""
    if value is None or (type(value) is str and len(value) <= CHARS):
        return 0, len(value or "")
    items = chars = 0
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, (str, bytes, bytearray)):
            chars += len(part)
        elif isinstance(part, int):
            if part.bit_length() > BITS:
                raise LimitError("a whole number has more than 4,000 digits")
        elif isinstance(part, Mapping):
            items += 2 * len(part)
            if items <= ITEMS:
                pending += [*part, *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset)):
            items += len(part)
            if items <= ITEMS:
                pending += part
        if items > ITEMS or chars > CHARS:
            raise LimitError(f"a value has more than {CHARS:,} characters or {ITEMS:,} items")
    return items, chars


def charged(value: Any) -> Any:
    """The value, once it is weighed and paid; an iterator is paid as it is used."""
    items, chars = weigh(value)
    work().take(1 + items + chars // 16)
    return counted(value) if isinstance(value, Iterator) else value


def counted(values: Iterable[Any], cost: int = 0) -> Iterator[Any]:
    """The values, each paid when it is taken."""
    if isinstance(values, str) and len(values) > ITEMS:
        raise LimitError(f"a loop over a text of more than {ITEMS:,} characters")
    return _paid(iter(values), cost)


def _paid(values: Iterator[Any], cost: int) -> Iterator[Any]:
    for value in values:
        items, chars = weigh(value)
        work().take(1 + cost + items + chars // 16)
        yield value


def concatenated(texts: Iterable[str]) -> str:
    """The texts as one. Raises LimitError where it is too long."""
    parts: list[str] = []
    total, budget = 0, work()
    for text in texts:
        total += len(text)
        if total > CHARS:
            raise LimitError(f"the text has more than {CHARS:,} characters")
        budget.take(1 + len(text) // 16)
        parts.append(text)
    return "".join(parts)


def text_of(value: Any) -> str:
    """A value as it is printed. Raises LimitError."""
    weigh(value)
    return str(value)


# Operators

_LONG_NUMBER = re.compile(r"[0-9]{5}")
_FIELD = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|[0-9]+)?(?:\.(\*|[0-9]+))?")


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Raises LimitError for an operation whose result would be too large."""
    if operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(value, (str, bytes, list, tuple)):
                items, chars = weigh(value)
                _check_size(items * max(times, 0), chars * max(times, 0))
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > BITS:
            raise LimitError("a whole number has more than 4,000 digits")
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 0) > BITS:
            raise LimitError("a whole number has more than 4,000 digits")
    elif operator == "%" and isinstance(left, (str, bytes)):
        check_format(left if isinstance(left, str) else left.decode("latin-1"))


def _check_size(items: int, chars: int) -> None:
    if items > ITEMS or chars > CHARS:
        raise LimitError(f"a value would have more than {CHARS:,} characters or {ITEMS:,} items")


def check_format(text: str) -> None:
    """Raises LimitError for a format of ``%`` with a width or precision that is too large, or not written in it."""
    for match in _FIELD.finditer(text):
        if any(part and (part == "*" or len(part) > 4) for part in match.groups()):
            raise LimitError("the width of a format is * or has more than 4 digits")


def _check_braces(text: str) -> None:
    for _, _, spec, _ in string.Formatter().parse(text):
        if spec and ("{" in spec or _LONG_NUMBER.search(spec)):
            raise LimitError("the width of a format is a field or has more than 4 digits")


# Methods and filters


def check_method(owner: Any, name: str, arguments: Sequence[Any]) -> None:
    """Raises LimitError for a method of a text or number whose result would be too large."""
    if isinstance(owner, (str, bytes)):
        if isinstance(owner, str) and name in ("format", "format_map"):
            _check_braces(owner)
        elif name in ("center", "ljust", "rjust", "zfill"):
            _check_size(0, max((part for part in arguments if isinstance(part, int)), default=0))
        elif name == "expandtabs":
            tabs = owner.count("\t") if isinstance(owner, str) else owner.count(b"\t")
            _check_size(0, tabs * _largest(arguments))
        elif name == "replace" and len(arguments) > 1 and type(arguments[0]) is type(owner):
            _check_size(0, len(owner) + _count(owner, arguments[0]) * weigh(arguments[1])[1])
        elif name == "translate" and arguments and isinstance(arguments[0], Mapping):
            _check_size(0, len(owner) * max((weigh(part)[1] for part in arguments[0].values()), default=1))
        elif name == "join" and arguments and hasattr(arguments[0], "__len__"):
            _check_size(0, weigh(arguments[0])[1] + len(owner) * len(arguments[0]))
    elif isinstance(owner, int) and name == "to_bytes" and _largest(arguments) > _WIDTH:
        raise LimitError(f"a number of more than {_WIDTH:,} bytes")


def _count(owner: Any, part: Any) -> int:
    return int(owner.count(part))


def _largest(arguments: Iterable[Any]) -> int:
    return max((abs(part) for part in arguments if isinstance(part, int)), default=0)


def check_filter(name: str, value: Any, arguments: Sequence[Any]) -> None:
    """Raises LimitError for a filter whose result would be too large, or that is slow on long texts."""
    limit = {"center": _WIDTH, "indent": _WIDTH, "batch": _WIDTH, "slice": _WIDTH, "round": 300, "tojson": 20}.get(name)
    if limit is not None and _largest(arguments) > limit:
        raise LimitError(f"a number above {limit:,} for the filter {name!r}")
    if name in ("urlize", "striptags", "wordwrap", "pprint", "xmlattr"):
        if weigh([value, *arguments])[1] > _SHORT:
            raise LimitError(f"a text of more than {_SHORT:,} characters for the filter {name!r}")
        if name == "wordwrap":
            _check_size(
                0, len(str(value)) * (1 + max((len(part) for part in arguments if isinstance(part, str)), default=0))
            )
    elif name == "replace" and len(arguments) > 1:
        _check_size(0, len(str(value)) + str(value).count(str(arguments[0])) * len(str(arguments[1])))
    elif name == "join" and hasattr(value, "__len__"):
        _check_size(0, weigh(value)[1] + len(value) * len(str(arguments[0] if arguments else "")))
    elif name == "indent":
        widths = [
            len(part) if isinstance(part, str) else int(part) for part in arguments if isinstance(part, (str, int))
        ]
        _check_size(0, (str(value).count("\n") + 1) * max(widths, default=4))
    elif name == "format":
        check_format(str(value))
    elif name == "sum" and any(isinstance(part, (str, bytes, list, tuple)) for part in arguments):
        _check_size(0, len(value) * 1000 if hasattr(value, "__len__") else CHARS + 1)
    elif isinstance(value, str) and name in ("list", "batch", "slice", "sort", "unique", "groupby", "map", "select"):
        _check_size(len(value), 0)
