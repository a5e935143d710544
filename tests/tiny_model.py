"""A tiny random Llama with a byte-level tokenizer, written to a folder: a real model for tests, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 256
WORDS = ["Ġsteps", "Ġleft", "Ġthe", "abc", "bcd", "xyz", "Ġ4", "24", "sure", "likely", "impossible", "Ġis", "No"]


def tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """256 bytes, a few words, and an end-of-text token with id 0."""
    entries = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *WORDS]
    core = Tokenizer(models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=entries[0], pad_token=entries[0])
    if chat:
        made.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    return made


def save_tiny_model(folder: Path, *, seed: int = 0, chat: bool = False, eos_bias: float = 0.0) -> Path:
    """Write model and tokenizer to ``folder``; ``eos_bias`` makes the end of text likelier."""
    torch.manual_seed(seed)
    tokens = tokenizer(chat)
    config = LlamaConfig(
        vocab_size=len(tokens) + 2,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.25,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[-2:] = 0.0  # ids that the tokenizer does not have
        model.lm_head.weight[0] *= 1 + eos_bias
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder
