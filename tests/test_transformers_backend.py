"""Plain batched decoding against the naive way, for samples, rows and families; what it counts and what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch
import transformers
from device import DEVICE
from naive_padding import PROMPTS, SETTINGS, ask, naive, naive_logits
from naive_padding import exact as exact  # noqa: PLC0414  the fixture
from naive_padding import folder as folder  # noqa: PLC0414  the fixture
from tiny_model import CONTEXT, tokenizer

from treeagent.backends.transformers import backend as backend_module
from treeagent.backends.transformers import generate as decoding
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.request import Key, Request, Sampling, ScoreRequest


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_batched_decoding_equals_naive_decoding(folder, dtype, settings):
    """A batch of padded prompts with three samples each gives the naive texts, token for token."""
    backend = TransformersBackend(folder, device=DEVICE, dtype=dtype)
    requests = [Request(prompt, Key(7, "propose", str(i)), settings, n=3) for i, prompt in enumerate(PROMPTS)]
    for request, reply in zip(requests, ask(backend, *requests), strict=True):
        expected = [naive(backend, request, sample) for sample in range(3)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected


SHAPE = {
    "vocab_size": len(tokenizer()),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": 0,
}
GPT2 = {"vocab_size": SHAPE["vocab_size"], "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 0}
FAMILIES = {
    "sliding window": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=8),
    "two kinds of layers": transformers.Gemma3TextConfig(**SHAPE, num_key_value_heads=2, head_dim=8, sliding_window=8),
    "learned positions": transformers.GPT2Config(**GPT2, n_positions=CONTEXT, initializer_range=0.25),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=list(FAMILIES))
def test_padding_is_right_for_other_families(tmp_path, config):
    """Models with sliding windows or other positions also give naive texts and scores from padded batches."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    backend = TransformersBackend(str(tmp_path), device=DEVICE, dtype="float64")
    requests = [Request(prompt, Key(7, "propose", str(i)), SETTINGS["warm"], n=2) for i, prompt in enumerate(PROMPTS)]
    for request, reply in zip(requests, ask(backend, *requests), strict=True):
        expected = [naive(backend, request, sample) for sample in range(2)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected
    prompt, rest = (backend._tokenizer().prompt(text) for text in (PROMPTS[1], "steps left"))
    logs = naive_logits(backend, prompt + rest).log_softmax(-1)[len(prompt) - 1 : -1]
    scores = asyncio.run(backend.score(ScoreRequest(PROMPTS[1], ("s", "steps left"))))
    assert scores.logprobs[1] == pytest.approx(float(logs[range(len(rest)), rest].sum()), abs=1e-10)


def test_rows_with_different_settings_share_a_batch(exact, monkeypatch):
    """Greedy, sampled and stopped rows of different lengths run in one batch, and equal their naive runs."""
    batches = []
    decode = decoding.decode
    monkeypatch.setattr(backend_module, "decode", lambda *args: (batches.append(len(args[1])), decode(*args)))
    requests = [
        Request(PROMPTS[i % 3], Key(3, "propose", str(i)), replace(settings, max_tokens=5 + 4 * i), n=1 + i % 2)
        for i, settings in enumerate(SETTINGS.values())
    ]
    replies = ask(exact, *requests)
    assert batches == [sum(request.n for request in requests)]
    for request, reply in zip(requests, replies, strict=True):
        expected = [naive(exact, request, sample) for sample in range(request.n)]
        assert [(completion.text, completion.finish) for completion in reply.completions] == expected


def test_samples_equal_in_batches_of_any_size(folder, exact):
    """``max_batch`` splits a request's samples over batches without changing them."""
    request = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=10), n=7)
    small = TransformersBackend(folder, device=DEVICE, dtype="float64", max_batch=3)
    assert ask(small, request) == ask(exact, request)


def test_more_samples_begin_with_the_same_ones(exact):
    """Sample i depends on its index alone: asking for fewer gives the first of them."""
    many = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=10), n=4)
    (four,), (two,) = ask(exact, many), ask(exact, replace(many, n=2))
    assert four.completions[:2] == two.completions
    assert len({completion.text for completion in four.completions}) == 4


def test_usage_counts_a_prompt_once_and_every_generated_token(exact):
    """Prompt tokens count once per request, completion tokens per sample and without the end of text."""
    request = Request(PROMPTS[1], Key(5, "propose", "0"), Sampling(temperature=1.0, max_tokens=6), n=3)
    (reply,) = ask(exact, request)
    assert reply.usage.calls == 1
    assert reply.usage.prompt_tokens == len(tokenizer()(PROMPTS[1])["input_ids"])
    assert reply.usage.completion_tokens == sum(len(completion.tokens) for completion in reply.completions)


def test_a_prompt_is_read_once_for_all_its_samples(exact, monkeypatch):
    """Requests with equal prompts share one prefill row."""
    widths = []
    forward = decoding.forward

    def spy(*args, **more):
        widths.append(tuple(args[1].shape))
        return forward(*args, **more)

    monkeypatch.setattr(decoding, "forward", spy)
    settings = Sampling(temperature=1.0, max_tokens=2)
    ask(exact, *(Request(PROMPTS[1], Key(5, "propose", str(i)), settings, n=2) for i in range(3)))
    assert widths[0][0] == 1
    assert widths[1:] == [(6, 1)]


def test_end_of_text_ends_a_completion_and_is_not_part_of_it(exact):
    """Some samples of this model end early, with finish ``stop`` and without the end-of-text token."""
    request = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(temperature=2.0, max_tokens=200), n=20)
    (reply,) = ask(exact, request)
    early = [completion for completion in reply.completions if completion.finish == "stop"]
    assert early
    assert all(0 not in completion.tokens and "endoftext" not in completion.text for completion in early)


def test_token_limit_is_clipped_to_the_context(exact):
    """A completion never outgrows the model's context."""
    prompt = "\n" * (CONTEXT - 3)
    (reply,) = ask(exact, Request(prompt, Key(1, "propose", "0"), Sampling(temperature=1.0, max_tokens=99)))
    assert len(reply.completions[0].tokens) <= 3


def test_too_long_a_prompt_fails_alone(exact):
    """A request that does not fit the context fails; the others of its batch are answered."""
    fine = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(max_tokens=3))

    async def run():
        long = exact.generate(replace(fine, prompt="\n" * (CONTEXT + 1)))
        scored = exact.score(ScoreRequest("\n" * CONTEXT, ("24",)))
        return await asyncio.gather(exact.generate(fine), long, scored, return_exceptions=True)

    answered, *failed = asyncio.run(run())
    assert answered.completions
    for error in failed:
        assert isinstance(error, RequestRefusedError)  # this request alone: its branch ends, not the search
        assert f"context is {CONTEXT}" in str(error)


def test_senseless_requests_fail_alone(exact):
    """A setting without meaning or an n of 0 is that request's error."""
    fine = Request(PROMPTS[0], Key(1, "propose", "0"), Sampling(max_tokens=3))

    async def run():
        bad = [replace(fine, n=0), replace(fine, sampling=Sampling(top_k=0))]
        return await asyncio.gather(*map(exact.generate, [fine, *bad]), return_exceptions=True)

    answered, *failed = asyncio.run(run())
    assert answered.completions
    assert [type(error) for error in failed] == [BackendError, BackendError]


def test_an_empty_prompt_is_completed(exact):
    """Without a beginning-of-text token the end-of-text token stands in."""
    (reply,) = ask(exact, Request("", Key(1, "propose", "0"), Sampling(max_tokens=3)))
    assert reply.usage.prompt_tokens == 1
