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


def is_widened(folder: Path, model: str, like: str, dtype: str) -> bool:
    """Whether the folder has a whole checkpoint of the model in that shape and type of numbers."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return bool(config[MARK] == {"model": model, "like": like} and config["dtype"] == dtype)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def labelled(model: str) -> str:
    """A model's name for a caption, with the mark if it is a widened one."""
    label = widened_label(model)
    return model if label is None else f"{model} ({label})"
