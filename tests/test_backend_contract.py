"""Every backend keeps the contract of :class:`treeagent.testing.BackendContract`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import openai_server
import pytest
from device import DEVICE
from tiny_model import save_tiny_model

from treeagent.backend import Backend
from treeagent.backends.models import catalog as models
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.replay import ReplayBackend
from treeagent.backends.scripted import ScriptedBackend
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ConfigError
from treeagent.runtime.journal import FORMAT, completion_event, scores_event
from treeagent.testing import BackendContract
from treeagent.testing.backend import REQUESTS, SCORINGS

Open = Callable[[], Backend]

pytestmark = pytest.mark.usefixtures("fixed_times")

SLOT = 2 * 2 * 2 * 8 * 4
"""Bytes of one token in the tiny model: layers, key and value, heads, dimension, bytes of a number."""


def record(backend: Backend, path: Path) -> Path:
    """A journal in which the backend has answered everything that the contract asks."""

    async def run() -> list[dict[str, object]]:
        events = [completion_event(r.id, r.key.role, r.prompt, await backend.generate(r)) for r in REQUESTS]
        events += [scores_event(r.id, r.prompt, await backend.score(r)) for r in SCORINGS]
        return [{"type": event.type, "t": 0.0, **event.data} for event in events]

    lines = [{"type": "run", "format": FORMAT, "t": 0.0}, *asyncio.run(run())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Servers that speak OpenAI's protocol, as different as they are."""
    kinds = {
        "vllm": openai_server.Model("vllm"),
        "llamacpp": openai_server.Model("llamacpp", echo=False),
        "ignores-n": openai_server.Model("vllm", n=False, usage=False, logprobs=False),
    }
    with ExitStack() as stack:
        yield {name: stack.enter_context(openai_server.Server(kind).listening()).url for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory, urls: dict[str, str]) -> dict[str, Open]:
    folder = tmp_path_factory.mktemp("contract")
    plain = str(save_tiny_model(folder / "plain"))
    chat = str(save_tiny_model(folder / "chat", chat=True))
    journal = record(TransformersBackend(plain, device=DEVICE), folder / "run.jsonl")
    return {
        "transformers": lambda: TransformersBackend(plain, device=DEVICE),
        "transformers-small-batches": lambda: TransformersBackend(plain, device=DEVICE, max_batch=2),
        "transformers-chat": lambda: TransformersBackend(chat, device=DEVICE),
        "seed": lambda: SeedBackend(plain, device=DEVICE),
        "seed-draft": lambda: SeedBackend(plain, draft=plain, device=DEVICE, draft_tokens=3),
        "seed-little-memory": lambda: SeedBackend(plain, device=DEVICE, kv_memory=50 * SLOT / 1e6, chunk=7, max_rows=4),
        "seed-rejection": lambda: SeedBackend(plain, draft=plain, device=DEVICE, draft_tokens=3, verify="rejection"),
        "seed-chat": lambda: SeedBackend(chat, device=DEVICE, policy="fcfs"),
        "scripted": lambda: ScriptedBackend(lambda request: ["4 + 5 = 9", f"no {request.prompt}"]),
        "scripted-scores": lambda: ScriptedBackend(lambda request: "sure", scores=lambda prompt, text: -len(text)),
        "replay": lambda: ReplayBackend(journal),
        "openai": lambda: OpenAIBackend(base_url=urls["vllm"]),
        "openai-plain": lambda: OpenAIBackend("toy", base_url=urls["vllm"], chat=False, deterministic=True),
        "openai-one-at-a-time": lambda: OpenAIBackend(base_url=urls["llamacpp"], deterministic=True, concurrency=1),
        "openai-ignores-n": lambda: OpenAIBackend(base_url=urls["ignores-n"]),
    }


KINDS = (
    "transformers",
    "transformers-small-batches",
    "transformers-chat",
    "seed",
    "seed-draft",
    "seed-little-memory",
    "seed-rejection",
    "seed-chat",
    "scripted",
    "scripted-scores",
    "replay",
    "openai",
    "openai-plain",
    "openai-one-at-a-time",
    "openai-ignores-n",
)


@pytest.mark.sampled(2, shifted=True)
class TestEveryKindOfBackend(BackendContract):
    """Each of ours with several sets of options."""

    @pytest.fixture(autouse=True, params=KINDS)
    def _kind(self, request: pytest.FixtureRequest, backends: dict[str, Open]) -> None:
        self.opener = backends[request.param]

    def open(self) -> Backend:
        return self.opener()


@pytest.mark.exhaustive
@pytest.mark.smollm2
@pytest.mark.skipif(
    not next(named for named in models.list_models() if named.name == "smollm2").available, reason="not fetched"
)
class TestARealModel(BackendContract):
    """The fetched SmolLM2."""

    def open(self) -> Backend:
        return TransformersBackend("smollm2", device=DEVICE)


@pytest.mark.parametrize("kind", [TransformersBackend, SeedBackend, ScriptedBackend, ReplayBackend, OpenAIBackend])
def test_unknown_options_are_refused(kind):
    """Opening a backend with an option that it does not have is an error that names the option."""
    with pytest.raises(ConfigError, match="dtpe"):
        kind.open("mini", {"dtpe": "float32"})


def test_a_described_backend_can_be_opened_again(backends):
    """``open`` takes what ``describe`` tells."""
    for kind in ("transformers-small-batches", "seed-little-memory", "replay", "openai", "openai-plain"):
        backend = backends[kind]()
        told = backend.describe()
        assert type(backend).open(told["model"], told["options"]).describe() == told
