"""Reads the body of a reply with a limit on its decompressed size, and the JSON object in it."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

MIB = 1 << 20
_LIST_BYTES = 32 * MIB
"""Most bytes of a reply to a request without a body, such as a list of models."""
_BASE_BYTES = 2 * MIB
_TOKEN_BYTES = 1024
"""Most bytes of one generated token in JSON: some tokens are 128 characters, and an escaped character takes 6 bytes."""
_LOGPROB_BYTES = 256
"""Most bytes of one token with its log-probability."""
_VOCABULARY = 400_000
"""Most tokens of a vocabulary, whatever number of most likely tokens is requested."""


class OversizeError(Exception):
    """The body is longer than the limit."""


class EncodingError(Exception):
    """The body cannot be decompressed."""


def reply_limit(body: Mapping[str, Any] | None, sent: int) -> int:
    """Most bytes that the reply to a request may have; ``sent`` is the size of its body in bytes."""
    if body is None:
        return _LIST_BYTES
    tokens = int(body.get("n", 1)) * int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
    limit = _BASE_BYTES + _TOKEN_BYTES * tokens + 64 * sent
    logprobs = body.get("logprobs")
    if logprobs:
        tops = min(int(body.get("top_logprobs", logprobs)), _VOCABULARY)
        # Each byte sent is at most one token of the prompt.
        limit += _LOGPROB_BYTES * (tops + 2) * (tokens + (sent if body.get("echo") else 0))
    return limit


async def read_body(chunks: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """The decompressed body. Raises OversizeError or EncodingError."""
    body = bytearray()
    name = encoding.strip().lower()
    if name in ("", "identity"):
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise OversizeError
        return bytes(body)
    if name not in ("gzip", "x-gzip", "deflate"):
        raise EncodingError(f"it is encoded as {name[:40]!r}, which was not asked for")
    inflater = zlib.decompressobj(wbits=47)  # recognises gzip and zlib
    try:
        async for chunk in chunks:
            waiting = chunk
            while waiting and not inflater.eof:
                body += inflater.decompress(waiting, limit + 1 - len(body))
                if len(body) > limit:
                    raise OversizeError
                waiting = inflater.unconsumed_tail
    except zlib.error as error:
        raise EncodingError(f"it cannot be decompressed as {name}") from error
    if body and not inflater.eof:
        raise EncodingError(f"its {name} data are cut off")
    return bytes(body)


def json_object(body: bytes, clean: Callable[[str], str]) -> dict[str, Any] | None:
    """The object that a body holds, with every string in it cleaned; None where it holds none or is not strict JSON."""
    try:
        payload = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(payload, dict):
        return None
    cleaned: dict[str, Any] = _cleaned(payload, clean)
    return cleaned


def whole_text(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _cleaned(payload: Any, clean: Callable[[str], str]) -> Any:
    """A copy with every string cleaned, without recursion: a server chooses the depth."""
    root: list[Any] = [payload]
    pending: list[Any] = [root]
    while pending:
        holder = pending.pop()
        if isinstance(holder, dict) and not all(clean(key) == key for key in holder):
            items = [(clean(key), value) for key, value in holder.items()]
            holder.clear()
            holder.update(items)
        for place, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(value, str):
                holder[place] = clean(value)
            elif isinstance(value, dict | list):
                pending.append(value)
    return root[0]
