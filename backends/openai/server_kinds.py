"""The kinds of servers that are known, and what each can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a server without asking it."""

    name: str
    truncates: bool = False
    """Whether it takes ``top_k`` and ``min_p``."""
    neutral: Mapping[str, Any] = field(default_factory=dict)
    """Fields that switch off what it would otherwise do to the distribution unasked."""
    together: bool = True
    """Whether one request for n samples is answered, and counted, as n."""
    stops: int | None = None
    """Stop strings that it takes at most; the others are looked for here."""
    tops: int = 20
    """Likeliest next tokens that it is asked for; servers refuse more than 20."""
    widest: int | None = None
    """How many are asked for where a label is not among those; None where more are not to be had."""


KINDS = {
    kind.name: kind
    for kind in (
        # Models bring generation_config.json, whose top_p, top_k and penalties vLLM and SGLang apply where a request
        # is silent; llama.cpp has defaults of its own (top_k 40, top_p 0.95, min_p 0.05).
        Kind("vllm", True, {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
        Kind("sglang", True, {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
        # llama.cpp tells the usage of one sample only, whatever n is.
        # 1,000 tokens took it 0.06 s, all of 49,152 one second and 5 MB.
        Kind(
            "llamacpp",
            True,
            {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
            together=False,
            tops=1000,
            widest=1_000_000,
        ),
        Kind("ollama", neutral={"top_p": 1.0}, together=False),
        Kind("hosted", stops=4),
    )
}
"""By name; ``hosted`` is everything that is not recognised as one of the others."""


_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama"}
"""``owned_by`` in a server's list of models, and the kind."""
