"""What a reply over HTTP says: an object, or one of the errors that servers send; never the key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treeagent.errors import BackendError, RequestRefusedError

from .body import json_object, whole_text
from .refusals import refused_by
from .retry import TransientError, exhausted_wait, requested_wait, retryable


class Rejected(BackendError):
    """The server refuses this request for good; a retry cannot succeed."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class RefusedForGood(Rejected, RequestRefusedError):
    """The server refuses this request for its content or its length; it answers others."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What goes along with each request to prove who sends it."""

    key: str | None
    header: str | None = None
    """The header of the key; None: ``Authorization`` with the word ``Bearer``."""
    query: str | None = None
    """Query of each address, such as ``api-version=2024-10-21``."""

    def headers(self) -> dict[str, str]:
        """The header with the key."""
        if self.key is None:
            return {}
        return {"Authorization": f"Bearer {self.key}"} if self.header is None else {self.header: self.key}

    def masked(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self.key, "***") if self.key and len(self.key) >= _SECRET else text

    def clean(self, text: str) -> str:
        """One short line without the key."""
        text = self.masked(whole_text(text))
        text = " ".join(_KEY.sub("***", text).split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply with its whole body."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")


def read_answer(
    reply: HttpReply, url: str, credentials: Credentials, now: float
) -> tuple[dict[str, Any], float | None]:
    """The object of a reply, without the key, and seconds to wait before the next request, None where there are none.

    ``now`` is in seconds since 1970. Raises TransientError, Rejected or RefusedForGood.
    """
    clean, status = credentials.clean, reply.status
    reason = clean(reply.reason)
    payload = json_object(reply.body, lambda text: credentials.masked(whole_text(text)))
    message, codes = _error(payload, status)
    if status < 400 and message is not None:
        status = next((code for code in codes if isinstance(code, int)), 400)  # some gateways send errors with 200
    if 200 <= status < 300 and payload is not None and message is None:
        return payload, exhausted_wait(reply.headers, now)
    if retryable(status):
        wait = requested_wait(reply.headers, now)
        what = f"{status} {reason}".strip()
        limited = status == 429 or wait is not None
        raise TransientError(f"{what}: {clean(message or reply.text)}", limited=limited, wait=wait)
    if message is None and (200 <= status < 300):
        kind = clean(reply.headers.get("content-type", "no content type"))
        content = clean(reply.text) or "nothing"
        raise Rejected(f"{url}: the answer is not a JSON object but {kind}: {content}{url_hint(url, status)}", status)
    text = f"{url}: {status} {reason}: {clean(message or reply.text)}{url_hint(url, status)}"
    if by := refused_by(status, [code for code in codes if isinstance(code, str)], message or reply.text):
        raise RefusedForGood(f"{text} (this request is refused by {by}; others can be answered)", status)
    raise Rejected(text, status)


def _error(payload: dict[str, Any] | None, status: int) -> tuple[str | None, list[int | str]]:
    """The error message of a reply, in the several forms that servers use, and the codes and types with it."""
    if payload is None:
        return None, []
    error = payload.get("error") or (payload if payload.get("object") == "error" else None)
    if error is None:
        detail = (payload.get("detail") or payload.get("message")) if status >= 400 else None
        return (None if detail is None else _text(detail)), []
    if not isinstance(error, dict):
        return _text(error), []
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    known = [code for code in codes if isinstance(code, str) or (type(code) is int and 400 <= code < 600)]
    return _text(error.get("message") or error), known


def _text(value: Any) -> str:
    """A message, which some servers send as an object."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "an error that cannot be shown"


def url_hint(url: str, status: int) -> str:
    """What to look at after a refusal, by its status; empty where nothing is suspected."""
    if status in (401, 403):
        return "; is the key in the environment variable that key_variable names (OPENAI_API_KEY) right?"
    if (status == 404 or status < 400) and "/v1/" not in url:
        return "; does base_url lack the ending /v1?"
    return ""


_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|hf)[-_][\w*.-]{8,}")
"""Text that looks like a key, such as a quotation of the refused key in an error."""
_SECRET = 8
"""Fewest characters of a key that is masked; shorter ones are words such as "none" for local servers."""
_SHOWN = 300
"""Characters shown of a server's message."""
