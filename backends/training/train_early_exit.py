"""Make a sorted draft:
``python -m treeagent.backends.training.train_early_exit --model M --layers 6 --exits 2,4,6 --out DRAFT``.

Takes the first layers of any Llama-style model and trains them so that every exit drafts by itself (S2D, Kavehzadeh et
al., arXiv 2407.01955). Embeddings and output head stay the model's own. Learns from text files, or from what the model
itself writes after built-in prompts of other seeds than the benchmark's. Checkpoints every few minutes, resumes where
it stopped, logs one JSON line per interval.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from treeagent.errors import ConfigError, ModelError, TreeagentError, UnknownNameError

from ..bench.workloads.prompts import KINDS, MINI, MIXED, builtin_prompts
from ..local.base import find_device
from ..models.loader import load_model
from ..models.tokenizer import load_tokenizer
from ..models.torch_private import has_fast_bfloat16
from .early_exit_loss import Batch, exit_logits, packed
from .loop import apply_step, log_line, save_whole
from .packed_texts import Text
from .sampled_softmax import Candidates

OWN_KINDS = tuple(kind for kind in KINDS if kind not in (MINI, MIXED))
"""Kinds of prompts that the model writes after."""
OWN_SEED = 1_000
"""Of the prompts that the model writes after; the benchmark's are small numbers."""
OWN_TOKENS = 96
"""Tokens that it writes after each."""


def first_layers(model: Any, layers: int, exits: Sequence[int]) -> None:
    """Cut a Llama-style model down to its first layers, with these exits. Raises ModelError, ConfigError."""
    config, stack = model.config, getattr(getattr(model, "model", None), "layers", None)
    if stack is None or not hasattr(model.model, "norm") or not hasattr(model, "lm_head"):
        raise ModelError(f"{type(model).__name__} is no Llama-style model (layers, a final norm, an output head)")
    if not exits or sorted(set(exits)) != list(exits) or exits[0] < 1 or exits[-1] != layers:
        raise ConfigError(f"exits must be ascending numbers of layers that end with {layers}, not {exits}")
    if layers > len(stack):
        raise ConfigError(f"the model has {len(stack)} layers, {layers} were asked for")
    model.model.layers = stack[:layers]
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.exits = list(exits)


def loss_of(model: Any, batches: Sequence[Batch], candidates: Candidates) -> float:
    """Back-propagate the mean over the exits of the batches' weighted mean loss, and return it."""
    total = sum(float(weights.sum()) for _, _, weights in batches)
    loss_sum = 0.0
    head, places = candidates.draw()
    for inputs, targets, weights in batches:
        picked = weights > 0
        with torch.autocast(weights.device.type, torch.bfloat16, enabled=bfloat16_is_faster(weights.device)):
            exits = exit_logits(model, inputs, picked, head)  # (N, C) each
        right = places[targets[picked]]
        each = torch.stack([F.cross_entropy(logits, right, reduction="none") for logits in exits])  # (X, N)
        loss = (each.mean(dim=0) * weights[picked]).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        loss_sum += loss.item()
    return loss_sum


def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether products of bfloat16 numbers are faster there than those of float32: others emulate them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return has_fast_bfloat16()


def read_texts(paths: Sequence[Path], tokenizer: Any, length: int) -> list[list[Text]]:
    """Text files cut into pieces of ``length`` tokens, each a group of its own. Raises ConfigError."""
    groups: list[list[Text]] = []
    for path in paths:
        try:
            ids = tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the text {path}: {error}") from error
        pieces = [ids[at : at + length] for at in range(0, len(ids), length)]
        groups += [[(piece, [1.0] * (len(piece) - 1) + [0.0])] for piece in pieces if len(piece) > 1]
    return groups


def own_texts(model: str, kinds: Sequence[str], count: int, group: int, device: str | None) -> list[list[Text]]:
    """What the model writes after about ``count`` built-in prompts, in groups of one kind of prompt."""
    from treeagent.reply import Reply  # noqa: PLC0415
    from treeagent.request import Key, Request, Sampling  # noqa: PLC0415

    from ..seed.backend import SeedBackend  # noqa: PLC0415

    asked = {kind: builtin_prompts(kind, math.ceil(count / len(kinds)), OWN_SEED) for kind in kinds}
    backend = SeedBackend(model, chat=False, device=device)

    async def write(kind: str) -> list[Reply]:
        # Half of it greedily, half drawn: drafts serve both.
        settings = [Sampling(temperature=float(i % 2), max_tokens=OWN_TOKENS) for i in range(len(asked[kind]))]
        requests = [
            Request(prompt, Key(OWN_SEED, kind, str(i)), sampling)
            for i, (prompt, sampling) in enumerate(zip(asked[kind], settings, strict=True))
        ]
        return await asyncio.gather(*(backend.generate(request) for request in requests))

    tokenize = backend._tokenizer().prompt  # of the same package
    groups: list[list[Text]] = []
    for kind in kinds:
        texts: list[Text] = []
        for prompt, reply in zip(asked[kind], asyncio.run(write(kind)), strict=True):
            before, written = tokenize(prompt), list(reply.completions[0].tokens or ())
            if written:
                weights = [0.0] * (len(before) - 1) + [1.0] * len(written) + [0.0]
                texts.append((before + written, weights))
        groups += [texts[at : at + group] for at in range(0, len(texts), group)]
        print(f"{kind}: {sum(len(ids) for ids, _ in texts):,} tokens", flush=True)
    asyncio.run(backend.aclose())
    return groups


def kinds_of(words: str) -> list[str]:
    """Kinds of built-in prompts, separated by commas. Raises UnknownNameError."""
    kinds = words.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UnknownNameError("workload", unknown[0], KINDS)
    return kinds


def kept_texts(options: argparse.Namespace, kinds: Sequence[str]) -> list[list[Text]]:
    """The model's own texts, from ``out/own.pt`` where they were written before. Raises ConfigError."""
    kept = options.out / "own.pt"
    asked = {"model": options.model, "kinds": list(kinds), "own": options.own, "group": options.group}
    if not kept.exists():
        written = own_texts(options.model, kinds, options.own, options.group, options.device)
        save_whole({"asked": asked, "groups": written}, kept)
    found = torch.load(kept, weights_only=True)
    before = found.get("asked") if isinstance(found, dict) else None
    if before != asked:
        raise ConfigError(f"{kept} holds texts that were asked for with {before}, not {asked}; give another --out")
    groups: list[list[Text]] = found["groups"]
    return groups


def schedule(step: int, steps: int, warmup: float = 0.04) -> float:
    """Warm up, then a cosine to zero."""
    first = max(1, int(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def targets_of(groups: Sequence[list[Text]]) -> set[int]:
    """All tokens whose prediction is learnt."""
    return {
        token
        for texts in groups
        for ids, weights in texts
        for token, weight in zip(ids[1:], weights, strict=False)
        if weight
    }


def steps_of(groups: Sequence[list[Text]], per_step: int, seed: int) -> Iterator[list[list[Text]]]:
    """Endless steps of ``per_step`` groups, shuffled anew every epoch."""
    rng = random.Random(seed)
    queue: list[list[Text]] = []
    while True:
        while len(queue) < per_step:
            queue = rng.sample(groups, len(groups)) + queue
        yield [queue.pop() for _ in range(per_step)]


def train(
    model: Any,
    groups: Sequence[list[Text]],
    out: Path,
    *,
    steps: int,
    lr: float,
    per_step: int,
    drawn: int | None,
) -> None:
    """Train what is not frozen, resuming from ``out/checkpoint.pt`` when it is there."""
    learnt = [*model.model.layers.parameters(), *model.model.norm.parameters()]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in learnt:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learnt, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    checkpoint, first, mean = out / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=model.device)
        model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    candidates = Candidates(model.lm_head.weight, targets_of(groups), drawn, seed=first)
    feed, began = steps_of(groups, per_step, 0), time.monotonic()
    for step in range(steps):
        taken = next(feed)
        if step < first:
            continue
        loss = loss_of(model, [packed(group, model.device) for group in taken], candidates)
        apply_step(learnt, [optimizer], lr * schedule(step, steps))
        mean = loss if step == first else 0.95 * mean + 0.05 * loss
        if step % 20 == 0 or step == steps - 1:
            line = {"step": step, "loss": round(mean, 4), "s": round(time.monotonic() - began)}
            log_line(out, line)
        if step % 50 == 49 or step == steps - 1:
            trained = {
                name: value for name, value in model.state_dict().items() if "layers." in name or ".norm" in name
            }
            save_whole({"model": trained, "optimizer": optimizer.state_dict(), "step": step + 1}, checkpoint)


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name, a folder or a hub id of a Llama-style model")
    parser.add_argument("--layers", type=int, required=True, help="how many of its first layers to keep")
    parser.add_argument("--exits", required=True, help="layers after which a token can leave, such as 2,4,6")
    parser.add_argument("--out", type=Path, required=True, help="folder for the draft, its log and its checkpoint")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files to learn from")
    parser.add_argument("--own", type=int, default=0, help="texts that the model writes itself and learns from")
    parser.add_argument("--kinds", default=",".join(OWN_KINDS), help="kinds of built-in prompts that it writes after")
    parser.add_argument("--length", type=int, default=512, help="tokens of a piece of a text file")
    parser.add_argument("--group", type=int, default=8, help="own texts of one kind that are read together")
    parser.add_argument("--per-step", type=int, default=2, help="pieces or groups of a step")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument(
        "--drawn", type=int, help="other tokens that a step compares with those of the texts; default: all there are"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda where there is one")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(words)
    try:
        run(options)
    except TreeagentError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    """Cut, gather texts, train, save. Raises TreeagentError."""
    from ..models import catalog  # noqa: PLC0415

    if not options.text and not options.own:
        raise ConfigError("nothing to learn from: give --text FILE, or --own 2000 for texts of the model's own")
    if options.drawn is not None and options.drawn < 1:
        raise ConfigError(f"--drawn must be at least 1, not {options.drawn}; left out, all tokens are compared")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        exits = [int(word) for word in options.exits.split(",")]
    except ValueError:
        raise ConfigError(f"--exits {options.exits}: expected numbers of layers, such as 2,4,6") from None
    kinds = kinds_of(options.kinds)
    where = catalog.resolve(options.model)
    model = load_model(where, "float32", find_device(options.device)).network
    text = load_tokenizer(where)
    first_layers(model, options.layers, exits)
    options.out.mkdir(parents=True, exist_ok=True)
    groups = read_texts(options.text, text.tokenizer, options.length)
    if options.own:
        groups += kept_texts(options, kinds)
    train(
        model, groups, options.out, steps=options.steps, lr=options.lr, per_step=options.per_step, drawn=options.drawn
    )
    model.save_pretrained(options.out)
    text.tokenizer.save_pretrained(options.out)
    print(f"a draft of {options.layers} layers with exits after {options.exits} is in {options.out}")


if __name__ == "__main__":
    main()
