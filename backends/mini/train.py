"""Train the bundled models: ``python -m treeagent.backends.mini.train --out runs/mini``.

Checkpoints every few minutes, resumes where it stopped, logs one JSON line per interval. Each step mixes the kinds of
material in fixed token shares: as many tokens of io and cot as of propose, value and vote, so that the baselines
that a tree search is compared with are trained as well as the tree.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .material import Example, material
from .prompts import render
from .tokenizer import build

SIZES = {
    "target": dict(hidden_size=192, intermediate_size=576, num_hidden_layers=4, num_attention_heads=6),
    "draft": dict(hidden_size=96, intermediate_size=288, num_hidden_layers=2, num_attention_heads=3),
}
"""Shapes of the two models: at most 6M and 1M parameters."""

SHARES = {
    "propose-4": 0.15,
    "propose-3": 0.12,
    "propose-2": 0.03,
    "value-3-good": 0.06,
    "value-3-bad": 0.08,
    "value-2-good": 0.01,
    "value-2-bad": 0.02,
    "value-1": 0.01,
    "vote": 0.02,
    "io": 0.17,
    "cot": 0.33,
}
"""Share of the tokens of a step. Tree formats and baseline formats get half each."""

LABEL_WEIGHT = 8.0
"""A label is one token that carries the whole example, so its loss counts as much as a few lines of a proposal."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised example; the loss is on ``ids[prompt:]``."""

    ids: list[int]
    prompt: int
    weight: float


def tokenise(tokenizer: PreTrainedTokenizerFast, kind: str, examples: list[Example]) -> list[Tokens]:
    """Prompts and completions are tokenised apart, as they are when the model is used."""
    weight = LABEL_WEIGHT if kind.startswith(("value", "vote")) else 1.0
    prompts = tokenizer([example.prompt for example in examples])["input_ids"]
    completions = tokenizer([example.completion for example in examples])["input_ids"]
    return [
        Tokens(prompt + completion + [tokenizer.eos_token_id], len(prompt), weight)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def batches(data: dict[str, list[Tokens]], tokens_per_step: int, seed: int) -> Iterator[list[Tokens]]:
    """Endless steps; every kind is walked in its own shuffled order, epoch after epoch."""
    rng = random.Random(seed)
    queues: dict[str, list[Tokens]] = {kind: [] for kind in data}
    owed = dict.fromkeys(data, 0.0)
    while True:
        step: list[Tokens] = []
        for kind, examples in data.items():
            owed[kind] += SHARES[kind] * tokens_per_step
            while owed[kind] > 0:
                if not queues[kind]:
                    queues[kind] = rng.sample(examples, len(examples))
                example = queues[kind].pop()
                owed[kind] -= len(example.ids)
                step.append(example)
        yield step


def loss_of(model: LlamaForCausalLM, step: list[Tokens], rows: int = 1024) -> tuple[torch.Tensor, float]:
    """Weighted mean loss of a step, back-propagated in chunks of equal length (little padding); and its label error."""
    total_weight = sum(example.weight * (len(example.ids) - example.prompt) for example in step)
    loss_sum = torch.zeros(())
    wrong = labels = 0
    ordered = sorted(step, key=lambda example: len(example.ids))
    start = 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * len(ordered[end].ids) <= rows:
            end += 1
        chunk, start = ordered[start:end], end
        width = len(chunk[-1].ids)
        ids = torch.zeros(len(chunk), width, dtype=torch.long)  # (B, T), right-padded: causal, so padding is never seen
        weight = torch.zeros(len(chunk), width)  # (B, T), loss weight of the token at each place
        for row, example in enumerate(chunk):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
            weight[row, example.prompt : len(example.ids)] = example.weight
        with torch.autocast("cpu", torch.bfloat16, enabled=ids.device.type == "cpu"):
            hidden = model.model(ids).last_hidden_state[:, :-1]  # (B, T-1, D)
            picked = weight[:, 1:] > 0
            logits = model.lm_head(hidden[picked])  # (N, V)
        targets = ids[:, 1:][picked]
        each = F.cross_entropy(logits.float(), targets, reduction="none") * weight[:, 1:][picked]
        loss = each.sum() / total_weight
        loss.backward()
        loss_sum += loss.detach()
        with torch.no_grad():
            label_rows = (weight[:, 1:][picked] == LABEL_WEIGHT) & (targets != 0)
            wrong += int((logits.argmax(-1) != targets)[label_rows].sum())
            labels += int(label_rows.sum())
    return loss_sum, wrong / max(labels, 1)


def optimizers(model: LlamaForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(inner, lr=lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(step: int, steps: int, warmup: int = 100, cooldown: float = 0.4) -> float:
    """Warm up, hold, then fall linearly to zero over the last part."""
    if step < warmup:
        return (step + 1) / warmup
    return min(1.0, max(0.0, (steps - step) / (cooldown * steps)))


def new_model(size: str, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised model of the family."""
    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=math.ceil(len(tokenizer) / 8) * 8,
        num_key_value_heads=shape["num_attention_heads"],
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **shape,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # on CPU faster than sdpa for sequences this short
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load; weights in bfloat16."""
    half = LlamaForCausalLM(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    half.tie_weights()
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(size: str, out: Path, steps: int, tokens_per_step: int, lr: float, seed: int, save_minutes: float) -> None:
    """Train one model, resuming from ``out/checkpoint.pt`` when it is there."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    sources = material(render, seed)
    tokenizer = build(text for examples in sources.values() for e in examples for text in (e.prompt, e.completion))
    data = {kind: tokenise(tokenizer, kind, examples) for kind, examples in sources.items()}
    model = new_model(size, tokenizer)
    opts = optimizers(model, lr)
    checkpoint, first, seconds = out / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{size}: {parameters:,} parameters, vocabulary {len(tokenizer)}, from step {first} of {steps}", flush=True)

    def keep(step: int) -> None:
        state = {
            "model": model.state_dict(),
            "optimizers": [opt.state_dict() for opt in opts],
            "step": step,
            "seconds": seconds + time.monotonic() - began,
        }
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        save(model, tokenizer, out)

    began = saved_at = time.monotonic()
    feed = batches(data, tokens_per_step, seed)
    for _ in range(first):  # the material of a resumed run goes on where it stopped
        next(feed)
    loss_mean = error_mean = 0.0
    for step in range(first, steps):
        loss, label_error = loss_of(model, next(feed))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = lr * schedule(step, steps)
            opt.step()
            opt.zero_grad(set_to_none=True)
        keep_rate = 0.98 if step > first else 0.0
        loss_mean = keep_rate * loss_mean + (1 - keep_rate) * float(loss)
        error_mean = keep_rate * error_mean + (1 - keep_rate) * label_error
        if step % 50 == 0 or step == steps - 1:
            elapsed = seconds + time.monotonic() - began
            line = {"step": step, "loss": round(loss_mean, 4), "label_error": round(error_mean, 4), "s": round(elapsed)}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
        if time.monotonic() - saved_at > 60 * save_minutes:
            keep(step + 1)
            saved_at = time.monotonic()
    keep(steps)


def main() -> None:
    """Command line; the defaults are the settings of the shipped models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and model")
    parser.add_argument("--size", choices=sorted(SIZES), default="target")
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--tokens-per-step", type=int, default=8_000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-minutes", type=float, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.size, options.out, options.steps, options.tokens_per_step, options.lr, options.seed, options.save_minutes)


if __name__ == "__main__":
    main()
