"""Small trees with a known optimum, a text task over them, and a backend whose replies complete in any order.

A tree is a nested list; a leaf is its value. A node is named by its path: ``r``, ``ra``, ``rab`` ... The task is plain
YAML without Python; the backend answers its prompts through the normal contract.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from ..backend import Backend
from ..reply import Completion, OnText, Partial, Reply, Scores, Usage
from ..request import Key, Request, RewardRequest, ScoreRequest
from ..runtime.agent import Agent
from ..runtime.result import Result
from ..task import Task
from ..taskfile.yaml_task import YamlTask

Node = int | list[Any]

TOP = 30
"""Values are whole numbers from 0 to TOP."""

TASK = """
name: synthetic
description: Find the best leaf of a tree.
metadata: {version: 1}
input: {description: the name of the root, pattern: 'r[a-z]*', examples: ["r"]}
depth: 9
thought:
  pattern: '(?P<name>r[a-z]+)(?: end)?'
  state: "{{ name }}"
  legal: "name.startswith(parent)"
  terminal: "text.endswith(' end')"
answer: {pattern: '^answer (?P<answer>\\S+)$'}
evaluate:
  labels: {LABELS}
sampling:
  value: {n: 1}
prompts:
  propose: "children of {{ state }}\\n"
  sample: "a child of {{ state }} after {{ steps | join(', ') }}\\n"
  value: "value of {{ state }}\\n"
  vote: "best of {% for choice in choices %}{{ choice.state }} {% endfor %}\\n"
  answer: "answer of {{ state }}\\n"
  io: "io of {{ input }}\\n"
  cot: "cot of {{ input }}\\n"
  critique: "critique of {{ state }}\\n"
  outcome: "value at {{ state }}\\n"
""".replace("LABELS", ", ".join(f"v{value}: {value}" for value in range(TOP + 1)))

PROMPT = re.compile(r"(\w+) .*?(r[a-z]*)[^a-z]*(?: after .*)?")
"""A prompt of the task: what is wanted, and the node."""


def task(**replaced: str) -> Task:
    """The task; ``**{old: new}`` replaces text of its file."""
    text = TASK
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return YamlTask(text)


@cache
def _plain_task() -> Task:
    """The task as it is, read once for all searches."""
    return task()


def random_tree(seed: int, depth: int = 3, width: int = 3) -> list[Node]:
    """A random tree whose leaves have different values; every inner node has a child."""
    random_numbers = random.Random(seed)
    values = random_numbers.sample(range(TOP + 1), TOP + 1)

    def grow(levels: int) -> Node:
        if levels == 0 or (levels < depth and random_numbers.random() < 0.4):
            return values.pop()
        return [grow(levels - 1) for _ in range(random_numbers.randint(1, width))]

    root = grow(depth)
    assert isinstance(root, list)
    return root


def named(root: Node, name: str = "r") -> dict[str, Node]:
    """Every node by its name, parents first."""
    nodes = {name: root}
    if isinstance(root, list):
        for index, child in enumerate(root):
            nodes |= named(child, name + chr(ord("a") + index))
    return nodes


def best(node: Node) -> int:
    """The highest value of a leaf below."""
    return max(map(best, node)) if isinstance(node, list) else node


def optimum(root: Node) -> str:
    """The name of the best leaf."""
    return next(name for name, node in named(root).items() if node == best(root) and not isinstance(node, list))


class TreeBackend(Backend):
    """Answers about a tree; words count as tokens, and every request is kept in ``requests``.

    ``order`` None answers at once; a number seeds a random order in which replies complete one by one, each after all
    requests that can be made without it. ``judge(name, node)`` replaces the text about a node's value, ``answer``
    every text of a request that it does not return None for.
    """

    name = "tree"
    capabilities = frozenset({"generate", "score", "seed", "rewards"})

    def __init__(
        self,
        root: Node,
        *,
        order: int | None = None,
        judge: Callable[[str, Node], str] | None = None,
        price: tuple[float, float] | None = None,
        answer: Callable[[Request], str | None] = lambda request: None,
    ) -> None:
        self.requests: list[Request | ScoreRequest] = []
        self.price = price
        self._nodes = named(root)
        self._judge = judge or (lambda name, node: f"it is v{best(node)}")
        self._answer = answer
        self._order = None if order is None else random.Random(order)
        self._waiting: list[asyncio.Future[None]] = []
        self._written: dict[tuple[str, int], str] = {}
        self._moving = False

    def prompts(self, start: str) -> list[str]:
        """The prompts of the requests so far that begin with ``start``."""
        return [request.prompt for request in self.requests if request.prompt.startswith(start)]

    async def generate(self, request: Request) -> Reply:
        """The answer from the tree."""
        return await self.stream(request, lambda written: None)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """The answer from the tree; with an ``order`` its texts grow by random pieces, each in a turn of its own."""
        self.requests.append(request)
        reply = self._reply(request)
        if self._order is not None and reply.completions:
            for _ in range(self._order.randrange(4)):
                await self._my_turn()
                sample = self._order.randrange(len(reply.completions))
                text = reply.completions[sample].text
                written = text[: self._order.randrange(len(text) + 1)]
                if len(written) >= len(self._written.get((request.id, sample), "")):
                    self._written[request.id, sample] = written
                    on_text(Partial(sample, written, len(written.split())))
        await self._my_turn()
        return reply

    def _reply(self, request: Request) -> Reply:
        text = self._answer(request)
        texts = [self._text(request, sample) if text is None else text for sample in range(request.n)]
        words = [text.split() for text in texts]
        fits = [len(each) <= request.sampling.max_tokens for each in words]
        texts = [
            t if fit else " ".join(w[: request.sampling.max_tokens])
            for t, w, fit in zip(texts, words, fits, strict=True)
        ]
        usage = Usage(1, len(request.prompt.split()), sum(len(text.split()) for text in texts))
        completions = [Completion(t, finish="stop" if fit else "length") for t, fit in zip(texts, fits, strict=True)]
        return Reply(tuple(completions), usage)

    async def score(self, request: ScoreRequest) -> Scores:
        """Rewards; else the label of the node's value is likeliest, or the first one for a prompt of another task."""
        self.requests.append(request)
        await self._my_turn()
        if isinstance(request, RewardRequest):  # a node's reward falls with the length of its name
            rewards = tuple(-0.1 * len(step) for step in request.continuations)
            return Scores(rewards, tuple(1 for _ in rewards), Usage(1, len(request.prompt.split()), 0))
        label = request.continuations[0].split()[-1]
        match = PROMPT.fullmatch(request.prompt.strip())
        if match and match[2] in self._nodes:
            label = self._text(Request(request.prompt, Key(0, "score", "")), 0).split()[-1]
        logprobs = tuple(-0.1 if text.split()[-1] == label else -9.0 for text in request.continuations)
        return Scores(logprobs, tuple(1 for _ in logprobs), Usage(1, len(request.prompt.split()), 0))

    def _text(self, request: Request, sample: int) -> str:
        match = PROMPT.fullmatch(request.prompt.strip())
        assert match, request.prompt
        verb, name = match.groups()
        node = self._nodes[name]
        if verb in ("children", "a"):
            assert isinstance(node, list)
            lines = [
                name + chr(ord("a") + index) + ("" if isinstance(child, list) else " end")
                for index, child in enumerate(node)
            ]
            return "\n".join(lines) if verb == "children" else lines[sample % len(lines)]
        return self._judge(name, node) if verb == "value" else f"answer {name}"

    async def _my_turn(self) -> None:
        if self._order is None:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append(future)
        if not self._moving:
            self._moving = True
            loop.call_soon(self._move, loop, 1, 0)
        await future

    def _move(self, loop: asyncio.AbstractEventLoop, seen: int, quiet: int) -> None:
        """Once no new request has come for some turns of the loop, let one reply complete."""
        assert self._order is not None
        self._waiting = [future for future in self._waiting if not future.done()]
        if not self._waiting:
            self._moving = False
            return
        quiet = quiet + 1 if len(self._waiting) == seen else 0
        if quiet > 12:  # more turns than a reply needs on its way to the request that follows from it
            quiet = 0
            self._waiting.pop(self._order.randrange(len(self._waiting))).set_result(None)
        loop.call_soon(self._move, loop, len(self._waiting), quiet)


def solve(backend: Backend, search: Any, evaluator: Any = "value", **more: Any) -> Result:
    """The result of one search for the task's first example, here the tree's root.

    ``more`` are arguments of :class:`Agent` and of :meth:`Agent.solve`.
    """
    how = {key: more.pop(key) for key in ("journal", "on_event") if key in more}
    used = more.pop("task", None) or _plain_task()
    return Agent(used, search, backend=backend, evaluator=evaluator, **more).solve(used.examples[0], **how)


def essence(result: Result) -> dict[str, Any]:
    """What must not depend on the order in which replies arrive: all but the seconds and the early requests."""
    settings = {name: value for name, value in result.settings.items() if name != "speculate"}
    others = {"settings": settings, "seconds": None, "speculated": None}
    return {**result.to_json(), "tree": result.tree.to_json(), **others}
