"""Patterns of task files and scripts: Python's regular expressions, matched within a limit of time and length.

Where user or task text meets a pattern, :class:`Pattern` matches it, and nothing else does. Python's ``re`` cannot be
stopped and holds the interpreter; the package ``regex`` can be stopped and lets other threads run.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import regex

from . import pattern_syntax

LIMIT = 1.0
"""Seconds of computing time that the patterns of one completion, or of one input, may take together."""
LONGEST = 1_000_000
"""Characters of a text that is matched; a longer one is not."""
_LARGEST = 20_000
"""Characters of the shortest match: a compiler unrolls ``(a{1000}){1000}``, and needs gigabytes for it."""
_SOURCE = 10_000
"""Characters of a pattern."""


class PatternLimitError(Exception):
    """A match needs more time than is left, or the text is too long; the message says so."""


class Deadline:
    """The computing time that the patterns and templates of one text may take together, in seconds.

    Used as a context manager around each of them. Raises PatternLimitError on entry once the time is used up, so that
    a text of many pieces does not take the limit many times.
    """

    def __init__(self, seconds: float = LIMIT) -> None:
        self.left = seconds
        self._began = 0.0

    def __enter__(self) -> Deadline:
        if self.left <= 0:
            raise PatternLimitError(f"reading the text takes longer than {LIMIT:g} s")
        self._began = time.thread_time()
        return self

    def __exit__(self, *raised: object) -> None:
        self.left -= time.thread_time() - self._began


class Pattern:
    """A regular expression in the syntax and with the meaning of Python's ``re``, matched within limits.

    Its methods raise PatternLimitError. Raises ValueError, saying what is wrong, for what ``re`` does not accept and
    for what a compiler would unroll without bound.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.groups: frozenset[str]
        """The names of its groups."""
        self._compiled, self.groups = _compiled(source)

    @property
    def nested_quantifiers(self) -> bool:
        """Whether it may take exponential time: see :func:`pattern_syntax.nested_quantifiers`."""
        return pattern_syntax.nested_quantifiers(pattern_syntax.parse(self.source))

    def fullmatch(self, text: str, deadline: Deadline | None = None) -> dict[str, str | None] | None:
        """The named groups of a match of the whole text; None where it does not match."""
        with self._limited(text, deadline) as limit:
            match = self._compiled.fullmatch(text, timeout=limit.left, concurrent=True)
        return None if match is None else match.groupdict()

    def search(self, text: str, deadline: Deadline | None = None) -> bool:
        """Whether it matches anywhere."""
        with self._limited(text, deadline) as limit:
            return self._compiled.search(text, timeout=limit.left, concurrent=True) is not None

    def last(self, text: str, group: str) -> str | None:
        """The group of the last match, the whole match where the group is missing or empty; None without a match."""
        match = None
        with self._limited(text) as limit:
            for match in self._compiled.finditer(text, timeout=limit.left, concurrent=True):  # noqa: B007
                pass
        return None if match is None else (match.groupdict().get(group) or match[0])

    def first(self, text: str, group: str) -> str | None:
        """As :meth:`last`, of the first match."""
        with self._limited(text) as limit:
            match = self._compiled.search(text, timeout=limit.left, concurrent=True)
        return None if match is None else (match.groupdict().get(group) or match[0])

    def split(self, text: str, deadline: Deadline | None = None) -> list[str]:
        """What stands between its matches."""
        pieces, end = [], 0
        with self._limited(text, deadline) as limit:
            for match in self._compiled.finditer(text, timeout=limit.left, concurrent=True):
                pieces.append(text[end : match.start()])
                end = match.end()
        return [*pieces, text[end:]]

    @contextmanager
    def _limited(self, text: str, deadline: Deadline | None = None) -> Iterator[Deadline]:
        source = repr(self.source if len(self.source) <= 60 else f"{self.source[:57]}...")
        if len(text) > LONGEST:
            raise PatternLimitError(
                f"a text of {len(text):,} characters is not matched with {source}; at most {LONGEST:,} are"
            )
        try:
            with deadline or Deadline() as limit:
                yield limit
        except (TimeoutError, MemoryError) as error:
            raise PatternLimitError(f"the pattern {source} takes longer than {LIMIT:g} s to match") from error


@lru_cache(maxsize=256)
def _compiled(source: str) -> tuple[regex.Pattern[str], frozenset[str]]:
    """The program and the names of the groups. Raises ValueError."""
    if len(source) > _SOURCE:
        raise ValueError(f"a regular expression has at most {_SOURCE:,} characters, not {len(source):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of set operations to come; both packages read them as characters
            standard = re.compile(source)
            if pattern_syntax.size(pattern_syntax.parse(source)) > _LARGEST:
                raise ValueError(f"not a usable regular expression: it repeats more than {_LARGEST:,} characters")
            program = regex.compile(_translated(source, standard), regex.VERSION0)
    except (re.error, regex.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    except RecursionError as error:
        raise ValueError("not a usable regular expression: its groups are nested too deeply") from error
    return program, frozenset(standard.groupindex)


_TOKEN = re.compile(r"\\N\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|\{", re.DOTALL)
_WORD, _SPACE = r"\p{L}\p{N}_", r"\s\x1c-\x1f"
_LEFT, _RIGHT = (f"(?<=[{_WORD}])", f"(?<![{_WORD}])"), (f"(?=[{_WORD}])", f"(?![{_WORD}])")
"""Beside a word's character, and not beside one."""
_NO_BOUNDARY_IN_NOTHING = "" if re.search(r"\B", "") else r"(?!\A\Z)"  # Python 3.14 changed this
_OUTSIDE = {
    "\\w": f"[{_WORD}]", "\\W": f"[^{_WORD}]", "\\s": f"[{_SPACE}]", "\\S": f"[^{_SPACE}]", "{": r"\{",
    "\\b": f"(?:{_LEFT[0]}{_RIGHT[1]}|{_LEFT[1]}{_RIGHT[0]})",
    "\\B": f"(?:{_NO_BOUNDARY_IN_NOTHING}(?:{_LEFT[0]}{_RIGHT[0]}|{_LEFT[1]}{_RIGHT[1]}))",
}  # fmt: skip
_WITHIN = {"\\w": _WORD, "\\s": _SPACE, "[": r"\["}


def _translated(source: str, standard: re.Pattern[str]) -> str:
    r"""With what ``regex`` reads otherwise than ``re`` written so that it reads the same.

    Fuzzy matching (``{e<=1}``) and classes (``[[:alpha:]]``) are plain characters in ``re``; ``\w`` is a letter, a
    numeral or ``_`` there, which ``\b`` goes by, and ``\s`` has the four separators of ASCII.
    """
    if standard.flags & (re.VERBOSE | re.ASCII) or re.search(r"\(\?[a-zA-Z]*[ax]", source):
        return source

    def token(match: re.Match[str]) -> str:
        text = match[0]
        if not text.startswith("["):
            return _OUTSIDE.get(text, text)
        return "[" + re.sub(r"\\.|\[", lambda part: _WITHIN.get(part[0], part[0]), text[1:], flags=re.DOTALL)

    return _TOKEN.sub(token, source)
