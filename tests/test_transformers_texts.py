"""Texts and scores of the backend ``transformers``: characters, stop strings, templates and log-probabilities."""

from __future__ import annotations

import asyncio

import pytest
from device import DEVICE
from naive_padding import PROMPTS, ask, naive_logits
from naive_padding import exact as exact  # noqa: PLC0414  the fixture
from naive_padding import folder as folder  # noqa: PLC0414  the fixture
from tiny_model import save_tiny_model, tokenizer

from treeagent.backends.local.detokenizer import IncrementalDetokenizer
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import Key, Request, Sampling, ScoreRequest


def test_scores_equal_the_teacher_forced_sums(exact):
    """Scores are summed log-probabilities of the continuation's own tokens after the prompt's."""
    tokens = tokenizer()
    requests = [
        ScoreRequest(PROMPTS[1], ("sure", "likely", "no such word", "")),
        ScoreRequest(PROMPTS[2], (" 4 left", "é")),
        ScoreRequest(PROMPTS[1], ("sure",)),
        ScoreRequest(PROMPTS[0], ()),
    ]

    async def run():
        return await asyncio.gather(*(exact.score(request) for request in requests))

    for request, scores in zip(requests, asyncio.run(run()), strict=True):
        prompt = tokens(request.prompt)["input_ids"]
        continuations = [tokens(text, add_special_tokens=False)["input_ids"] for text in request.continuations]
        expected = []
        for continuation in continuations:
            logs = naive_logits(exact, prompt + continuation).log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(continuation) - 1)
            expected.append(sum(float(logs[at, token]) for at, token in zip(places, continuation, strict=True)))
        assert scores.logprobs == pytest.approx(expected, abs=1e-10)
        assert scores.lengths == tuple(map(len, continuations))


def test_text_of_many_byte_characters_is_whole():
    """Characters spread over tokens appear once they are complete, and stop strings in them are found."""
    tokens = tokenizer()
    text = "né → 24 🌳 the end"
    ids = tokens(text, add_special_tokens=False)["input_ids"]
    stream = IncrementalDetokenizer(tokens.decode, tokens("prompt ")["input_ids"], ("🌳",))
    seen, stopped = [], False
    for token in ids:
        stopped = stream.push(token)
        seen.append(stream.text)
        if stopped:
            break
    assert stopped
    assert not any("\ufffd" in text for text in seen)
    before, kept = stream.before_cut(ids)
    assert before == "né → 24 "
    assert tokens.decode(list(kept)) == "né → 24 "


def test_a_stop_string_may_be_spread_over_tokens_and_begin_inside_one():
    """The text ends exactly before the stop string; kept tokens are those whose text lies before it."""
    tokens = tokenizer()
    ids = [tokens.convert_tokens_to_ids(token) for token in ("abc", "bcd", "xyz")]
    stream = IncrementalDetokenizer(tokens.decode, [], ("cdx", "zz"))
    assert [stream.push(token) for token in ids] == [False, False, True]
    assert stream.before_cut(ids) == ("abcb", (ids[0],))


def test_an_unfinished_character_is_kept_at_the_end():
    """What is held back when generation ends is added as the decoder shows it."""
    tokens = tokenizer()
    ids = tokens("a🌳", add_special_tokens=False)["input_ids"][:-1]
    stream = IncrementalDetokenizer(tokens.decode, [], ("zz",))
    assert [stream.push(token) for token in ids] == [False] * len(ids)
    assert stream.text == "a"
    assert not stream.finish()
    assert stream.before_cut(ids) == (tokens.decode(ids), tuple(ids))


def test_chat_models_get_their_template(tmp_path):
    """With a chat template the prompt is one user message, and the backend says so."""
    backend = TransformersBackend(str(save_tiny_model(tmp_path, chat=True)), device=DEVICE)
    assert "chat" in backend.capabilities
    (reply,) = ask(backend, Request("24", Key(0, "answer", ""), Sampling(max_tokens=2)))
    expected = tokenizer()("[user]24[assistant]", add_special_tokens=False)["input_ids"]
    assert reply.usage.prompt_tokens == len(expected)
    assert backend._tokenizer().prompt("24") == expected
