"""The network of a DFlash head (Chen et al., arXiv 2602.06036), with the names of its checkpoints.

A head fills a block at once: the text's last token and masks are its queries, and attend to one another and to keys and
values of the tokens before, which each layer makes of one fused state of the target.
F features, E hidden size of the head, W draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .dflash_config import DFlashConfig
from .eagle3_network import HeadMlp, HeadRotary, head_norm
from .head_file import LayerFile


class DFlashNetwork(nn.Module):
    """Decoder layers over blocks, a fusion of the target's states, and an output head where it has its own."""

    def __init__(self, config: DFlashConfig, *, head: bool) -> None:
        """``head``: with an output head of its own. The weights lie where torch's default device says."""
        super().__init__()
        layer = config.layer
        self.config = config
        self.fc = nn.Linear(len(config.features) * config.target_width, layer.hidden_size, bias=False)
        self.hidden_norm = head_norm(layer.hidden_size, layer)
        self.layers = nn.ModuleList(_BlockLayer(layer) for _ in config.attention)
        self.norm = head_norm(layer.hidden_size, layer)
        self.lm_head = nn.Linear(layer.hidden_size, config.draft_vocabulary, bias=False) if head else None
        self.rotary = HeadRotary(layer)


class _BlockLayer(nn.Module):
    def __init__(self, layer: LayerFile) -> None:
        super().__init__()
        self.input_layernorm = head_norm(layer.hidden_size, layer)
        self.post_attention_layernorm = head_norm(layer.hidden_size, layer)
        self.self_attn = _BlockAttention(layer)
        self.mlp = HeadMlp(layer)


class _BlockAttention(nn.Module):
    def __init__(self, layer: LayerFile) -> None:
        super().__init__()
        queries, keys = layer.num_attention_heads * layer.head_dim, layer.num_key_value_heads * layer.head_dim
        bias = layer.attention_bias
        self.q_proj = nn.Linear(layer.hidden_size, queries, bias=bias)
        self.k_proj = nn.Linear(layer.hidden_size, keys, bias=bias)
        self.v_proj = nn.Linear(layer.hidden_size, keys, bias=bias)
        self.o_proj = nn.Linear(queries, layer.hidden_size, bias=bias)
        self.q_norm = head_norm(layer.head_dim, layer)
        self.k_norm = head_norm(layer.head_dim, layer)


def bare_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint without the prefix that some have."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
