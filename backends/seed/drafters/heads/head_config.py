"""Tells heads from draft models, and heads from one another, by their configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from treeagent.errors import ModelError

from .dflash_config import DFlashConfig, dflash_config
from .eagle3_config import Eagle3Config, eagle3_config
from .head_file import DFLASH, EAGLE3, MTP, HeadFile, read_file
from .mtp_config import COUNTS, MtpConfig, mtp_config
from .mtp_network import mtp_start, other_mtp_tensors

HeadConfig: TypeAlias = Eagle3Config | MtpConfig | DFlashConfig
KINDS: dict[str, Callable[[HeadFile, Mapping[str, Any], str], HeadConfig]] = {
    EAGLE3: eagle3_config,
    MTP: mtp_config,
    DFLASH: dflash_config,
}
"""What can run."""


def read_head_config(where: Path | str, draft: str) -> HeadConfig | None:
    """The head that a folder or a hub id holds; None for anything else. Raises ModelError for one that cannot run."""
    said = read_file(where)
    try:
        file = HeadFile.model_validate(said)
        if file.kind is None:
            return None
        if file.kind not in KINDS:
            raise ModelError(
                f"the draft {draft} is a head of the kind {file.kind!r}. Those of the kinds "
                f"{', '.join(map(repr, KINDS))} can run; give one of them, or a draft model."
            )
        return KINDS[file.kind](file, said, draft)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"the head {draft} cannot be read: its config.json has {place}: {first['msg']}") from error


def read_own_layer(where: Path | str, draft: str) -> MtpConfig | None:
    """The MTP layer inside a target's checkpoint; None where there is none. Raises ModelError where it cannot run."""
    said = read_file(where)
    own = said.get("text_config") or said
    layers = own.get("num_hidden_layers")
    if not isinstance(layers, int):
        return None
    if mtp_start(where, layers) is not None:
        return mtp_config(HeadFile(), said, draft)
    if any(own.get(name) for name in COUNTS) and (others := other_mtp_tensors(where)):
        raise ModelError(
            f"the draft {draft} has an MTP layer whose tensors are called otherwise than those that can run (such as "
            f"{others[0]}; its type is {own.get('model_type')!r}). Give another draft, or a table: drafter=ngram."
        )
    return None
