"""Modes of transformers' ``generate``. They share one network in memory, as none keeps state between runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils import logging as transformers_logging

from treeagent.errors import BackendError, ConfigError

from ...local import model_thread as worker
from ...models import catalog as models
from ...models.loader import load_model
from ...models.model import Model
from ..config.modes import Mode
from ..config.plan import BenchPlan, BenchSettings
from .base import Measurement, ModeRunner, Prompt, Stopwatch, Tick, Tokens

# What transformers and torch raise for a model or device that does not support a mode, and for lack of memory.
_FAILURES = (ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, RuntimeError, MemoryError)

Complete = Callable[[Sequence[Prompt]], list[list[int]]]
"""Maps prompts to the tokens generated for each, end-of-text tokens and padding included."""


class Networks:
    """Models in memory, each loaded once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._loaded: dict[tuple[str, str], Model] = {}

    def get(self, model: str, dtype: str) -> Model:
        """The model in that type of numbers. Raises ModelError."""
        if (model, dtype) not in self._loaded:
            self._loaded[model, dtype] = load_model(models.resolve(model), dtype, self.device)
        return self._loaded[model, dtype]

    def clear(self) -> None:
        """Forget all of them."""
        self._loaded.clear()


class GenerateRunner(ModeRunner):
    """``model.generate``, one prompt after another or all of them as one batch.

    The checkpoint's generation settings (a repetition penalty, a temperature) are ignored, so that every mode samples
    from the same distribution; its end-of-text tokens are used.
    """

    def __init__(self, mode: Mode, settings: BenchSettings, networks: Networks, dtype: str) -> None:
        self._mode = mode
        self._settings = settings
        self._networks = networks
        self._dtype = dtype
        self._model: Model | None = None
        self._extra: dict[str, Any] = {}

    def open(self) -> None:
        """Load model and draft. Raises ModelError."""
        if self._model is None:
            worker.run(self._load)

    def _load(self) -> None:
        self._model = self._networks.get(self._settings.model, self._dtype)
        if self._mode.drafts and self._settings.draft is not None:
            draft = self._networks.get(self._settings.draft, self._dtype)
            self._extra = {"assistant_model": draft.network}

    def cold(self, plan: BenchPlan, warm: Sequence[Prompt]) -> None:
        """Restore generation settings; a heuristic may have changed the assistant's."""
        model = self._ready()
        for network in (model.network, *self._extra.values()):
            network.generation_config = GenerationConfig(**_ends(model))

    def run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None = None) -> Measurement:
        """Complete all prompts. Raises BackendError, or ConfigError if they do not fit into the model's context."""
        return worker.run(lambda: self._run(plan, prompts, tick, max_tokens))

    def _run(self, plan: BenchPlan, prompts: Sequence[Prompt], tick: Tick, max_tokens: int | None) -> Measurement:
        model, limit = self._ready(), max_tokens or plan.sampling.max_tokens
        _check_fits(prompts, limit, model.context)
        torch.manual_seed(plan.seed)
        with _explained(self._mode.name), _silent(), self._session(plan, model, prompts, limit, tick) as complete:
            stopwatch = Stopwatch()
            rows = [row for part in plan.batches(self._mode, prompts) for row in complete(part)]
            times = stopwatch.stop()
        return Measurement(tuple(cut(row, model.eos) for row in rows), **times)

    def close(self) -> None:
        """Drop the references to model and draft."""
        self._model, self._extra = None, {}

    def _ready(self) -> Model:
        self.open()
        if self._model is None:
            raise BackendError(f"{self._mode.name} is not open")
        return self._model

    @contextmanager
    def _session(
        self, plan: BenchPlan, model: Model, prompts: Sequence[Prompt], limit: int, tick: Tick
    ) -> Iterator[Complete]:
        """A function that completes a list of prompts, with all setup done."""
        complete = self._batched if self._mode.family == "batched" else self._serial
        yield lambda part: complete(plan, model, part, limit, tick)

    def _config(self, plan: BenchPlan, model: Model, limit: int, **more: Any) -> Any:
        sampling = plan.sampling
        drawing: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            drawing = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k or 0,  # transformers' own default would be 50
                "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            }
        return GenerationConfig(max_new_tokens=limit, **_ends(model), **drawing, **more)

    def _serial(
        self, plan: BenchPlan, model: Model, prompts: Sequence[Prompt], limit: int, tick: Tick
    ) -> list[list[int]]:
        config, rows = self._config(plan, model, limit, **self._mode.options), []
        for prompt in prompts:
            ids = torch.tensor([prompt.ids], device=model.device)  # (1, T)
            output = model.network.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=config, **self._extra
            )
            rows.append(output[0, len(prompt.ids) :].tolist())
            tick()
        return rows

    def _batched(
        self, plan: BenchPlan, model: Model, prompts: Sequence[Prompt], limit: int, tick: Tick
    ) -> list[list[int]]:
        width = max(len(prompt.ids) for prompt in prompts)
        ids, mask = (torch.zeros(len(prompts), width, dtype=torch.long) for _ in range(2))  # (N, T), left-padded
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            mask[row, width - len(prompt.ids) :] = 1
        output = model.network.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=self._config(plan, model, limit, **self._mode.options),
        )
        rows: list[list[int]] = output[:, width:].tolist()
        return rows


def cut(tokens: Sequence[int], eos: frozenset[int]) -> Tokens:
    """The tokens before the end of the text and its padding."""
    ends = (place for place, token in enumerate(tokens) if token in eos)
    return tuple(tokens[: next(ends, len(tokens))])


def _check_fits(prompts: Sequence[Prompt], limit: int, context: int | None) -> None:
    """Raise ConfigError if a completion might not fit: modes would end it in different places."""
    longest = max(len(prompt.ids) for prompt in prompts)
    if context is not None and longest + limit > context:
        raise ConfigError(
            f"the longest prompt has {longest} tokens and may get {limit} more; the model's context is {context}. "
            "Lower --max-tokens, or take a workload with shorter prompts."
        )


def _ends(model: Model) -> dict[str, Any]:
    return {"eos_token_id": sorted(model.eos) or None, "pad_token_id": min(model.eos, default=0)}


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what transformers raises while it generates into a BackendError."""
    try:
        yield
    except _FAILURES as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"{name} failed: {type(error).__name__}: {reason[:300]}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers' remarks about generation settings out of the tables."""
    logging: Any = transformers_logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
