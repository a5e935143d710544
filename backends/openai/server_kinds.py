"""The kinds of servers that the backend recognises, and the abilities of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ServerKind:
    """What is known of a kind of server without a request."""

    name: str
    supports_top_k: bool = False
    """Whether it accepts ``top_k`` and ``min_p``."""
    neutral: Mapping[str, Any] = field(default_factory=dict)
    """Fields that switch off the server's own changes to the distribution."""
    samples_together: bool = True
    """Whether it answers one request with n samples and counts the tokens of all of them."""
    max_stop_strings: int | None = None
    """Most stop strings in a request; the backend applies the others itself."""
    top_logprobs: int = 20
    """Number of most likely next tokens to request; most servers refuse more than 20."""
    takes_template: bool = False
    """Whether it accepts ``chat_template_kwargs``."""
    budget_field: str | None = None
    """The field with the most tokens of thinking."""
    max_top_logprobs: int | None = None
    """Number to request when a label is not among those; None where the server has no more."""


KINDS = {
    kind.name: kind
    for kind in (
        # vLLM and SGLang apply top_p, top_k and penalties of the model's generation_config.json where a request does
        # not set them; llama.cpp has its own defaults (top_k 40, top_p 0.95, min_p 0.05).
        # vLLM takes thinking_token_budget from 0.19 on, started with --reasoning-config.
        ServerKind(
            "vllm",
            True,
            {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
            takes_template=True,
            budget_field="thinking_token_budget",
        ),
        ServerKind(
            "sglang",
            True,
            {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
            takes_template=True,
        ),
        # llama.cpp reports the usage of one sample only, whatever n is.
        # Measured: 1,000 tokens take 0.06 s, all 49,152 take one second and 5 MB.
        ServerKind(
            "llamacpp",
            True,
            {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
            samples_together=False,
            takes_template=True,
            budget_field="thinking_budget_tokens",
            top_logprobs=1000,
            max_top_logprobs=1_000_000,
        ),
        ServerKind("ollama", neutral={"top_p": 1.0}, samples_together=False),
        ServerKind("hosted", max_stop_strings=4),
    )
}
"""By name; ``hosted`` is every server that is not recognised as another kind."""


OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama"}
"""``owned_by`` in a server's list of models, and the kind."""
