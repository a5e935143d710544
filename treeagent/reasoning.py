"""Separates what a model thinks from what it says: thinking stands between two marks, ``<think>`` and ``</think>``.

Steps, labels, answers and stop strings are looked for in what it says alone. Three forms occur: a whole pair; a text
that begins within thinking, because the chat template has opened it, and holds the closing mark only; thinking that
``max_tokens`` cut off before its end, after which nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError

DEFAULT_MARKS = "<think> </think>"
"""Marks of DeepSeek-R1, Qwen 3, QwQ and most open reasoning models."""
NO_MARKS = "none"
"""Stands for no marks: nothing is separated."""


def without_begun(text: str, words: Sequence[str]) -> str:
    """The text without an end that one of the words begins with."""
    longest = max(map(len, words), default=0)
    for at in range(max(0, len(text) - longest + 1), len(text)):
        if any(word.startswith(text[at:]) for word in words):
            return text[:at]
    return text


@dataclass(frozen=True, slots=True)
class ThoughtSplit:
    """A text in its two parts."""

    text: str
    """What the model says, without the line breaks that follow a closing mark."""
    reasoning: str | None
    """What it thinks, without outer line breaks; None where there are no marks, empty where nothing follows them."""
    spans: tuple[tuple[int, int], ...]
    """Start and end in the whole text of the pieces of :attr:`text`."""

    def offset(self, at: int) -> int:
        """The offset in :attr:`text` of an offset in the whole text; what is not part of it has no width."""
        return sum(max(0, min(at, end) - start) for start, end in self.spans)

    def tokens_outside(self, ends: Sequence[int]) -> int:
        """How many tokens are no part of :attr:`text`, by the offset in the whole text after each."""
        outside, last, before, thinking = 0, 0, 0, True
        for end in ends:
            if end != last:
                said = self.offset(end)
                last, before, thinking = end, said, said == before
            outside += thinking
        return outside


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks of thinking, and whether the prompt has opened it already."""

    opening: str
    closing: str
    opened: bool = False

    @classmethod
    def parse(cls, words: str) -> Thinking | None:
        """Two marks with a blank between them; None for ``none``. Raises ConfigError."""
        if words.strip().lower() == NO_MARKS:
            return None
        marks = words.split()
        if len(marks) != 2 or marks[0] == marks[1]:
            raise ConfigError(
                f"thinking must be two different marks with a blank between them, such as {DEFAULT_MARKS!r}, or "
                f"{NO_MARKS!r}, not {words!r}"
            )
        return cls(marks[0], marks[1])

    def after(self, prompt: str) -> Thinking:
        """The same marks for what follows this prompt, which may end with the opening one."""
        return Thinking(self.opening, self.closing, prompt.rstrip().endswith(self.opening))

    def split(self, text: str) -> ThoughtSplit:
        """Separate a whole text.

        A closing mark without an opening one ends thinking that began before the text, or with it. An opening mark
        that nothing closes counts where it begins a line.
        """
        spans: list[tuple[int, int]] = []
        thoughts: list[str] = []
        at = 0
        if self.opened and self.closing not in text:
            return ThoughtSplit("", text.strip("\r\n"), ())
        while True:
            opening, closing = text.find(self.opening, at), text.find(self.closing, at)
            if closing >= 0 and not 0 <= opening < closing:
                thoughts = [*thoughts, *(text[start:end] for start, end in spans), text[at:closing]]
                spans = []
            elif closing >= 0:
                spans.append((at, opening))
                thoughts.append(text[opening + len(self.opening) : closing])
            elif opening >= 0 and not text[:opening].rpartition("\n")[2].strip():
                spans.append((at, opening))
                thoughts.append(text[opening + len(self.opening) :])
                break
            else:
                spans.append((at, len(text)))
                break
            at = _BREAKS.match(text, closing + len(self.closing)).end()  # type: ignore[union-attr]  # matches always
        if not thoughts:
            return ThoughtSplit(text, None, ((0, len(text)),))
        spans = [(start, end) for start, end in spans if text[start:end].strip()]
        reasoning = "\n".join(filter(None, (thought.strip("\r\n") for thought in thoughts)))
        return ThoughtSplit("".join(text[start:end] for start, end in spans), reasoning, tuple(spans))

    def settled(self, text: str) -> str:
        """What the model says in a text that still grows, as far as it stays so.

        A closing mark that nothing has opened is not reckoned with: it would make thinking of all text before it.
        """
        known = without_begun(text, (self.opening, self.closing))
        if self.opened and self.closing not in known:
            return ""
        begin = known.rfind(self.closing) + 1
        if (opening := known.find(self.opening, begin)) >= 0:
            known = known[:opening]
        said = self.split(known).text
        return said if said.strip() else ""  # blanks before thinking are dropped

    def answer_start(self, text: str) -> int | None:
        """Where in a text that still grows the search for stop strings begins; None while thinking is open.

        Only thinking that the text begins with is considered.
        """
        at = 0
        if self.opened:
            at = text.find(self.closing) + len(self.closing)
            if at < len(self.closing):
                return None
        while True:
            rest = text[at:].lstrip()
            if rest and not rest.startswith(self.opening):
                return None if self.opening.startswith(rest) else self._content_start(text, at)
            if not rest:
                return self._content_start(text, at)
            closing = text.find(self.closing, at)
            if closing < 0:
                return None
            at = closing + len(self.closing)

    @staticmethod
    def _content_start(text: str, at: int) -> int:
        """After the line breaks that follow a closing mark, which are part of neither."""
        return _BREAKS.match(text, at).end() if at else 0  # type: ignore[union-attr]  # matches always


_BREAKS = re.compile(r"(?:[ \t]*\r?\n)*")
"""Blank lines, of which the closing mark ends the first."""
