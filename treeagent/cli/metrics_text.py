"""The metrics of a backend as text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

AT_MOST = 6
"""Members shown of a list."""


def paragraph(title: str, figures: Mapping[str, Any]) -> list[str]:
    """The known metrics as lines that fit the terminal; no line when none is known."""
    known = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in figures.items() if value is not None]
    if not known:
        return []
    items = [item.replace(" ", "\N{NO-BREAK SPACE}") for item in known]  # a line must not end within an item
    lines = textwrap.wrap(
        f"{title}: {', '.join(items)}",
        width=min(shutil.get_terminal_size().columns, 120),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def shown(value: Any) -> str:
    """Integers in full, other numbers to three digits, lists up to ``AT_MOST`` members."""
    if isinstance(value, list | tuple):
        return " ".join([*map(shown, value[:AT_MOST]), *(["..."] if len(value) > AT_MOST else [])]) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown" if value is None else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"
