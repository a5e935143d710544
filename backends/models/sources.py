"""What a model is read from, and how an error of the libraries that read it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from treeagent.errors import ModelError

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""Given to every loading function of transformers, which asks on standard input where it is left out."""

NEEDS_CODE = "trust_remote_code=True"
"""In the message of transformers about a model that brings code."""


def source_of(where: Path | str) -> dict[str, Any]:
    """What transformers loads a model, its configuration and its tokenizer from; code beside them is never run.

    Raises ModelError for a folder without a configuration.
    """
    if isinstance(where, Path) and where.is_file():
        return {**NO_CODE, "pretrained_model_name_or_path": str(where.parent), "gguf_file": where.name}
    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise ModelError(
            f"the folder {where} is no model: it has no config.json. Expected a folder as written by transformers' "
            "save_pretrained (config.json, *.safetensors, tokenizer files), or the path of a .gguf file."
        )
    return {**NO_CODE, "pretrained_model_name_or_path": str(where)}


@contextmanager
def explained(where: Path | str, part: str) -> Iterator[None]:
    """Turn what transformers, huggingface_hub, safetensors or gguf raise while they read a model into a ModelError.

    For a missing, damaged or foreign model they raise errors of nearly every kind. So only calls of these libraries
    stand inside: an error of this project's code must not be told as the model's.
    """
    try:
        yield
    except Exception as error:
        if NEEDS_CODE in str(error):
            raise ModelError(
                f"the model {where} brings Python code of its own ('auto_map' in its config.json or "
                "tokenizer_config.json), which is not run. Expected an architecture that transformers knows by itself."
            ) from error
        short_of_memory = isinstance(error, MemoryError) and not str(error)
        reason = "there is not enough memory" if short_of_memory else " ".join(str(error).split())
        reason = reason or type(error).__name__
        reason = reason if len(reason) <= 300 else reason[:300] + " ..."
        if isinstance(where, Path):
            raise ModelError(f"cannot load the model {where}: {part} cannot be read ({reason})") from error
        raise ModelError(
            f"cannot load the model {where!r}: no such folder here, and {part} cannot be had from the Hugging Face hub "
            f"({reason}). Check the spelling and the network, or give a local folder; 'mini' needs neither."
        ) from error


def setting(where: Path | str, config: Any, name: str, *kinds: type) -> Any:
    """A value of a configuration of transformers, of one of the types; None where it has none.

    Raises ModelError, also for a value that differs between layers: transformers raises when such a one is read.
    """
    with explained(where, f"{name} in its configuration"):
        value = getattr(config, name, None)
    if value is None or (isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))):
        return value
    said = " or ".join(kind.__name__ for kind in kinds)
    raise ModelError(f"the model {where} has {name} {value!r} in its configuration, expected {said}")


def size_setting(where: Path | str, config: Any, name: str) -> int:
    """A number of 1 or more in a configuration. Raises ModelError where it is missing or another."""
    value: int | None = setting(where, config, name, int)
    if value is None or value < 1:
        raise ModelError(f"the model {where} has {name} {value!r} in its configuration, expected 1 or more")
    return value
