"""Random adapters in peft's format, and the models that they are merged into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_model import tokenizer

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA = 3, 4.0


def save_adapter(
    folder: Path, model: str, targets: tuple[str, ...] = ALL, *, seed: int = 1, size: float = 0.3, **config: Any
) -> str:
    """Write a random adapter of a model to a folder; ``config`` overrides fields of its configuration."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False)
    generator = torch.Generator().manual_seed(seed)
    rank_of = config.get("rank_pattern", {})
    tensors: dict[str, torch.Tensor] = {}
    for path, module in base.named_modules():
        name = path.rpartition(".")[2]
        if name not in targets:
            continue
        weight = module.weight if isinstance(module, torch.nn.Linear) else module.weight.t()  # GPT-2's is transposed
        outs, ins = weight.shape
        rank = rank_of.get(name, RANK)
        start = f"base_model.model.{path}.lora_"
        tensors[f"{start}A.weight"] = torch.randn(rank, ins, generator=generator) * size
        tensors[f"{start}B.weight"] = torch.randn(outs, rank, generator=generator) * size
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": sorted(targets), **config}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return str(folder)


def merge(folder: Path, model: str, adapter: str, scale: float = ALPHA / RANK) -> str:
    """Write a model with the products of an adapter added to its weights, in float64."""
    base: Any = transformers.AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False, dtype=torch.float64)
    tensors = load_file(Path(adapter) / "adapter_model.safetensors")
    modules = dict(base.named_modules())
    for name in [name for name in tensors if name.endswith("lora_A.weight")]:
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        down, up = tensors[name].double(), tensors[name.replace("lora_A", "lora_B")].double()
        change = scale * up @ down
        with torch.no_grad():
            weight = modules[path].weight
            weight += change if isinstance(modules[path], torch.nn.Linear) else change.t()
    base.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def rewrite(adapter: str, **fields: Any) -> None:
    """Change fields of an adapter's configuration."""
    path = Path(adapter) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
