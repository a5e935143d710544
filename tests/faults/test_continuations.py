"""Continuations are tokenised in their prompt: a Llama 2 tokenizer puts a blank before every text of its own."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from treeagent.backends.models.tokenizer import ChatTokenizer


@pytest.fixture(scope="module")
def llama() -> ChatTokenizer:
    """Merges for ``▁sure`` and ``Answer``, and the normalizer of Llama 2."""
    words, merges = ["<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyzA:\n0123456789+"], []
    for word in ("\u2581sure", "Answer"):
        done = word[0]
        for letter in word[1:]:
            merges.append((done, letter))
            done += letter
            words.append(done)
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token="<unk>"))  # noqa: S106
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return ChatTokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"), chat=False)  # noqa: S106


@pytest.mark.parametrize(
    ("prompt", "continuations", "given", "scored"),
    [
        ("Answer:", [" sure"], "\u2581 Answer :", ["\u2581sure"]),
        ("a\n", ["4+9", "5"], "\u2581 a \n", ["4 + 9", "5"]),
        ("Answer:", ["", " sure"], "\u2581 Answer :", ["", "\u2581sure"]),
        # The border merges: all are scored from the last common token on.
        ("Answer: ", ["sure", "a"], "\u2581 Answer :", ["\u2581sure", "\u2581 a"]),
    ],
)
def test_continuations_have_the_tokens_of_prompt_and_continuation(
    llama: ChatTokenizer, prompt: str, continuations: list[str], given: str, scored: list[str]
) -> None:
    """Less those of the prompt; given and scored tokens together are those of the whole text."""
    pairs = llama.scored(prompt, continuations)
    words = [[llama.tokenizer.convert_ids_to_tokens(list(ids)) for ids in pair] for pair in pairs]
    assert words == [[given.split(" "), own.split(" ") if own else []] for own in scored]
