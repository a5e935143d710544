"""A real model: the engine's greedy texts are those of transformers' own generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from device import DEVICE
from seed_tools import ask, idle

from treeagent.backends.local import model_thread as worker
from treeagent.backends.models import catalog as models
from treeagent.backends.seed.backend import SeedBackend
from treeagent.request import Key, Request, Sampling

FOLDER = next(named for named in models.list_models() if named.name == "smollm2")

pytestmark = [
    pytest.mark.smollm2,
    pytest.mark.usefixtures("fixed_times"),
    pytest.mark.skipif(not FOLDER.available, reason="not fetched"),
]

PROMPTS = [
    "Numbers: 4 5 6\nPossible next steps:\n4 + 5 = 9 (left: 6 9)\n",
    "Numbers: 4 5 6\nPossible next steps:\n4 * 5 = 20 (left: 6 20)\n",
    "The quick brown fox jumps over the lazy dog. The quick brown",
    "Once upon a time",
]
TOKENS = 24


@pytest.fixture(scope="module")
def generated() -> list[list[int]]:
    """What transformers' own loop continues each prompt with, one at a time."""

    def run() -> list[list[int]]:
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(
            FOLDER.where, dtype=torch.float32, trust_remote_code=False, attn_implementation="sdpa"
        )
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(FOLDER.where, trust_remote_code=False)
        texts = []
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")
            out = network.generate(**ids, max_new_tokens=TOKENS, do_sample=False)[0, ids["input_ids"].shape[1] :]
            texts.append([token for token in out.tolist() if token != network.generation_config.eos_token_id])
        return texts

    return worker.run(run)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("drafter", "draft_tokens"), [("none", None), ("ngram", None), ("ngram", 6)])
def test_greedy_texts_are_those_of_generate(
    generated: list[list[int]], drafter: str, draft_tokens: int | None, tmp_path: Path
) -> None:
    """In float32, four prompts at once, with and without drafts, twice: the second time tables contain the texts."""
    backend = SeedBackend(str(FOLDER.where), device=DEVICE, drafter=drafter, draft_tokens=draft_tokens, chat=False)
    requests = [
        Request(prompt, Key(0, "propose", str(place)), Sampling(max_tokens=TOKENS))
        for place, prompt in enumerate(PROMPTS)
    ]
    read = backend.meter()
    for _ in range(2):
        assert [list(reply.completions[0].tokens) for reply in ask(backend, *requests)] == generated
    idle(backend)
    backend.check()
    assert (read()["accepted"] > 0) == (drafter != "none")
