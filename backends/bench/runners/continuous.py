"""transformers' continuous batching: a thread that serves a queue of requests from a paged cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import ContinuousBatchingConfig

from ...models.model import Model
from ..config.plan import BenchPlan
from .base import Prompt, Tick
from .generate import Complete, GenerateRunner

PAGE = 256
"""Tokens of a page of the cache, transformers' own default."""
BATCH = 8192
"""Tokens of a pass, at most: transformers' own default, which sizes its mask."""


class ContinuousRunner(GenerateRunner):
    """``model.generate_batch``, with its setup and teardown outside the timed part."""

    @contextmanager
    def _session(
        self, plan: BenchPlan, model: Model, prompts: Sequence[Prompt], limit: int, tick: Tick
    ) -> Iterator[Complete]:
        # By default the cache takes most of the free memory, which other modes need; these pages hold all tokens.
        pages = sum(-(-(len(prompt.ids) + limit) // PAGE) for prompt in prompts)
        settings = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=pages + 1,
            max_batch_tokens=min(BATCH, sum(len(prompt.ids) for prompt in prompts)),
            max_requests_per_batch=len(prompts),
            seed=plan.seed,
        )
        opened = model.network.continuous_batching_context_manager(
            generation_config=self._config(plan, model, limit), continuous_batching_config=settings, timeout=5
        )
        with opened as manager:
            yield lambda part: _serve(manager, part, limit, tick)


def _serve(manager: Any, prompts: Sequence[Prompt], limit: int, tick: Tick) -> list[list[int]]:
    """The tokens of each prompt. Raises RuntimeError if some get no answer."""
    names = manager.add_requests(inputs=[list(prompt.ids) for prompt in prompts], max_new_tokens=limit)
    answers: dict[str, list[int]] = {}
    while len(answers) < len(names):
        answer = manager.get_result(timeout=1)
        if answer is None and not manager.is_running():
            raise RuntimeError(f"its thread ended with {len(names) - len(answers)} prompts unanswered")
        if answer is not None and answer.error is not None:
            raise RuntimeError(answer.error)
        if answer is not None and answer.is_finished():
            answers[answer.request_id] = list(answer.generated_tokens)
            tick()
    return [answers[name] for name in names]
