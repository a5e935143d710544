"""Text to token ids and back through the ``tokenizers`` library itself.

The classes of transformers around it add ten times its own time to each call, and its decoder gives up Python's lock,
which a busy thread takes for milliseconds. A byte-level vocabulary (GPT-2's, Llama 3's, Qwen's) needs no decoder: the
text of a list of tokens is that of their bytes in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import tokenizers
import transformers

_METHODS = ("__call__", "_encode_plus", "decode", "_decode")
"""What a class of transformers replaces where a tokenizer is more than its ``tokenizers`` core."""


class TokenCodec:
    """Encodes and decodes as the tokenizer of transformers does that it is made of."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core = _core(tokenizer)
        byte_level = self._core is not None and isinstance(self._core.decoder, tokenizers.decoders.ByteLevel)
        self._bytes = _TokenBytes(self._core) if self._core is not None and byte_level else None
        self.pieces = None if self._bytes is None else TokenPieces(self._bytes)
        """The text of single tokens; None where it depends on the tokens around them."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, with those that the tokenizer puts around texts if so asked."""
        if self._core is None:
            return list(self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
        ids: list[int] = self._core.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def __call__(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special tokens have none."""
        if self._bytes is not None:
            return b"".join([self._bytes[token] for token in tokens]).decode(errors="replace")
        text: str
        if self._core is not None:
            text = self._core.decode(list(tokens), skip_special_tokens=True)
        else:
            text = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class _TokenBytes(dict[int, bytes]):
    """The bytes of each token of a byte-level vocabulary, none for special tokens; filled as they are asked for."""

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        super().__init__()
        self._core = core

    def __missing__(self, token: int) -> bytes:
        text = self._core.decode([token], skip_special_tokens=True)
        known = text.encode()
        if "\ufffd" in text:  # a part of a character
            word = self._core.id_to_token(token) or ""
            alphabet = _byte_of_character()
            known = bytes(alphabet[each] for each in word) if alphabet.keys() >= set(word) else word.encode()
        self[token] = known
        return known


class TokenPieces(dict[int, "str | None"]):
    """The text of each token of a byte-level vocabulary, wherever it stands; filled as it is asked for.

    None for a part of a character, and for U+FFFD, which looks like one.
    """

    def __init__(self, known: _TokenBytes) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, token: int) -> str | None:
        text = self._known[token].decode(errors="replace")
        piece = self[token] = None if "\ufffd" in text else text
        return piece


@cache
def _byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's ``bytes_to_unicode``, reversed)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _core(tokenizer: Any) -> tokenizers.Tokenizer | None:
    """The core of a tokenizer whose class adds nothing, set as the class sets it for each call; None for another."""
    usual = transformers.PreTrainedTokenizerFast
    if not all(getattr(type(tokenizer), method, None) is getattr(usual, method) for method in _METHODS):
        return None
    core: tokenizers.Tokenizer = tokenizer.backend_tokenizer
    core.no_truncation()
    core.no_padding()
    core.encode_special_tokens = tokenizer.split_special_tokens
    return core
