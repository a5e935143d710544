"""A backend that answers by rules and needs no model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from treeagent import Backend, Completion, ConfigError, Reply, Request, Usage


class RulesBackend(Backend):
    """Names both steps in random order; with the probability ``mistakes`` it names one that does not exist."""

    name = "rules"
    capabilities = frozenset({"generate", "seed"})

    def __init__(self, mistakes: float = 0.0) -> None:
        if not 0 <= mistakes <= 1:
            raise ConfigError(f"backend 'rules': mistakes must lie between 0 and 1, got {mistakes}")
        self.mistakes = mistakes

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> RulesBackend:
        """From ``--backend rules --set backend.mistakes=0.2``. Raises ConfigError."""
        if unknown := sorted(set(options) - {"mistakes"}):
            raise ConfigError(f"backend 'rules' has no option {unknown[0]!r}. Valid: mistakes.")
        if model not in (None, "exact"):
            raise ConfigError(f"backend 'rules' has the model 'exact' only, not {model!r}")
        try:
            mistakes = float(options.get("mistakes", 0.0))
        except ValueError:
            raise ConfigError(f"backend 'rules': mistakes must be a number, got {options['mistakes']!r}") from None
        return cls(mistakes)

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt; all randomness comes from the request's key."""
        completions = tuple(self._complete(request, sample) for sample in range(request.n))
        prompt = len(request.prompt.split())  # this backend counts words as tokens
        written = sum(len(completion.text.split()) for completion in completions)
        return Reply(completions, Usage(calls=1, prompt_tokens=prompt, completion_tokens=written))

    def _complete(self, request: Request, sample: int) -> Completion:
        chance = random.Random(request.key.stream(sample))
        steps = ["double", "add 1"]
        chance.shuffle(steps)
        if chance.random() < self.mistakes:
            steps[0] = "triple"
        text = "\n".join(steps)
        for stop in request.sampling.stop:
            text = text.partition(stop)[0]
        return Completion(text)

    def describe(self) -> dict[str, Any]:
        """What a journal keeps to open this backend again."""
        return {"name": self.name, "model": self.model, "options": {"mistakes": str(self.mistakes)}}
