"""Naive decoding for batches of the backend ``transformers``: one sample alone, the whole text read for every token."""

from __future__ import annotations

import asyncio

import pytest
import torch
from device import DEVICE
from tiny_model import save_tiny_model

from treeagent.backends.local.detokenizer import decode_after
from treeagent.backends.sampling.sampler import choose
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.request import Sampling

PROMPTS = ["24", "Numbers: 4 5 6\nSteps:\n", "a much longer prompt, so that the rows are padded: " + "abc " * 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny"), eos_bias=1.0))


@pytest.fixture(scope="module")
def exact(folder):
    """A backend in float64, where rounding cannot hide a difference."""
    return TransformersBackend(folder, device=DEVICE, dtype="float64")


def ask(backend, *requests):
    """The replies to requests that are awaited together."""

    async def run():
        return await asyncio.gather(*(backend.generate(request) for request in requests))

    return asyncio.run(run())


def naive_logits(backend, ids):
    """Logits (T, V) of one text, read alone and without a cache."""
    with torch.inference_mode():
        return backend._network().network(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def naive(backend, request, sample):
    """One completion, decoded alone, token by token, without a cache; the text is scanned whole every time."""
    text, model = backend._tokenizer(), backend._network()
    prompt, ids = text.prompt(request.prompt), []
    settings, stream = request.sampling, request.key.stream(sample)

    def read():
        return decode_after(text.decode, prompt[-4:], ids)

    while True:
        token = choose(naive_logits(backend, prompt + ids)[-1].numpy(), settings, stream, len(ids))
        if token in model.eos:
            return read(), "stop"
        ids.append(token)
        if cuts := [read().find(stop) for stop in settings.stop if stop in read()]:
            return read()[: min(cuts)], "stop"
        if len(ids) == settings.max_tokens:
            return read(), "length"


SETTINGS = {
    "greedy": Sampling(max_tokens=24),
    "cool": Sampling(temperature=0.2, max_tokens=24),
    "warm": Sampling(temperature=0.7, max_tokens=24),
    "top-k": Sampling(temperature=1.0, top_k=5, max_tokens=24),
    "top-p": Sampling(temperature=0.7, top_p=0.8, max_tokens=24),
    "all warpers": Sampling(temperature=1.0, top_k=20, top_p=0.9, min_p=0.02, max_tokens=24),
    "stop": Sampling(temperature=1.0, max_tokens=24, stop=("a", "left", "é")),
}
