"""Errors that go to a client, in the form in which OpenAI's API has them."""

from __future__ import annotations

from typing import Any

from ..errors import (
    BackendError,
    CapabilityError,
    ConfigError,
    InputError,
    PluginError,
    RequestRefusedError,
    TreeagentError,
)

FAULT = "the server failed; its log has the reason"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_LONGEST = 2000
"""Characters of the longest message."""


class HttpError(Exception):
    """Ends a request with an HTTP status and OpenAI's error object."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.status, self.param, self.code, self.headers = status, param, code, headers
        super().__init__(message)

    def to_json(self) -> dict[str, Any]:
        """The body of the reply."""
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _TYPES.get(self.status, default)
        message = str(self)[:_LONGEST]
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def from_error(error: TreeagentError) -> HttpError:
    """The HTTP error for an error of a search.

    What the request is to blame for is 400, a backend that cannot answer 502, and a fault of a plug-in 500.
    """
    if isinstance(error, InputError):
        return HttpError(400, str(error), param="messages", code="invalid_input")
    if isinstance(error, RequestRefusedError):
        return HttpError(400, str(error), code="request_refused")
    if isinstance(error, BackendError):
        return HttpError(502, str(error), code="backend_error")
    if isinstance(error, PluginError):
        return HttpError(500, str(error), code="plugin_error")
    if isinstance(error, CapabilityError | ConfigError):
        return HttpError(400, str(error), code="invalid_setting")
    return HttpError(500, str(error), code="search_failed")
