"""A task as the runtime calls it: inside the plug-in boundary, with results of the types that its contract names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..chat import Message
from ..plugin_boundary import PluginBoundary, at_input
from ..proposed_step import ProposedStep
from ..request import Sampling
from ..task import Task
from ..thought import Thought
from ..world import World

T = TypeVar("T")


class GuardedTask:
    """The calls of one search to its task. Each raises PluginError for an exception or a result of a wrong type."""

    def __init__(self, task: Task, input: str) -> None:
        self._task, self._input = task, input
        self._worlds: list[World | None] = []
        self._verdicts: dict[tuple[tuple[str, ...], str | None], bool | None] = {}
        self._inside = PluginBoundary("task", task.name, at_input(input))
        self.seconds, self.prompts = 0.0, 0
        """Computing time of the prompts and of reading steps so far, and how many prompts there were."""

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            with self._inside:
                yield
        finally:
            self.seconds += time.thread_time() - began

    def root(self) -> Thought:
        """See :meth:`treeagent.Task.root`."""
        with self._inside:
            return of_type(self._task.root(self._input), Thought, "root")

    def sampling(self, role: str) -> tuple[Sampling, int]:
        """See :meth:`treeagent.Task.sampling`."""
        with self._inside:
            sampling, count = self._task.sampling(role)
            return of_type(sampling, Sampling, "sampling"), of_type(count, int, "sampling")

    def prompt(
        self, role: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """See :meth:`treeagent.Task.prompt`; for ``prm`` the input where the task has none. Raises ConfigError."""
        self.prompts += 1
        with self._timed():
            if role == "prm" and not self._task.has(role):
                return f"{self._input}\n"
            return of_type(self._task.prompt(role, self._input, thought, steps, choices), str, "prompt")

    def messages(
        self, role: str, thought: Thought, steps: Sequence[str], choices: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[Message, ...]:
        """See :meth:`treeagent.Task.messages`; none for ``prm``, which is one text. Raises ConfigError."""
        if role == "prm":
            return ()
        with self._timed():
            messages = tuple(self._task.messages(role, self._input, thought, steps, choices))
            for message in messages:
                of_type(of_type(message, Message, "messages").content, str, "messages")
            return messages

    def reflect_on(self, reflection: str) -> None:
        """Show a reflection in all later prompts of the search. See :meth:`treeagent.Task.with_reflections`."""
        with self._inside:
            reflections = [*self._task.reflections, reflection]
            self._task = self._task.with_reflections(reflections)

    def world(self) -> World | None:
        """See :meth:`treeagent.Task.world`; asked once, so that a search has one world."""
        if not self._worlds:
            with self._inside:
                world = self._task.world(self._input)
                if not isinstance(world, World | None):
                    raise TypeError(f"world returned {type(world).__name__}, expected World or None")
                self._worlds.append(world)
        return self._worlds[0]

    async def observe(self, parent: str, step: str) -> str | None:
        """See :meth:`treeagent.World.observe`."""
        world = self.world()
        with self._inside:
            observation = None if world is None else await world.observe(parent, step)
            return None if observation is None else of_type(observation, str, "observe")

    def read_observed(
        self, step: ProposedStep, parent: Thought, steps: Sequence[str], observation: str
    ) -> ProposedStep:
        """See :meth:`treeagent.World.read`."""
        world = self.world()
        with self._inside:
            read = step if world is None else world.read(step, self._input, parent, steps, observation)
            for text in (of_type(read, ProposedStep, "read").text, read.state, read.key):
                of_type(text, str, "read")
            return read

    def read_thoughts(self, role: str, completion: str, parent: Thought, steps: Sequence[str]) -> list[ProposedStep]:
        """See :meth:`treeagent.Task.read_thoughts`."""
        with self._timed():
            proposed = list(self._task.read_thoughts(role, completion, self._input, parent, steps))
            for step in proposed:
                for text in (of_type(step, ProposedStep, "read_thoughts").text, step.state, step.key):
                    of_type(text, str, "read_thoughts")
            return proposed

    def whole_steps(self, role: str, completion: str) -> str:
        """See :meth:`treeagent.Task.whole_steps`."""
        with self._inside:
            return of_type(self._task.whole_steps(role, completion), str, "whole_steps")

    @property
    def reads_apart(self) -> bool:
        """See :attr:`treeagent.Task.reads_apart`."""
        with self._inside:
            return bool(self._task.reads_apart)

    def read_answer(self, completion: str) -> str | None:
        """See :meth:`treeagent.Task.read_answer`."""
        with self._inside:
            answer = self._task.read_answer(completion)
            return None if answer is None else of_type(answer, str, "read_answer")

    def path_answer(self, thought: Thought, steps: Sequence[str]) -> str | None:
        """See :meth:`treeagent.Task.path_answer`. Raises ConfigError."""
        with self._inside:
            answer = self._task.path_answer(self._input, thought, steps)
            return None if answer is None else of_type(answer, str, "path_answer")

    def verify(self, steps: Sequence[str], answer: str | None) -> bool | None:
        """See :meth:`treeagent.Task.verify`; the same steps and answer are checked once."""
        case = tuple(steps), answer
        if case not in self._verdicts:
            with self._inside:
                verdict = self._task.verify(self._input, steps, answer)
                self._verdicts[case] = None if verdict is None else bool(verdict)
        return self._verdicts[case]


def of_type(value: Any, cls: type[T], method: str) -> T:
    """The value itself, which a method of a plug-in returned. Raises TypeError, inside the boundary, for others."""
    if not isinstance(value, cls):
        raise TypeError(f"{method} returned {type(value).__name__}, expected {cls.__name__}")
    return value
