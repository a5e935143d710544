"""What the tests of the seed engine share: tiny models of several families, naive decoding, and replies of engines."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_model import CONTEXT, tokenizer

from treeagent.backend import Backend
from treeagent.backends.local import model_thread as worker
from treeagent.backends.local.detokenizer import decode_after
from treeagent.backends.models.loader import load_model
from treeagent.backends.models.model import Model
from treeagent.backends.models.tokenizer import ChatTokenizer, load_tokenizer
from treeagent.backends.sampling.sampler import choose
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import profiler as timing
from treeagent.backends.seed.executor.cost_table import CostTable
from treeagent.backends.seed.executor.early_exit import EarlyExitRunner
from treeagent.backends.seed.executor.model_runner import ModelRunner
from treeagent.backends.seed.executor.pass_cost import PassCost
from treeagent.backends.seed.executor.pass_work import PassWork
from treeagent.backends.seed.scheduler.scheduler import Scheduler
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling, ScoreRequest

Open = Callable[..., SeedBackend]
"""Opens and loads an engine with options."""

LIMIT = 300.0
"""Seconds after which a test calls it a hang; on a free machine everything here ends within one."""


def seconds(tokens: float) -> float:
    """Of a pass, as the engine's tests have it: like those of a small model on two cores."""
    return float(np.interp(tokens, (1, 16, 32, 64, 1024), (0.040, 0.050, 0.074, 0.120, 1.5)))


class FixedCost(PassCost):
    """Predictions that do not follow measured passes, as tests expect certain drafts."""

    def record(self, work: PassWork, seconds: float) -> float:
        """See :class:`PassCost`."""
        return self.table.predict(work)


def table(speed: float) -> PassCost:
    """Of a model that is this many times as fast."""
    tokens = (1, 16, 32, 64, 1024)
    return FixedCost(CostTable(tokens, tuple(seconds(count) / speed for count in tokens)))


COSTS, DRAFT_COSTS = table(1), table(20)
"""What tests go by instead of measured times, the latter for models in folders called ``*-draft``."""

SHAPE = {
    "vocab_size": len(tokenizer()) + 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": 0,
}
GPT2 = {"vocab_size": SHAPE["vocab_size"], "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
FAMILIES = {
    "llama": transformers.LlamaConfig(**SHAPE, num_key_value_heads=2),
    "llama-mha": transformers.LlamaConfig(**SHAPE, num_key_value_heads=4, attention_bias=True),
    "qwen3": transformers.Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=16),
    "mistral": transformers.MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None),
    "gpt-neox": transformers.GPTNeoXConfig(**SHAPE),
    "gpt2": transformers.GPT2Config(**GPT2, initializer_range=0.25, bos_token_id=None, eos_token_id=0),
}


MEASURED = timing.profile_cost
"""Real times, where :func:`fixed_costs` has put others."""


@contextmanager
def fixed_costs() -> Iterator[None]:
    """Engines are loaded without measuring this machine."""

    def table(runner: ModelRunner, dtype: str) -> PassCost:
        return DRAFT_COSTS if str(runner.weights.where).endswith("-draft") else COSTS

    def exits(runner: EarlyExitRunner) -> tuple[float, float]:
        return float(runner.exits[0]), float(runner.exits[-1])  # a look costs nothing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "profile_cost", table)
        patch.setattr(timing, "profile_exits", exits)
        yield


def save_model(folder: Path, config: Any, *, seed: int = 0, noise: float = 0.0) -> str:
    """Write a random model with the tiny tokenizer; ``noise`` makes a relative of the one with the same seed."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[0] *= 2  # texts end now and then
        if noise:
            for parameter in model.parameters():
                parameter.add_(noise * parameter.std(correction=0) * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


HEAD = "Use the numbers to make 24.\n"
PROMPTS = [HEAD + "Numbers: 4 5 6\nSteps:\n", HEAD + "Numbers: 4 9\nSteps:\n", "24", HEAD]


def request(prompt: int, place: int, n: int = 1, **sampling: Any) -> Request:
    """One of the prompts with settings."""
    return Request(PROMPTS[prompt], Key(7, "propose", str(place)), Sampling(**sampling), n)


MIX = [
    request(0, 0, max_tokens=18),
    request(0, 1, 2, temperature=0.2, max_tokens=14),
    request(1, 2, 2, temperature=0.7, top_p=0.8, max_tokens=16),
    request(1, 3, temperature=1.0, top_k=5, max_tokens=9),
    request(2, 4, 2, temperature=1.0, top_k=20, top_p=0.9, min_p=0.02, max_tokens=12),
    request(3, 5, 2, temperature=1.0, stop=tuple("abcdeost"), max_tokens=16),
    request(0, 6, max_tokens=1),
    request(3, 7, stop=("b", "é"), max_tokens=12),
    request(3, 8, 2, temperature=0.7, min_p=0.05, max_tokens=5),
]
"""Prompts that are equal, share beginnings or have nothing in common; greedy, sampled and stopped texts."""
FEW = [
    MIX[3],
    MIX[6],
    request(2, 9, temperature=1.0, top_k=20, top_p=0.9, min_p=0.02, max_tokens=8),
    request(3, 10, temperature=0.2, stop=tuple("abcdeost"), max_tokens=9),
    request(3, 11, 2, temperature=0.7, max_tokens=4),
]
"""Less of the same, for policies that take a pass per branch."""


@dataclass(frozen=True)
class Sampled:
    """What naive decoding gives for one sample."""

    text: str
    finish: str
    raw: tuple[int, ...]
    """Every token drawn, the end of text and the tokens of a stop string included."""


_KNOWN: dict[tuple[str, str], dict[tuple[str, int], Sampled]] = {}
"""Samples by model and dtype: tests in many files ask equal models the same."""


class Naive:
    """Decodes one sample alone, the whole text read again by the model's own forward for every token."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.folder, self.dtype = folder, dtype
        files = [Path(folder) / name for name in ("config.json", "model.safetensors", "tokenizer.json")]
        self.digest = hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()
        self._known = _KNOWN.setdefault((self.digest, dtype), {})

    @cached_property
    def model(self) -> Model:
        """As transformers runs it."""
        return load_model(Path(self.folder), self.dtype, torch.device("cpu"))

    @cached_property
    def text(self) -> ChatTokenizer:
        """Its tokenizer."""
        return load_tokenizer(Path(self.folder))

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """(T, V) of one text; in the models' thread, as two that compute would starve each other."""

        def forward() -> torch.Tensor:
            with torch.inference_mode():
                logits: torch.Tensor = self.model.network(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[
                    0
                ]
                return logits

        return worker.run(forward)

    def logprob(self, asked: Request, drawn: Sequence[int]) -> float:
        """The summed log-probability of all tokens drawn, from one forward over prompt and text, untempered."""
        prompt = self.text.prompt(asked.prompt)
        logs = self.logits([*prompt, *drawn[:-1]]).double().log_softmax(1)[len(prompt) - 1 :]
        return float(logs[range(len(drawn)), list(drawn)].sum())

    def sample(self, asked: Request, i: int) -> Sampled:
        """The request's ``i``-th sample."""
        if (asked.id, i) not in self._known:
            self._known[asked.id, i] = self._sample(asked, i)
        return self._known[asked.id, i]

    def _sample(self, asked: Request, i: int) -> Sampled:
        prompt, settings, stream = self.text.prompt(asked.prompt), asked.sampling, asked.key.stream(i)
        ids: list[int] = []
        while True:
            token = choose(self.logits(prompt + ids)[-1].numpy(), settings, stream, len(ids))
            text = decode_after(self.text.decode, prompt[-4:], ids)
            if token in self.model.eos:
                return Sampled(text, "stop", (*ids, token))
            ids.append(token)
            text = decode_after(self.text.decode, prompt[-4:], ids)
            if cuts := [text.find(stop) for stop in settings.stop if stop in text]:
                return Sampled(text[: min(cuts)], "stop", tuple(ids))
            if len(ids) == settings.max_tokens:
                return Sampled(text, "length", tuple(ids))

    def expected(self, requests: Sequence[Request]) -> list[list[tuple[str, str]]]:
        """ChatTokenizer and finish of every sample of every request."""
        made = [[self.sample(asked, i) for i in range(asked.n)] for asked in requests]
        return [[(sample.text, sample.finish) for sample in samples] for samples in made]

    def truth(self, requests: Sequence[Request]) -> dict[int, tuple[int, ...]]:
        """Raw tokens by stream, for drafters that are given the right tokens."""
        return {asked.key.stream(i): self.sample(asked, i).raw for asked in requests for i in range(asked.n)}


def told(replies: Sequence[Reply]) -> list[list[tuple[str, str]]]:
    """Replies as :meth:`Naive.expected` has them."""
    return [[(completion.text, completion.finish) for completion in reply.completions] for reply in replies]


def ask(backend: Backend, *requests: Request, errors: bool = False) -> list[Any]:
    """Replies to requests that are awaited together (or the errors, if so asked), within the time limit."""

    async def run() -> list[Any]:
        together = asyncio.gather(*(backend.generate(asked) for asked in requests), return_exceptions=errors)
        return await asyncio.wait_for(together, LIMIT)

    return asyncio.run(run())


def scored(backend: Backend, asked: ScoreRequest) -> list[float]:
    """Log-probabilities of the continuations."""
    return list(asyncio.run(backend.score(asked)).logprobs)


def tokenizer_size() -> int:
    """Ids of the tiny models, the tokenizer's and two more."""
    return int(SHAPE["vocab_size"])


def scheduler(backend: SeedBackend) -> Scheduler:
    """Of a loaded engine."""
    assert backend.core.parts is not None
    return backend.core.parts.scheduler


def clean(backend: SeedBackend) -> None:
    """Wait for the last round; then nothing may be live, pinned or lost, in the target's forest or the draft's."""
    idle(backend)
    parts = backend.core.parts
    assert parts is not None
    assert not parts.scheduler.busy
    for runner in filter(None, (parts.scheduler.runner, parts.draft_runner)):
        runner.forest.check()
        assert runner.forest.pool.used == runner.forest.tokens  # what is in use is cached
        assert not any(node.ref_count for node in runner.forest.nodes())


def idle(backend: SeedBackend) -> None:
    """Wait for the last round, which may be under way yet when everything is answered."""
    began = time.monotonic()
    while backend.core.working:
        assert time.monotonic() < began + LIMIT, "rounds are made for nobody"
        worker.run(lambda: None)
