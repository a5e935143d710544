"""The mark of a widened checkpoint, which goes wherever its figures stand."""

from __future__ import annotations

import json
from pathlib import Path

MARK = "widened"
"""Key of ``config.json``: the model whose function a checkpoint computes, and the shape that it has."""


def widened_label(model: str | Path) -> str | None:
    """What a model was widened from and to; None for every other model, and for names that are no folder."""
    try:
        config = json.loads((Path(model).expanduser() / "config.json").read_bytes())
        mark = config[MARK]
        return f"widened: {mark['model']} in the shape of {mark['like']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def labelled(model: str, quote: str = "") -> str:
    """A model's name for a caption, between ``quote``, with the mark if it is a widened one."""
    label = widened_label(model)
    return f"{quote}{model}{quote}" + ("" if label is None else f" ({label})")
