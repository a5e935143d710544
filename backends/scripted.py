"""Backend ``scripted``: a fake whose answers are written down beforehand, for tests, docs and trying things out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from treeagent import yaml_text
from treeagent.aio import Pace
from treeagent.backend import Backend
from treeagent.errors import BackendError, ConfigError, NotRecordedError, Problem
from treeagent.patterns import Deadline, Pattern, PatternLimitError
from treeagent.reply import Completion, OnText, Partial, Reply, Scores, Usage
from treeagent.request import Request, ScoreRequest

Answer = str | Sequence[str]
Answers = Callable[[Request], Answer] | Mapping[str, Answer] | Sequence[Answer]


class ScriptedBackend(Backend):
    """Answers from a script; words count as tokens, and every request is kept in ``requests``.

    ``answers`` is a function of the request, a mapping from prompts, or a sequence that is used up in call order.
    An answer is one text for all samples, or texts that are dealt to the samples in turn. The texts are given out as
    they are, but end before a stop string and after ``max_tokens`` words, like a model's.

    ``scores(prompt, continuation)`` returns a log-probability; without it the backend cannot score. ``order`` is
    awaited before each answer: a test can let requests complete in any order. Raises NotRecordedError for a request
    that the script does not know.
    """

    name = "scripted"

    def __init__(
        self,
        answers: Answers,
        *,
        scores: Callable[[str, str], float] | None = None,
        order: Callable[[Request | ScoreRequest], Awaitable[None]] | None = None,
    ) -> None:
        self.requests: list[Request | ScoreRequest] = []
        """What was asked, in call order."""
        self.capabilities = frozenset(
            {"generate", "chat", "thinking_budget", "extra_body"} | ({"score"} if scores else set())
        )
        self._answers = answers
        self._scores = scores
        self._order = order
        self._used = 0
        self._pace: Pace | None = None

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> ScriptedBackend:
        """From a YAML file of rules ``{match: regex, text: text or list of texts}``; the first that matches answers.

        Raises ConfigError, listing every fault of the file.
        """
        if options:
            raise ConfigError(f"backend {cls.name!r} has no options, so not {next(iter(options))!r} either")
        if model is None:
            raise ConfigError(f"backend {cls.name!r} needs a script: model=<path of a YAML file of rules>")
        rules = _read_rules(Path(model))

        def answer(request: Request) -> Answer:
            deadline = Deadline()
            try:
                for pattern, text in rules:
                    if pattern.search(request.prompt, deadline):
                        return text
            except PatternLimitError as error:
                raise BackendError(f"{model}: {error}") from error
            raise NotRecordedError(f"no rule of {model} matches the prompt that begins {_first_line(request.prompt)!r}")

        backend = cls(answer)
        backend.model = model
        backend._pace = Pace()  # patterns may take their second
        return backend

    async def generate(self, request: Request) -> Reply:
        """Answer from the script. Raises NotRecordedError, and BackendError for a constraint: a script keeps none."""
        if request.sampling.constraint is not None:
            raise BackendError("a script takes no constraint: leave it out, or use a backend with constraints")
        self.requests.append(request)
        place, self._used = self._used, self._used + 1  # taken before anything is awaited: call order counts
        if self._order is not None:
            await self._order(request)
        pace = self._pace
        answer = self._answer(request, place) if pace is None else await pace.in_thread(self._answer, request, place)
        dealt = [answer] if isinstance(answer, str) else list(answer)
        if not dealt:
            raise NotRecordedError(f"the script has an empty list for {_first_line(request.prompt)!r}")
        completions = tuple(_end(dealt[i % len(dealt)], request) for i in range(request.n))
        words = sum(len(completion.text.split()) for completion in completions)
        return Reply(completions, Usage(calls=1, prompt_tokens=len(request.prompt.split()), completion_tokens=words))

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`; each turn of the event loop brings one word."""
        reply = await self.generate(request)
        await hand_out(reply, on_text)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score with the ``scores`` function."""
        if self._scores is None:
            return await super().score(request)
        self.requests.append(request)
        if self._order is not None:
            await self._order(request)
        logprobs = tuple(float(self._scores(request.prompt, text)) for text in request.continuations)
        lengths = tuple(len(text.split()) for text in request.continuations)
        usage = Usage(calls=1, prompt_tokens=len(request.prompt.split()) + sum(lengths), completion_tokens=0)
        return Scores(logprobs, lengths, usage)

    def describe(self) -> dict[str, Any]:
        """Name and script; a script that is no file cannot be opened again."""
        return {"name": self.name, "model": self.model, "options": {}}

    def _answer(self, request: Request, place: int) -> Answer:
        if callable(self._answers):
            return self._answers(request)
        if isinstance(self._answers, Mapping):
            if request.prompt in self._answers:
                return self._answers[request.prompt]
            raise NotRecordedError(f"the script has no answer to the prompt {_first_line(request.prompt)!r}")
        if place < len(self._answers):
            return self._answers[place]
        raise NotRecordedError(f"the script's {len(self._answers)} answers are used up")


async def hand_out(reply: Reply, on_text: OnText) -> None:
    """Hand out a reply's texts word by word, of all completions in turn, one word in each turn of the event loop."""
    ends = [[match.end() for match in re.finditer(r"\S+\s*", one.text)] or [0] for one in reply.completions]
    for turn in range(max(map(len, ends), default=0)):
        for sample, (completion, own) in enumerate(zip(reply.completions, ends, strict=True)):
            if turn < len(own):
                last = turn == len(own) - 1
                text = completion.text if last else completion.text[: own[turn]]
                on_text(Partial(sample, text, turn + 1 if completion.text else 0, whole=last))
                await asyncio.sleep(0)


def _end(text: str, request: Request) -> Completion:
    """The text as a model would have ended it."""
    cut = min((at for at in (text.find(stop) for stop in request.sampling.stop) if at >= 0), default=None)
    text = text[:cut]
    words = list(re.finditer(r"\S+", text))
    if len(words) > request.sampling.max_tokens:
        return Completion(text[: words[request.sampling.max_tokens - 1].end()], finish="length")
    return Completion(text)


def _first_line(prompt: str) -> str:
    return prompt.split("\n", 1)[0][:80]


def _read_rules(path: Path) -> list[tuple[Pattern, Answer]]:
    root = yaml_text.compose(yaml_text.read(path, "script"), path)
    if not isinstance(root, yaml.SequenceNode):
        raise ConfigError([Problem(path, 1, "", "expected a list of rules {match: ..., text: ...}")])
    problems: list[Problem] = []
    rules = [rule for i, node in enumerate(root.value) if (rule := _read_rule(path, i, node, problems))]
    if problems:
        raise ConfigError(problems)
    return rules


def _read_rule(path: Path, index: int, node: yaml.Node, problems: list[Problem]) -> tuple[Pattern, Answer] | None:
    """One rule, or None with what is wrong with it added to ``problems``."""
    before = len(problems)

    def fault(at: yaml.Node, key: str, message: str) -> None:
        problems.append(Problem(path, at.start_mark.line + 1, f"{index}.{key}".rstrip("."), message))

    if not isinstance(node, yaml.MappingNode):
        fault(node, "", "expected a rule {match: ..., text: ...}")
        return None
    parts = {key.value: (key, value) for key, value in node.value}
    for key, (at, _) in parts.items():
        if key not in ("match", "text"):
            fault(at, str(key), "a rule has 'match' and 'text' only")
    for key in ("match", "text"):
        if key not in parts:
            fault(node, key, "is missing")
    if len(problems) > before:
        return None
    match, text = parts["match"][1], parts["text"][1]
    texts = text.value if isinstance(text, yaml.SequenceNode) else [text]
    if not texts or not all(isinstance(item, yaml.ScalarNode) for item in texts):
        fault(text, "text", "expected a text or a list of texts")
    try:
        pattern = Pattern(match.value if isinstance(match, yaml.ScalarNode) else "(")
    except ValueError as error:
        fault(match, "match", str(error))
        return None
    return None if len(problems) > before else (pattern, [item.value for item in texts])
