"""The tokenizer of the bundled models: byte-level BPE without merges, Llama-3 pre-tokenizer, ``ignore_merges``.

Every whole number up to 999 and every word of the prompts is one token; anything else falls back to its bytes,
so any text round-trips.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"

# The pattern published with Llama 3: words with their leading space, numbers in groups of three digits, punctuation.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is 256 bytes, the numbers to 999 and every piece that the texts contain."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = {piece for text in texts for piece, _ in split.pre_tokenize_str(text)}
    numbers = [str(number) for number in range(10, 1000)]
    words = sorted(piece for piece in pieces if len(piece) > 1 and not piece.isdigit())
    entries = [END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet()), *numbers, *words]
    tokenizer = Tokenizer(
        models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
