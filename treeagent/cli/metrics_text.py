"""A backend's own figures for a person, whatever they are about."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

AT_MOST = 6
"""Members of a list that are shown."""


def paragraph(title: str, figures: Mapping[str, Any]) -> list[str]:
    """Known figures as lines that fit the terminal; none when nothing is known."""
    known = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in figures.items() if value is not None]
    if not known:
        return []
    together = [each.replace(" ", "\N{NO-BREAK SPACE}") for each in known]  # a line ends between figures, never within
    lines = textwrap.wrap(
        f"{title}: {', '.join(together)}",
        width=min(shutil.get_terminal_size().columns, 120),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def shown(value: Any) -> str:
    """Whole numbers in full, others to three digits, the beginning of a list."""
    if isinstance(value, list | tuple):
        return " ".join([*map(shown, value[:AT_MOST]), *(["..."] if len(value) > AT_MOST else [])]) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown" if value is None else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"
