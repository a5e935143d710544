"""Which fields of a request this server and this model take, as their refusals show; what is left out is done here."""

from __future__ import annotations

import logging
import re
from typing import Any

from .answers import Rejected
from .refusals import STATUSES

LOG = logging.getLogger("treeagent")


class RequestDialect:
    """Leaves out or renames fields that were refused. Safe to use from several threads: it only ever learns."""

    def __init__(self, *, keeps_seed: bool, sends_stop: bool) -> None:
        """``keeps_seed``: a refusal of seeds is an error; ``sends_stop``: stop strings go to the server."""
        self._keeps_seed = keeps_seed
        self._accepts_seed = True
        self._streams = True
        self._max_tokens_field = "max_tokens"  # max_completion_tokens for newer models of OpenAI
        self.sends_stop = sends_stop
        """Whether stop strings go to the server; they are looked for in the reply in any case."""

    def keep_stop(self) -> None:
        """Send no more stop strings: they would end thinking."""
        self.sends_stop = False

    def keep_whole(self) -> None:
        """Ask for no more streams."""
        self._streams = False

    def adapted(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as this server takes it."""
        whole = not self._streams
        left_out = {
            "seed": not self._accepts_seed, "stop": not self.sends_stop, "stream": whole, "stream_options": whole
        }  # fmt: skip
        return {
            self._max_tokens_field if name == "max_tokens" else name: value
            for name, value in body.items()
            if not left_out.get(name)
        }

    def learn(self, sent: dict[str, Any], error: Rejected) -> bool:
        """Switch to another form of the field that the server refused; returns whether there is one."""
        if error.status not in STATUSES:
            return False
        message = str(error)
        if "max_tokens" in sent and "max_completion_tokens" in message:
            self._max_tokens_field = "max_completion_tokens"
        elif "seed" in sent and not self._keeps_seed and "seed" in message:
            self._accepts_seed = False
        elif "stop" in sent and _is_refused("stop", message):
            self.keep_stop()
            LOG.warning("the server takes no stop strings; treeagent looks for them in its replies")
        elif "stream" in sent and _STREAM.search(message):
            self.keep_whole()
        else:
            return False
        return True


def sampling_advice(sent: dict[str, Any], error: Rejected, role: str) -> str:
    """What to do where the model takes no other temperature or top-p than its own; empty for other refusals."""
    for name in ("temperature", "top_p"):
        if name in sent and error.status in STATUSES and _is_refused(name, str(error)):
            return (
                f" The task asks for {name}={sent[name]} in the role {role!r}, which this model does not take: "
                f"--set sampling.{role}.{name}=1"
            )
    return ""


_STREAM = re.compile(r"\bstream(?:s|ed|ing|_options)?\b", re.IGNORECASE)


def _is_refused(field: str, message: str) -> bool:
    """Whether a message is about the field: it stands in quotes, or is called a parameter."""
    text = message.lower()
    return any(form in text for form in (f"'{field}'", f'"{field}"', f"`{field}`", f"parameter {field}", f": {field}"))
