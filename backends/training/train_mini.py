"""Train the bundled models: ``python -m treeagent.backends.training.train_mini --out runs/mini``.

Checkpoints every few minutes, resumes where it stopped, logs one JSON line per interval. Each step mixes the kinds of
material in fixed token shares: as many tokens of io and cot as of propose, value and vote, so that the baselines
that a tree search is compared with are trained as well as the tree.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from treeagent import Task

from .early_exit_loss import exit_logits, packed
from .loop import apply_step, log_line, save_whole
from .mini_data import Example, material, renderer
from .mini_tokenizer import build

SIZES = {
    "target": dict(hidden_size=192, intermediate_size=576, num_hidden_layers=4, num_attention_heads=6),
    "small": dict(hidden_size=160, intermediate_size=480, num_hidden_layers=3, num_attention_heads=5),
    "draft": dict(hidden_size=96, intermediate_size=288, num_hidden_layers=2, num_attention_heads=3),
    "sorted": dict(hidden_size=96, intermediate_size=288, num_hidden_layers=3, num_attention_heads=3),
}
"""Shapes of the models: two targets of at most 6M parameters, two drafts of at most 1M."""

EXITS = {"sorted": (1, 2, 3)}
"""Layers after which a size can be left, if not after the last one alone; trained on the mean of the exits' losses."""

ENUMERATE = {
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
"""Shares of a step's tokens while the model learns to write legal steps. Tree formats and baselines have half each."""

JUDGE = {
    **ENUMERATE,
    "propose-4": 0.09,
    "propose-3": 0.07,
    "propose-2": 0.01,
    "value-3-good": 0.12,
    "value-3-bad": 0.16,
    "value-2-bad": 0.03,
    "value-1": 0.005,
    "vote": 0.005,
}
"""Share of the tokens once steps are legal and the judge is what is left to learn."""

BOTH = {
    **JUDGE,
    "propose-4": 0.08,
    "propose-3": 0.08,
    "propose-2": 0.02,
    "value-3-good": 0.10,
    "value-3-bad": 0.13,
    "value-2-good": 0.03,
    "value-2-bad": 0.05,
}
"""Share of the tokens from there on: states of two numbers are judged too, and lists stay legal."""

PHASES = [(0, ENUMERATE), (1000, JUDGE), (1500, BOTH)]
"""First step of each phase."""

LABEL_WEIGHT = 20.0
"""A label is one token that carries the whole example, so its loss counts as much as a line of a proposal."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised example; the loss is on ``ids[prompt:]``."""

    ids: list[int]
    prompt: int
    label: bool
    """Whether the completion is a label: one token, weighted by LABEL_WEIGHT."""


def tokenise(tokenizer: PreTrainedTokenizerFast, kind: str, examples: list[Example]) -> list[Tokens]:
    """Prompts and completions are tokenised apart, as they are when the model is used."""
    label = kind.startswith(("value", "vote"))
    prompts = tokenizer([example.prompt for example in examples])["input_ids"]
    completions = tokenizer([example.completion for example in examples])["input_ids"]
    return [
        Tokens(prompt + completion + [tokenizer.eos_token_id], len(prompt), label)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def batches(data: dict[str, list[Tokens]], tokens_per_step: int, seed: int) -> Iterator[list[Tokens]]:
    """Endless steps; every kind is walked in its own shuffled order, epoch after epoch."""
    rng = random.Random(seed)
    queues: dict[str, list[Tokens]] = {kind: [] for kind in data}
    owed = dict.fromkeys(data, 0.0)
    for number in itertools.count():
        shares = next(shares for first, shares in reversed(PHASES) if number >= first)
        step: list[Tokens] = []
        for kind, examples in data.items():
            owed[kind] += shares[kind] * tokens_per_step
            while owed[kind] > 0:
                if not queues[kind]:
                    queues[kind] = rng.sample(examples, len(examples))
                example = queues[kind].pop()
                owed[kind] -= len(example.ids)
                step.append(example)
        yield step


def chunks(step: list[Tokens], tokens: int = 1024) -> Iterator[list[Tokens]]:
    """Examples of similar length together, about ``tokens`` tokens at once: little padding, cache-sized."""
    chunk: list[Tokens] = []
    for example in sorted(step, key=lambda example: len(example.ids)):
        if chunk and (len(chunk) + 1) * len(example.ids) > tokens:
            yield chunk
            chunk = []
        chunk.append(example)
    if chunk:
        yield chunk


def padded(chunk: list[Tokens]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A chunk as rows: model inputs, target ids and loss weights (0 where nothing is learnt), each ``[B, T]``.

    Padding is on the right, so under a causal mask no token ever sees it.
    """
    width = len(chunk[-1].ids)
    ids = torch.zeros(len(chunk), width, dtype=torch.long)
    weights = torch.zeros(len(chunk), width)  # of predicting the token at the *next* place
    for row, example in enumerate(chunk):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        weights[row, example.prompt - 1 : len(example.ids) - 1] = 1.0
        if example.label:
            weights[row, example.prompt - 1] = LABEL_WEIGHT
    return {"input_ids": ids}, ids.roll(-1, dims=1), weights


def loss_of(model: LlamaForCausalLM, step: list[Tokens]) -> tuple[float, float]:
    """Back-propagate a step's weighted mean loss; returns it and the share of wrong labels."""
    labels = [example for example in step if example.label]
    total_weight = sum(len(example.ids) - example.prompt for example in step) + len(labels) * (LABEL_WEIGHT - 1)
    prompts = [example for example in labels if example.ids[0] == labels[0].ids[0]]  # values; votes start otherwise
    rest = [example for example in step if not example.label or example.ids[0] != labels[0].ids[0]]
    # Of labels of one format the words they share stand once, so a label costs 11 tokens of work instead of 27.
    texts = [(each.ids, [0.0] * (each.prompt - 1) + [LABEL_WEIGHT, 1.0, 0.0]) for each in prompts]
    batches = [packed(texts[i : i + 40]) for i in range(0, len(texts), 40)] + [padded(chunk) for chunk in chunks(rest)]
    loss_sum, wrong = 0.0, 0
    for inputs, targets, weights in batches:
        picked = weights > 0
        with torch.autocast("cpu", torch.bfloat16):
            exits = exit_logits(model, inputs, picked)  # (N, V) each
        each = [F.cross_entropy(logits, targets[picked], reduction="none") for logits in exits]
        loss = (torch.stack(each).mean(dim=0) * weights[picked]).sum() / total_weight
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        loss_sum += loss.item()
        missed = exits[-1].detach().argmax(-1) != targets[picked]
        wrong += int(missed[weights[picked] == LABEL_WEIGHT].sum())
    return loss_sum, wrong / len(labels)


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
    if size in EXITS:
        config.exits = list(EXITS[size])
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
    sources = material(renderer(Task.load("game24")), seed)
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
        save_whole(state, checkpoint)
        save(model, tokenizer, out / "model")

    began = saved_at = time.monotonic()
    feed = batches(data, tokens_per_step, seed)
    feed = itertools.islice(feed, first, None)  # a resumed run continues with the material after its last step
    loss_mean = error_mean = 0.0
    for step in range(first, steps):
        loss, label_error = loss_of(model, next(feed))
        apply_step(list(model.parameters()), opts, lr * schedule(step, steps))
        keep_rate = 0.98 if step > first else 0.0
        loss_mean = keep_rate * loss_mean + (1 - keep_rate) * loss
        error_mean = keep_rate * error_mean + (1 - keep_rate) * label_error
        if step % 50 == 0 or step == steps - 1:
            elapsed = seconds + time.monotonic() - began
            line = {"step": step, "loss": round(loss_mean, 4), "label_error": round(error_mean, 4), "s": round(elapsed)}
            log_line(out, line)
        if time.monotonic() - saved_at > 60 * save_minutes:
            keep(step + 1)
            saved_at = time.monotonic()
    keep(steps)


def main() -> None:
    """Command line; the defaults are the settings of the shipped models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and model")
    parser.add_argument("--size", choices=sorted(SIZES), default="target")
    parser.add_argument("--steps", type=int, default=3700)
    parser.add_argument("--tokens-per-step", type=int, default=10_000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-minutes", type=float, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(
        options.size,
        options.out,
        options.steps,
        options.tokens_per_step,
        options.lr,
        options.seed,
        options.save_minutes,
    )


if __name__ == "__main__":
    main()
