"""Train an EAGLE-3 head: ``python -m treeagent.backends.training.train_eagle3 --model M --own 2000 --out HEAD``.

The head learns from what a Llama-style model itself writes after built-in prompts of tree searches, of other seeds than
the benchmark's, and from text files, with training-time test (Li et al., arXiv 2503.01840). The target's states are
computed once and kept on disk. Checkpoints every few minutes, each of them a head that can be used; resumes where it
stopped; logs one JSON line per interval, with the share of drafted tokens that agree with the target's by position.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from treeagent.errors import ConfigError, ModelError, TreeagentError

from ..local.base import find_device
from ..models import catalog
from ..models.loader import load_model
from ..models.tokenizer import load_tokenizer
from ..seed.drafters.heads.eagle3_config import Eagle3Config, usual_features
from ..seed.drafters.heads.eagle3_network import Eagle3Network
from ..seed.drafters.heads.head_file import LayerFile
from .eagle3_loss import PairBatch, draft_loss, target_states, unrolled
from .loop import apply_step, log_line, save_whole
from .packed_texts import Text
from .train_early_exit import OWN_KINDS, bfloat16_is_faster, kept_texts, kinds_of, read_texts, schedule, steps_of

STATES = "states"
"""Folder of the target's states, one file a group."""


def head_config(model: Any, drafted: int, name: str) -> Eagle3Config:
    """A head of one layer like the model's. Raises ModelError for a model of another style."""
    config = model.config
    if not hasattr(model, "lm_head") or not hasattr(getattr(model, "model", None), "layers"):
        raise ModelError(f"{type(model).__name__} is no Llama-style model (layers, a final norm, an output head)")
    layer = LayerFile(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        rms_norm_eps=config.rms_norm_eps,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=dict(config.rope_parameters),
    )
    features = usual_features(config.num_hidden_layers)
    return Eagle3Config(layer, drafted, config.hidden_size, features, name, norm_before_residual=True)


def draft_ids(groups: Sequence[list[Text]], vocabulary: int, count: int) -> torch.Tensor:
    """The ids (W,), ascending, of the tokens that are predicted most often in texts."""
    counts: Counter[int] = Counter()
    for texts in groups:
        for ids, weights in texts:
            counts.update(token for token, weight in zip(ids[1:], weights, strict=False) if weight)
    order = sorted(range(vocabulary), key=lambda token: (-counts[token], token))
    return torch.tensor(sorted(order[:count]))


def write_head(network: Eagle3Network, ids: torch.Tensor, folder: Path) -> None:
    """Write a head in the format of ``speculators``; embeddings are the target's."""
    config = network.config
    said = {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_config": {"algorithm": "eagle3", "verifier": {"name_or_path": config.verifier}},
        "draft_vocab_size": config.draft_vocabulary,
        "norm_before_residual": config.norm_before_residual,
        "target_hidden_size": config.target_width,
        "eagle_aux_hidden_state_layer_ids": list(config.features or ()),
        "transformer_layer_config": config.layer.model_dump(),
    }
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n")
    tensors = {
        name.replace("midlayer.", "layers.0."): value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    known = torch.zeros(config.layer.vocab_size, dtype=torch.bool)
    known[ids] = True
    new = folder / "model.new"
    save_file(tensors | {"d2t": ids - torch.arange(len(ids)), "t2d": known}, new)
    new.replace(folder / "model.safetensors")


class StateFiles:
    """The target's states for each group of texts, computed once and kept on disk in half precision."""

    def __init__(self, folder: Path, model: Any, layers: Sequence[int]) -> None:
        self._folder, self._model, self._layers = folder, model, layers
        folder.mkdir(exist_ok=True)

    def of(self, number: int, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """States of the layers (T, F * E), and those that enter the output head (T, E)."""
        path = self._folder / f"{number}.pt"
        if not path.exists():
            states, final = target_states(self._model, batch, self._layers)
            save_whole({"states": states.bfloat16().cpu(), "final": final.bfloat16().cpu()}, path)
        held = torch.load(path, weights_only=True)
        device = batch.tokens.device
        return held["states"].to(device).float(), held["final"].to(device).float()


def train(
    model: Any, network: Eagle3Network, groups: Sequence[list[Text]], ids: torch.Tensor, options: argparse.Namespace
) -> None:
    """Train the head, resuming from ``out/checkpoint.pt`` when it is there."""
    out, device = options.out, model.device
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=(0.9, 0.95), weight_decay=0.0)
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    files = StateFiles(out / STATES, model, network.config.features_of(model.config.num_hidden_layers))
    head = model.lm_head.weight.detach()[ids.to(device)].float()
    numbers = {id(group): number for number, group in enumerate(groups)}
    faster = bfloat16_is_faster(device)
    feed, began, mean = steps_of(groups, 1, 0), time.monotonic(), 0.0
    agreed = [[0.0, 0.0] for _ in range(options.unroll)]
    for step in range(options.steps):
        [group] = next(feed)
        if step < first:
            continue
        batch = PairBatch.of(group, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=faster):
            states, final = files.of(numbers[id(group)], batch)
            logits = unrolled(network, model.model.embed_tokens, batch, states, options.unroll)
            loss, counts = draft_loss(logits, batch, final, head)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        apply_step(parameters, [optimizer], options.lr * schedule(step, options.steps))
        mean = loss.item() if step == first else 0.95 * mean + 0.05 * loss.item()
        for own, count in zip(agreed, counts, strict=True):
            own[:] = [0.95 * before + new for before, new in zip(own, count, strict=True)]
        if step % 20 == 0 or step == options.steps - 1:
            shares = [round(right / max(whole, 1e-9), 4) for right, whole in agreed]
            seconds = round(time.monotonic() - began)
            log_line(out, {"step": step, "loss": round(mean, 4), "agreed": shares, "s": seconds})
        if step % 50 == 49 or step == options.steps - 1:
            trained = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_whole(trained, checkpoint)
            write_head(network, ids, out)


def main(words: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name, a folder or a hub id of a Llama-style model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the head, its log, texts and checkpoint")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text files to learn from")
    parser.add_argument("--own", type=int, default=0, help="texts that the model writes itself and learns from")
    parser.add_argument("--kinds", default=",".join(OWN_KINDS), help="kinds of built-in prompts that it writes after")
    parser.add_argument("--length", type=int, default=512, help="tokens of a piece of a text file")
    parser.add_argument("--group", type=int, default=8, help="own texts of one kind that are read together in a step")
    parser.add_argument("--draft-vocab", type=int, default=8192, help="tokens that the head can draft")
    parser.add_argument("--unroll", type=int, default=4, help="steps of a draft that are learnt at every position")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda where there is one")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(words)
    try:
        run(options)
    except TreeagentError as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    """Gather texts, train, write the head. Raises TreeagentError."""
    if not options.text and not options.own:
        raise ConfigError("nothing to learn from: give --text FILE, or --own 2000 for texts of the model's own")
    for name in ("draft_vocab", "unroll", "steps", "group"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    kinds, where = kinds_of(options.kinds), catalog.resolve(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    groups = read_texts(options.text, load_tokenizer(where).tokenizer, options.length)
    if options.own:
        groups += kept_texts(options, kinds)
    groups = [texts for texts in groups if len(PairBatch.of(texts).places())]
    if not groups:
        raise ConfigError("the texts are too short to learn from: none has two new tokens; give other --kinds")
    model = load_model(where, "float32", find_device(options.device)).network.requires_grad_(False)
    ids = draft_ids(groups, model.config.vocab_size, min(options.draft_vocab, model.config.vocab_size))
    torch.manual_seed(0)
    network = Eagle3Network(head_config(model, len(ids), options.model), 3).to(model.device)
    with torch.no_grad():  # the target's own output is the best beginning
        network.lm_head.weight.copy_(model.lm_head.weight[ids.to(model.device)])
        network.norm.weight.copy_(model.model.norm.weight)
    train(model, network, groups, ids, options)
    print(f"an EAGLE-3 head of {options.model} for {len(ids)} tokens is in {options.out}")


if __name__ == "__main__":
    main()
