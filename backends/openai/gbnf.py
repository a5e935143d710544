"""Grammars in the notation of llama.cpp (GBNF) of choices and of regular expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from treeagent import pattern_syntax

_CLASSES = {
    "CATEGORY_DIGIT": "0-9",
    "CATEGORY_WORD": "a-zA-Z0-9_",
    "CATEGORY_SPACE": r" \t\n\r\x0B\x0C",
}
"""Of ASCII alone: a grammar has no classes of Unicode."""


def choices_grammar(choices: Sequence[str]) -> str:
    """The grammar of a list of texts."""
    return "root ::= " + " | ".join(_literal(choice) for choice in choices)


def regex_grammar(source: str) -> str:
    """The grammar of a regular expression in Python's syntax, whose classes are those of ASCII.

    Raises ValueError, saying what is wrong, for what is no regular expression and for what a grammar cannot say, such
    as look-around and back-references.
    """
    try:
        flags = re.compile(source).flags
        tree = pattern_syntax.parse(source)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if flags & (re.IGNORECASE | re.MULTILINE):
        raise ValueError("a grammar of llama.cpp has no flags such as (?i) and (?m)")
    return "root ::= " + (_sequence(tree, dotall=bool(flags & re.DOTALL)) or '""')


def _sequence(items: Any, *, dotall: bool) -> str:
    return " ".join(_item(str(op), value, dotall=dotall) for op, value in items)


def _item(op: str, value: Any, *, dotall: bool) -> str:
    if op == "LITERAL":
        return _literal(chr(value))
    if op == "NOT_LITERAL":
        return f"[^{_escaped(value)}]"
    if op == "ANY":
        return r"[^\U00000000]" if dotall else r"[^\n]"
    if op == "IN":
        return _set(value)
    if op == "BRANCH":
        return "(" + " | ".join(_sequence(branch, dotall=dotall) or '""' for branch in value[1]) + ")"
    if op == "SUBPATTERN" and not value[1] and not value[2]:
        return f"({_sequence(value[3], dotall=dotall) or chr(34) * 2})"
    if op in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, body = value
        end = str(int(most)) if str(most) != "MAXREPEAT" else ""
        return f"({_sequence(body, dotall=dotall)}){{{int(least)},{end}}}"
    raise ValueError(f"a grammar of llama.cpp cannot say {op.lower().replace('_', ' ')}; write the pattern without it")


def _set(parts: Any) -> str:
    negated, text = "", ""
    for op, value in parts:
        if str(op) == "NEGATE":
            negated = "^"
        elif str(op) == "LITERAL":
            text += _escaped(value)
        elif str(op) == "RANGE":
            text += f"{_escaped(value[0])}-{_escaped(value[1])}"
        elif str(value) in _CLASSES:
            text += _CLASSES[str(value)]
        elif len(parts) == 1:  # \D, \S or \W alone
            return f"[^{_CLASSES[str(value).replace('_NOT', '')]}]"
        else:
            raise ValueError(r"a grammar of llama.cpp cannot say \D, \S or \W within brackets")
    return f"[{negated}{text}]"


def _escaped(code: int) -> str:
    return chr(code) if chr(code).isalnum() and code < 128 else f"\\U{code:08X}"


def _literal(text: str) -> str:
    return '"' + "".join(c if c.isprintable() and c not in '\\"' else f"\\U{ord(c):08X}" for c in text) + '"'
