"""Tells the refusal of one request, by a content filter or the context length, from one that concerns all requests.

Servers agree on no code, so both codes and texts are read: those of OpenAI, Azure, vLLM, SGLang, llama.cpp, Ollama,
Mistral, Groq, Gemini, DeepSeek, Qwen and Anthropic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

STATUSES = frozenset({400, 413, 422})
"""Statuses of a refused request; 401, 403 and 404 concern the key, the account or the model, and thereby all."""

_CODES = {
    "content_filter": "a content filter",
    "content_filtered": "a content filter",
    "content_policy_violation": "a content filter",
    "responsibleaipolicyviolation": "a content filter",
    "moderation_blocked": "a content filter",
    "data_inspection_failed": "a content filter",
    "invalid_prompt": "a content filter",
    "context_length_exceeded": "the context length",
    "exceed_context_size_error": "the context length",
    "string_above_max_length": "the context length",
}
_TEXTS = (
    (
        "the context length",
        re.compile(
            r"maximum context length|context[ _](?:length|size|window)|maximum model length|max_model_len"
            r"|(?:prompt|input|request|message)s? (?:is|are) too (?:long|large)"
            r"|(?:input|prompt)[\w ()]{0,60} exceeds? [\w ()]{0,60}(?:maximum|limit|allowed|context)"
            r"|reduce the length of (?:the|your) (?:messages|prompt|input)"
            r"|`inputs` tokens|too many (?:input|prompt) tokens"
        ),
    ),
    (
        "a content filter",
        re.compile(
            r"content[ _](?:filter|management policy|policy|exists risk)|usage policy|safety (?:system|filter|policy)"
            r"|(?:prompt|input|request|response) (?:was|has been) (?:filtered|flagged|blocked)"
            r"|inappropriate content|considered high risk|moderation"
        ),
    ),
)


def refused_by(status: int, codes: Iterable[str], message: str) -> str | None:
    """What refuses this one request: ``a content filter`` or ``the context length``; None where neither does."""
    if status not in STATUSES:
        return None
    for code in codes:
        if reason := _CODES.get(code.lower()):
            return reason
    text = message[:2000].lower()
    return next((reason for reason, pattern in _TEXTS if pattern.search(text)), None)
