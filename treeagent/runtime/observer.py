"""Awaits what comes of a search's steps: each step once, within its limits, and in the journal."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .. import aio, text
from ..errors import NotRecordedError, PluginError, ToolError
from ..proposed_step import ProposedStep
from ..reply import Reply
from ..thought import Thought
from ..world import Observation, ObserveLimits
from .events import Event
from .guarded_task import GuardedTask
from .journal import observed_event
from .outlook import Growth

_AT_ONCE = 8
"""Observations under way at the same time in one search; each may be a process."""
_GRACE = 1.0
"""Seconds that a cancelled observation has to end."""


class Observer:
    """The observations of one search, by the state and the step that they belong to."""

    def __init__(
        self,
        task: GuardedTask,
        limits: ObserveLimits,
        known: Mapping[str, Observation],
        emit: Callable[[Event], None],
        *,
        recorded_only: bool,
        legality: bool,
    ) -> None:
        """``known`` are those of the journal; with ``recorded_only`` there are no others, as in a replay.

        With ``legality`` illegal steps are not observed.
        """
        self._task, self._limits, self._known, self._emit = task, limits, known, emit
        self._recorded_only, self._legality = recorded_only, legality
        self._pace = aio.Pace()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._begun: dict[str, asyncio.Task[Observation]] = {}

    async def begin_all(self, growth: Growth, reply: Reply, steps: Sequence[str]) -> None:
        """Begin the observations of a reply's steps, as many as may become children, so that tools run side by side."""
        begun: set[asyncio.Task[Observation]] = set()
        for completion in reply.completions:
            if completion.finish == "refused":
                continue
            proposed = await self._pace.in_thread(
                self._task.read_thoughts, growth.role, completion.text, growth.parent, steps
            )
            for step in proposed:
                if len(begun) == growth.most:
                    return
                if step.fault is None or (step.fault == "illegal" and not self._legality):
                    begun.add(self._begin(growth.parent, step))

    async def observed(
        self, step: ProposedStep, parent: Thought, steps: Sequence[str]
    ) -> tuple[ProposedStep, str | None]:
        """The step with what came of it, and its fault: ``failed`` where nothing did.

        Raises JournalError, and NotRecordedError in a replay that lacks the observation.
        """
        observation = await self._begin(parent, step)
        if observation.error is not None:
            return replace(step, reason=observation.error), "failed"
        if observation.text is None:
            return step, None
        read = await self._pace.in_thread(self._task.read_observed, step, parent, steps, observation.text)
        return read, None if read.fault == step.fault else read.fault

    def _begin(self, parent: Thought, step: ProposedStep) -> asyncio.Task[Observation]:
        """The observation of a step, under way or known already."""
        id = observation_id(parent.state, step.text)
        if id not in self._begun:
            self._begun[id] = asyncio.ensure_future(self._observe(id, parent, step.text))
        return self._begun[id]

    async def _observe(self, id: str, parent: Thought, step: str) -> Observation:
        seconds = None
        if (observation := self._known.get(id)) is None:
            if self._recorded_only:
                raise NotRecordedError(f"the journal holds no observation of the step {step[:80]!r}")
            async with self._slots:
                began = time.monotonic()
                observation = await self._call(parent.state, step)
                seconds = time.monotonic() - began
        self._emit(observed_event(id, observation, step, thought=parent.id, seconds=seconds))
        return observation

    async def _call(self, parent: str, step: str) -> Observation:
        """Within the limits; what goes wrong in it is the observation's error."""
        call = asyncio.ensure_future(self._task.observe(parent, step))
        try:
            await asyncio.wait({call}, timeout=self._limits.timeout)
            if not call.done():
                limit = f"{self._limits.timeout:g} s"
                return Observation(None, f"there was no observation within {limit} (observe.timeout), so it was ended")
            return self._cut(call.result())
        except (ToolError, PluginError) as error:
            return Observation(None, text.clean(" ".join(str(error).split())[:1000]))
        finally:
            if not call.done():
                call.cancel()
                await asyncio.wait({call}, timeout=_GRACE)
            if call.done() and not call.cancelled():
                call.exception()  # retrieved, or asyncio logs it

    def _cut(self, observation: str | None) -> Observation:
        most = self._limits.characters
        if observation is None or len(observation) <= most:
            return Observation(None if observation is None else text.clean(observation))
        return Observation(f"{text.clean(observation[:most])} [{len(observation) - most:,} more characters]")

    async def close(self) -> None:
        """End what is under way, to be called when the search has ended in any way."""
        await aio.cancel(list(self._begun.values()))


def observation_id(state: str, step: str) -> str:
    """Digest of a state and a step that is taken there."""
    return hashlib.blake2b(repr((state, step)).encode(errors="surrogatepass"), digest_size=12).hexdigest()
