"""A server that answers by a script, and a backend ``openai`` on a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openai_server import Answer, Asked, Model, Server, Time

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

SECRET = "sk-very-secret-0123456789abcdef"  # noqa: S105  # of no use anywhere
REQUEST = Request("Numbers: 4 5", Key(1, "propose", "0"), Sampling(temperature=0.7, max_tokens=4))
DECLARED = {"server": "vllm", "chat": True, "score": "none"}
"""So that nothing is asked beforehand."""


class Case:
    """A server that answers by a script and then well, and a backend on a clock of the test's."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.time = stack, Time()
        self.script: list[Answer | Callable[[Asked], Answer]] = []
        self.server = stack.enter_context(Server(self._answer).listening())

    def _answer(self, asked: Asked) -> Answer:
        answer = self.script.pop(0) if self.script else Model()(asked)
        return answer(asked) if callable(answer) else answer

    def backend(
        self, model: str | None = "toy", *, clock: dict[str, Any] | None = None, **options: Any
    ) -> OpenAIBackend:
        """One that asks nothing beforehand."""
        made = OpenAIBackend(model, **{"base_url": self.server.url, **DECLARED, **options})
        made.clock = self.time.clock(**(clock or {}))
        return made

    def ask(self, *script: Answer, request: Request = REQUEST, **options: Any) -> Reply:
        """The reply of a fresh backend."""
        self.script = list(script)
        return asyncio.run(self.backend(**options).generate(request))

    def fails(self, *script: Answer, **options: Any) -> str:
        """The one line that a fresh backend gives up with."""
        with pytest.raises(BackendError) as caught:
            self.ask(*script, **options)
        text = str(caught.value)
        assert "\n" not in text
        assert SECRET not in text
        return text


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        yield Case(stack)
