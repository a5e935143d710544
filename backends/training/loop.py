"""What both training scripts share: learning rates, checkpoints that are written whole, and the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from treeagent.jsonl import strict


def apply_step(
    parameters: Sequence[torch.nn.Parameter], optimizers: Sequence[torch.optim.Optimizer], learning_rate: float
) -> None:
    """One step of all optimizers with gradients clipped to norm 1, which are reset afterwards."""
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def save_whole(state: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all: if the process is killed meanwhile, the previous file is still there."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


def log_line(folder: Path, line: dict[str, Any]) -> None:
    """Append a line to ``log.jsonl`` of a folder and print it."""
    with (folder / "log.jsonl").open("a") as log:
        log.write(strict(line) + "\n")
    print(line, flush=True)
