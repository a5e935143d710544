"""The codec gives the token ids and texts of the tokenizer of transformers that it stands for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from treeagent.backends.models import catalog
from treeagent.backends.models.token_codec import TokenCodec

TEXTS = [
    "",
    " a",
    "3 + 4 = 7\n\n(left: 7)",
    "na\u00efve \u4f60\u597d \U0001f600\U0001f468\u200d\U0001f469",
    "\ufffd x",
    "<|endoftext|>a",
]


def _mini() -> Any:
    folder = Path(catalog.resolve("mini"))
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _byte_pieces() -> Any:
    """A byte-level vocabulary of single bytes, with added tokens that are special and others that are not."""
    mini = _mini()
    mini.add_tokens([AddedToken("<call \u4f60>", special=False), AddedToken("<s>", special=True)])
    return mini


def _byte_fallback() -> Any:
    """A vocabulary as of Llama 2, whose decoder strips the first blank."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abc3+47=(left:)\n"]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(dict.fromkeys(words))}, [], byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core)


class _Own(PreTrainedTokenizerFast):
    """A class that changes decoded texts."""

    def _decode(self, *args: Any, **kwargs: Any) -> str:
        return super()._decode(*args, **kwargs).upper()


def _own() -> Any:
    return _Own(tokenizer_object=_mini().backend_tokenizer)


def _truncating() -> Any:
    """A core that was saved with settings which no call of the class uses."""
    mini = _mini()
    mini.backend_tokenizer.enable_truncation(2)
    mini.backend_tokenizer.enable_padding(length=9)
    return mini


@pytest.mark.parametrize("build", [_mini, _byte_pieces, _byte_fallback, _own, _truncating])
def test_codec_equals_the_tokenizer_of_transformers(build: Any) -> None:
    """Of texts, and of random tokens, whose bytes are mostly no characters; unknown ids included."""
    tokenizer, codec = build(), TokenCodec(build())
    for text in TEXTS:
        for special in (False, True):
            ids = tokenizer(text, add_special_tokens=special)["input_ids"]
            assert codec.encode(text, add_special_tokens=special) == ids
            assert codec(ids) == tokenizer.decode(ids, skip_special_tokens=True)
    draw = random.Random(0)
    broken = 0
    for _ in range(3000):
        ids = [draw.randrange(min(len(tokenizer) + 3, draw.choice((260, 9999)))) for _ in range(draw.randrange(9))]
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        broken += "\ufffd" in text
        assert codec(ids) == text
    assert broken > 300
