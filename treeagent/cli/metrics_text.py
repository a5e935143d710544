"""The metrics of a backend as text."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..backend import Backend
    from ..reply import Usage
    from ..thought import Thought

AT_MOST = 6
"""Members shown of a list."""


def paragraph(title: str, figures: Mapping[str, Any]) -> list[str]:
    """The known metrics as lines that fit the terminal, those of parts after the others; no line when none is known."""
    parts = {name: value for name, value in figures.items() if isinstance(value, Mapping)}
    further = [line for name, part in parts.items() for line in paragraph(f"{title}, {name.replace('_', ' ')}", part)]
    plain = {name: value for name, value in figures.items() if name not in parts and value is not None}
    known = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in plain.items()]
    if not known:
        return further
    items = [item.replace(" ", "\N{NO-BREAK SPACE}") for item in known]  # a line must not end within an item
    lines = textwrap.wrap(
        f"{title}: {', '.join(items)}",
        width=min(shutil.get_terminal_size().columns, 120),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*(line.replace("\N{NO-BREAK SPACE}", " ") for line in lines), *further]


def headline(figures: Mapping[str, Any], ran: Iterable[Backend]) -> dict[str, Any]:
    """The figures that the backends name for a summary, in parts too; all where one of them names none."""
    chosen = [backend.headline for backend in ran]
    names = {name for part in chosen if part is not None for name in part}

    def kept(figures: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: kept(value) if isinstance(value, Mapping) else value
            for name, value in figures.items()
            if name in names or isinstance(value, Mapping)
        }

    return dict(figures) if None in chosen else kept(figures)


def backends(settings: Mapping[str, Any]) -> list[str]:
    """A line on the backend that ran and its model, and one on the evaluator's where that is recorded by itself."""
    lines = []
    for title, key in (("backend", "backend"), ("evaluator's backend", "evaluator_model")):
        if isinstance(ran := settings.get(key), Mapping):
            first = ran.get("instead_of")
            why = "" if first is None else f", as {first['name']} cannot run it: {first['reason']}"
            lines.append(f"{title} {_shown_backend(ran)}{why}")
        elif ran is not None:
            lines.append(f"evaluator's model {ran}")
    for name, ran in settings.get("models", {}).items():
        lines.append(f"model {name}: backend {_shown_backend(ran)}")
    return lines


def _shown_backend(ran: Mapping[str, Any]) -> str:
    """The name of a backend, with those of its model and its adapter where there are any."""
    parts = (("model", ran["model"]), ("adapter", ran.get("options", {}).get("adapter")))
    return ", ".join([ran["name"], *(f"{part} {name}" for part, name in parts if name)])


def models(parts: Mapping[str, Usage], tree: Iterable[Thought]) -> list[str]:
    """A line on each of several models: the thoughts that it wrote, and what it cost; nothing where there is one."""
    written = Counter(thought.model for thought in tree)
    return [
        f"model {name}: {written[name]:,} thoughts, {usage.calls:,} calls, {shown(usage.tokens)} tokens"
        for name, usage in parts.items()
    ]


def judging(usage: Usage) -> list[str]:
    """A line on what the evaluator's requests cost of the whole; nothing where there were none."""
    if not usage.calls:
        return []
    prompt, completion = (shown(amount) for amount in (usage.prompt_tokens, usage.completion_tokens))
    dollars = "" if usage.dollars is None else f", dollars {usage.dollars:.4f}"
    return [f"of these for judging: {usage.calls:,} calls, {prompt} prompt + {completion} completion tokens{dollars}"]


class Lost(Protocol):
    """Counts of what a model's completions did not give."""

    @property
    def truncated(self) -> int | None:
        """Cut off at ``max_tokens``."""

    @property
    def empty(self) -> int | None:
        """Those of them without any text."""

    @property
    def refused(self) -> int | None:
        """Refused by the backend."""

    @property
    def missing(self) -> int | None:
        """Asked for and not given."""


def lost(counts: Lost) -> list[str]:
    """A line on completions that were cut off, refused or did not come; none when there are none."""
    parts = [
        f"{shown(count)} {what}"
        for count, what in (
            (counts.truncated, "cut off at max_tokens"),
            (counts.empty, "of them before any text (raise sampling.ROLE.max_tokens)"),
            (counts.refused, "refused"),
            (counts.missing, "missing"),
        )
        if count is None or count
    ]
    known = any((counts.truncated, counts.empty, counts.refused, counts.missing))
    return [f"completions: {', '.join(parts)}"] if known else []


def shown(value: Any) -> str:
    """Integers in full, other numbers to three digits, lists up to ``AT_MOST`` members."""
    if isinstance(value, list | tuple):
        return " ".join([*map(shown, value[:AT_MOST]), *(["..."] if len(value) > AT_MOST else [])]) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown" if value is None else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"


def early(hits: int | None, misses: int | None, tokens: int | None, seconds: float | None) -> list[str]:
    """How many requests were sent early, what the hits saved and the others cost; nothing where none were sent."""
    if not hits and not misses:
        return []
    sent, saved = (hits or 0) + (misses or 0), "" if seconds is None else f", which saved at most {seconds:.1f} s"
    return [
        f"{hits or 0:,} of {sent:,} requests sent early were asked for ({(hits or 0) / sent:.0%}){saved}; "
        f"the others cost {tokens or 0:,} tokens or more"
    ]
