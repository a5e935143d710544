"""Replies that come as server-sent events: read as they arrive, put together as the reply that is sent at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from .body import OversizeError, json_object

CONTENT_TYPE = "text/event-stream"
FIELDS: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
"""What a request for a stream has beside its other fields."""
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
"""Fields of a message whose pieces are joined."""


class EventStream:
    """The events of one reply so far."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the server has said that nothing follows."""
        self._choices: dict[int, dict[str, Any]] = {}
        self._rest: dict[str, Any] = {}
        self._broken: bytes | None = None  # an event that is no piece of a reply, such as an error

    @property
    def complete(self) -> bool:
        """Whether it can be read as a reply: it ended, every completion has its end, or an error ended it."""
        ends = [choice.get("finish_reason") is not None for choice in self._choices.values()]
        return self.ended or self._broken is not None or (bool(ends) and all(ends))

    def texts(self) -> dict[int, str]:
        """By the number of the choice its text so far, without reasoning that the server separates."""
        texts = {}
        for index, choice in self._choices.items():
            text = choice["message"].get("content") if "message" in choice else choice.get("text")
            texts[index] = text if isinstance(text, str) else ""
        return texts

    def body(self) -> bytes:
        """The reply as it would have been sent at once."""
        if self._broken is not None:
            return self._broken
        choices = [self._choices[index] for index in sorted(self._choices)]
        return json.dumps({**self._rest, "choices": choices}).encode()

    def add(self, data: bytes) -> None:
        """Take the data of an event."""
        if self._broken is not None:
            return
        if data.strip() == b"[DONE]":
            self.ended = True
            return
        event = json_object(data, str)
        if event is None or "error" in event or event.get("object") == "error":
            self._broken = data
            return
        choices = event.pop("choices", None)
        self._rest |= {name: value for name, value in event.items() if value is not None}
        for place, choice in enumerate(choices if isinstance(choices, list) else []):
            if not isinstance(choice, dict):
                self._broken = data
                return
            index = choice.get("index")
            self._merge(index if isinstance(index, int) else place, choice)

    def _merge(self, index: int, piece: dict[str, Any]) -> None:
        """Add a piece to a choice; strings of texts are joined, of everything else the last one counts."""
        whole = self._choices.setdefault(index, {"index": index})
        if isinstance(piece.get("text"), str):
            whole["text"] = whole.get("text", "") + piece["text"]
        if isinstance(delta := piece.get("delta") or piece.get("message"), dict):
            message = whole.setdefault("message", {"role": "assistant", "content": None})
            for name in _TEXTS:
                if (part := delta.get(name)) is not None:
                    message[name] = _joined(message.get(name), part)
        if piece.get("finish_reason") is not None:
            whole["finish_reason"] = piece["finish_reason"]


def _joined(before: Any, part: Any) -> Any:
    """Both texts, or both lists of parts; a piece of another type as it is, for the reader of replies to refuse."""
    if isinstance(before, str) and isinstance(part, str):
        return before + part
    if isinstance(before, list) and isinstance(part, list):
        return [*before, *part]
    return part


async def read_events(
    chunks: AsyncIterator[bytes], limit: int, arrived: Callable[[EventStream], object]
) -> EventStream:
    """The events of a body, at most ``limit`` bytes; ``arrived`` is called after each that holds data.

    Raises OversizeError.
    """
    stream, size, rest, data = EventStream(), 0, b"", list[bytes]()

    def end_event() -> None:
        if data:
            stream.add(b"\n".join(data))
            data.clear()
            arrived(stream)

    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise OversizeError
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.rstrip(b"\r")
            if text.startswith(b"data:"):
                data.append(text[5:].lstrip(b" "))
            elif not text:
                end_event()
        if stream.ended:
            return stream
    if rest.startswith(b"data:"):
        data.append(rest[5:].strip())
    end_event()
    return stream
