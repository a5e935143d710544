"""Backend ``replay``: the answers that a journal holds, so that a recorded search runs again without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treeagent.backend import Backend
from treeagent.errors import BackendError, ConfigError, NotRecordedError, RequestRefusedError
from treeagent.reply import OnText, Reply, Scores
from treeagent.request import Request, ScoreRequest
from treeagent.runtime import journal
from treeagent.world import Observation

from .scripted import hand_out


class ReplayBackend(Backend):
    """Answers each request as the journal says that it was answered; a torn last line is ignored.

    The recorded usage is reported again. Raises JournalError when there is no readable journal at ``path``, and
    NotRecordedError for a request that the journal does not hold.
    """

    name = "replay"

    def __init__(self, path: Path | str) -> None:
        self.model: str = str(path)
        self._replies: dict[str, Reply] = {}
        self._scores: dict[str, Scores] = {}
        self._refusals: dict[str, str] = {}
        self.observations: dict[str, Observation] = {}
        for event in journal.read(Path(path)):
            if event.type == "completion":
                self._replies[event.data["id"]] = journal.reply_from(event.data)
            elif event.type == "scores":
                self._scores[event.data["id"]] = journal.scores_from(event.data)
            elif event.type == "refused":
                self._refusals[event.data["id"]] = str(event.data["error"])
            elif event.type == "observed":
                self.observations[event.data["id"]] = journal.observation_from(event.data)
        # A recorded answer was given to this very key, so the replay is as reproducible as a seeded model.
        every = {"generate", "score", "seed", "beams", "rewards", "chat", "thinking_budget", "extra_body"}
        self.capabilities = frozenset(every)

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> ReplayBackend:
        """From the path of a journal. Raises ConfigError for options, JournalError for a bad journal."""
        if options:
            raise ConfigError(f"backend {cls.name!r} has no options, so not {next(iter(options))!r} either")
        if model is None:
            raise ConfigError(f"backend {cls.name!r} needs a journal: model=<path of a journal>")
        return cls(model)

    async def generate(self, request: Request) -> Reply:
        """The recorded reply. Raises NotRecordedError, and RequestRefusedError where the request was refused."""
        if (reply := self._replies.get(request.id)) is None:
            raise self._missing("completion", request)
        return reply

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`; each turn of the event loop brings one word."""
        reply = await self.generate(request)
        await hand_out(reply, on_text)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """The recorded scores. Raises NotRecordedError, and RequestRefusedError where the request was refused."""
        if (scores := self._scores.get(request.id)) is None:
            raise self._missing("scores", request)
        return scores

    def describe(self) -> dict[str, Any]:
        """Name and journal."""
        return {"name": self.name, "model": self.model, "options": {}}

    def _missing(self, what: str, request: Request | ScoreRequest) -> BackendError:
        if (message := self._refusals.get(request.id)) is not None:
            return RequestRefusedError(message)
        begin = request.prompt.split("\n", 1)[0][:80]
        return NotRecordedError(
            f"the journal {self.model} holds no {what} for the prompt that begins {begin!r} with these settings. "
            "Run with the task, settings and seed of the recorded run."
        )
