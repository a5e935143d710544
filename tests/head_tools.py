"""Random EAGLE-3 heads for tiny targets, in both formats, and what such a head says of a text without any cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
import transformers
from device import DEVICE
from numpy.typing import NDArray
from safetensors.torch import save_file
from seed_tools import fixed_costs

from treeagent.backends.models.loader import load_model
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.drafters.heads.checkpoint import load_network, read_tensors, target_ids
from treeagent.backends.seed.drafters.heads.eagle3_config import Eagle3Config
from treeagent.backends.seed.drafters.heads.eagle3_network import Eagle3Network, original_names
from treeagent.backends.seed.drafters.heads.head_config import read_head_config
from treeagent.backends.seed.drafters.model.drafter import ModelDrafter
from treeagent.backends.seed.drafters.model.tree_builder import TreeBuilder

HEADS, KEY_HEADS, DIM, INNER = 4, 2, 8, 40


def save_head(
    folder: Path, target: str, *, drafted: int | None = None, speculators: bool = False, seed: int = 0, **said: Any
) -> str:
    """Write a random head that drafts so many of the target's tokens (None: all); ``said`` goes into its config."""
    config = transformers.AutoConfig.from_pretrained(target, trust_remote_code=False)
    width, vocabulary = int(config.hidden_size), int(config.vocab_size)
    layer = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": DIM,
        "num_hidden_layers": 1,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "vocab_size": vocabulary,
        "max_position_embeddings": 256,
    }
    if speculators:
        verifier = {"name_or_path": target, "architectures": ["LlamaForCausalLM"]}
        whole: dict[str, Any] = {
            "architectures": ["Eagle3Speculator"],
            "speculators_model_type": "eagle3",
            "speculators_config": {"algorithm": "eagle3", "verifier": verifier},
            "transformer_layer_config": layer,
        }
    else:
        whole = {"architectures": ["LlamaForCausalLMEagle3"], **layer}
    whole |= {"draft_vocab_size": drafted or vocabulary, **said}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(whole))
    read = read_head_config(folder, "head")
    assert isinstance(read, Eagle3Config)
    torch.manual_seed(seed)
    network = Eagle3Network(read, 3)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if drafted is not None:
        ids = torch.randperm(vocabulary)[:drafted].sort().values
        tensors |= {"d2t": ids - torch.arange(drafted), "t2d": torch.zeros(vocabulary).bool().scatter_(0, ids, True)}
    if speculators:
        tensors["embed_tokens.weight"] = torch.randn(vocabulary, width)
        tensors = {name.replace("midlayer.", "layers.0."): tensor for name, tensor in tensors.items()}
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return str(folder)


def engine(target: str, head: str, dtype: str = "float64", **options: Any) -> SeedBackend:
    """Loaded, with fixed costs; five drafted tokens where nothing else is said."""
    with fixed_costs():
        backend = SeedBackend(target, draft=head, device=DEVICE, dtype=dtype, **{"draft_tokens": 5, **options})
        backend.load()
    return backend


def with_memory_for(backend: SeedBackend, slots: int) -> SeedBackend:
    """The loaded backend with an empty cache of so many slots."""
    assert backend.core.parts is not None
    runner = backend.core.parts.scheduler.runner
    with fixed_costs():
        runner.memory = slots * runner.forest.pool.slot_bytes
        backend.reset()
    return backend


class Plain(Protocol):
    """A head over whole texts."""

    ids: torch.Tensor
    """(W,) tokens that it can draft."""

    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """Logits (W,) after a text and drafted tokens."""


class Heard:
    """What a head said of each growing node of its drafts."""

    def __init__(self, backend: SeedBackend, patch: pytest.MonkeyPatch) -> None:
        drafter = backend.core.parts.scheduler.speculator.drafter  # type: ignore[union-attr]
        assert isinstance(drafter, ModelDrafter)
        self.said: list[tuple[tuple[int, ...], tuple[int, ...], NDArray[Any]]] = []
        grow = drafter.shape.grow

        def growing(builders: Sequence[TreeBuilder], level: int, logits: NDArray[Any], floor: float) -> None:
            nodes = [(builder, node) for builder in builders for node in builder.growing]
            for (builder, node), row in zip(nodes, logits, strict=True):
                path, above = [], node
                while above >= 0:
                    path.append(builder.draft.tokens[above])
                    above = builder.draft.parents[above]
                self.said.append((tuple(builder.row.tokens), tuple(path[::-1]), row.copy()))
            grow(builders, level, logits, floor)

        patch.setattr(drafter.shape, "grow", growing)

    def worst(self, plain: Plain, every: int) -> float:
        """The largest difference from the plain head, over one in so many nodes."""
        worst = 0.0
        for tokens, path, row in self.said[::every]:
            expected = torch.full((len(row),), -np.inf, dtype=torch.float64)
            expected[plain.ids] = plain.logits(tokens, path).double()
            assert (np.isfinite(row) == np.isfinite(expected.numpy())).all()
            sound = np.isfinite(row)
            worst = max(worst, float(np.abs(row[sound] - expected.numpy()[sound]).max()))
        return worst


class PlainHead:
    """A head over whole texts, without any cache: what the engine's passes are held against."""

    def __init__(self, folder: str, target: str, dtype: torch.dtype) -> None:
        read = read_head_config(Path(folder), "head")
        assert isinstance(read, Eagle3Config)
        self.config: Eagle3Config = read
        tensors = original_names(read_tensors(Path(folder)))
        self.network = load_network(lambda: Eagle3Network(read, 3), tensors, "head", "", dtype)
        self.target = load_model(Path(target), str(dtype).removeprefix("torch."), torch.device("cpu")).network
        own = tensors.get("embed_tokens.weight")
        self._embedding = self.target.get_input_embeddings().weight if own is None else own.to(dtype)
        self.ids = target_ids(read.draft_vocabulary, read.layer.vocab_size, tensors, read.layer.vocab_size, "head")

    def logits(self, tokens: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """Logits (W,) after a text and drafted tokens, of the tokens that can be drafted."""
        with torch.inference_mode():
            out = self.target(input_ids=torch.tensor([list(tokens[:-1])]), output_hidden_states=True, use_cache=False)
            layers = self.config.features_of(len(out.hidden_states) - 1)
            hidden = self.network.fuse(torch.cat([out.hidden_states[layer][0] for layer in layers], dim=1))
            read = list(tokens[1:])
            for token in path:
                hidden = torch.cat((hidden, self._outputs(hidden, read)[-1:]))
                read.append(token)
            return self.network.logits(self._outputs(hidden, read)[-1])

    def _outputs(self, hidden: torch.Tensor, read: Sequence[int]) -> torch.Tensor:
        layer = self.network.midlayer
        both, residual = layer.project(self._embedding[list(read)], hidden)
        attention, count = layer.self_attn, len(read)
        shape = [(attention.q_proj, HEADS), (attention.k_proj, KEY_HEADS), (attention.v_proj, KEY_HEADS)]
        q, k, v = (project(both).view(count, heads, DIM).transpose(0, 1) for project, heads in shape)
        cos, sin = self.network.rotary(both, torch.arange(count)[None])
        q, k = (x * cos + torch.cat((-x[..., DIM // 2 :], x[..., : DIM // 2]), dim=-1) * sin for x in (q, k))
        attended = torch.nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=True, enable_gqa=True
        )
        out: torch.Tensor = layer.finish(attended[0].transpose(0, 1).reshape(count, -1), residual)
        return self.network.norm(out) if self.config.norm_output else out
