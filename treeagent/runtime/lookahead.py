"""Asks early for what a search will probably ask for: reads replies while they are written, and follows its hints.

It sees the tree and changes nothing of it. What it asks for goes to the early requests alone; what goes wrong in it
ends that guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from .. import aio
from ..errors import TreeagentError
from ..plugin_boundary import PluginBoundary
from ..proposed_step import ProposedStep
from ..reply import Partial, Reply
from ..request import Key
from ..search import After
from ..text import clean
from ..thought import Judgement, Thought
from .early_requests import EarlyRequests
from .guarded_task import GuardedTask
from .guesses import Guesses
from .outlook import Growth, Outlook

BRIEF = 0.05
"""Seconds of a reading after which the following ones have a thread again."""


@dataclass(frozen=True, slots=True)
class _Hints:
    """What a search says before it grows thoughts."""

    thoughts: Sequence[Thought] = ()
    after: After | None = None
    role: str | None = None
    n: int | None = None


class Lookahead:
    """The guesses of one search. Without early requests each method returns at once."""

    def __init__(
        self, guarded: GuardedTask, outlook: Outlook, guesses: Guesses, early: EarlyRequests, seed: int, where: str
    ) -> None:
        """``where`` names the input in errors."""
        self._guarded, self._outlook, self._guesses = guarded, outlook, guesses
        self._early, self._seed = early, seed
        self._inside = PluginBoundary("search", "its hints", where)
        self._hints, self._next_hints = _Hints(), _Hints()
        self._running: list[Growth] = []
        self._unread: dict[Growth, None] = {}
        self._worker: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._pace = aio.Pace()
        self._brief = guarded.reads_apart
        """Whether steps are read in the loop, each once, and not in a thread."""

    # What the explorer reports

    def likely(self, thoughts: Iterable[Thought], after: After | None, role: str | None, n: int | None) -> None:
        """Hints for the next expansions."""
        if not self._early.most:
            return
        try:
            with self._inside:
                named = [thought for thought in islice(thoughts, 8 * self._early.most) if isinstance(thought, Thought)]
                self._next_hints = _Hints(named, after, role, n)
        except TreeagentError:
            self._early.count_error()

    def begin(self, growths: Sequence[Growth]) -> list[Growth]:
        """The search has asked for expansions; returns them, those that were asked for early in place of the same."""
        if not self._early.most:
            return list(growths)
        if not self._running:
            self._hints, self._next_hints = self._next_hints, _Hints()
        begun = [self._begun(growth) for growth in growths]
        self._running += begun
        self._unread |= dict.fromkeys(begun)
        self._go_on()
        return begun

    def _begun(self, growth: Growth) -> Growth:
        early = self._outlook.growths.get((growth.parent.id, growth.visit))
        if early is not None and (early.role, early.n, early.by) == (growth.role, growth.n, growth.by):
            early.parent, early.most, early.apart = growth.parent, growth.most, growth.apart
            early.judged, early.real, early.chance = growth.judged, True, 1.0
            return early
        if early is not None:
            self._guesses.give_up(self._outlook.drop(early))
        growth.real = True
        self._outlook.open(growth)
        self._listen(growth)
        return growth

    def hear_all(self, growth: Growth, reply: Reply) -> None:
        """The complete reply to an expansion, which may have to wait for others before it is read for real."""
        if self._early.most and not growth.settled:
            growth.texts = {
                sample: completion.text
                for sample, completion in enumerate(reply.completions)
                if completion.finish != "refused"
            }
            growth.whole = True
            self._unread[growth] = None
            self._go_on()

    def read(self, growth: Growth, children: Sequence[Thought]) -> None:
        """The reply to an expansion has been read for real."""
        if self._early.most:
            self._guesses.give_up(self._outlook.settle(growth, children))
            self._go_on()

    def end(self, growths: Sequence[Growth]) -> None:
        """Expansions are over; until the next ones begin, running guesses go on and no others are made."""
        self._running = [growth for growth in self._running if growth not in growths]
        for growth in growths:
            self._outlook.close(growth)
            self._early.listeners.pop(self._key(growth), None)

    async def close(self) -> None:
        """End all guesses, and wait until they have ended."""
        worker = [] if self._worker is None else [self._worker]
        await aio.cancel(worker)
        await self._guesses.close()
        await self._early.close()

    # Reading ahead

    def _listen(self, growth: Growth) -> None:
        self._early.listeners[self._key(growth)] = partial(self._hear, growth)

    def _key(self, growth: Growth) -> Key:
        model = self._early.name_of(growth.by)
        return Key(self._seed, growth.role, growth.parent.place, growth.visit, model)

    def _hear(self, growth: Growth, written: Partial) -> None:
        if growth.settled or growth.whole:
            return
        try:
            text = clean(written.text)
            if not written.whole:
                text = self._guarded.whole_steps(growth.role, text)
        except TreeagentError:
            self._early.count_error()
            return
        if len(text) > len(growth.texts.get(written.sample, "")):
            growth.texts[written.sample] = text
            self._unread[growth] = None
            self._go_on()

    def _go_on(self) -> None:
        if self._worker is None:
            self._worker = asyncio.ensure_future(self._work())
        self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unread:
                growth = next(iter(self._unread))
                del self._unread[growth]
                await self._read_ahead(growth)
            self._plan()

    async def _read_ahead(self, growth: Growth) -> None:
        for sample, text in sorted(growth.texts.items()):
            if growth.settled or growth.steps.get(sample, (None,))[0] == text:
                continue
            try:
                growth.steps[sample] = text, await self._read(growth, text, *growth.steps.get(sample, ("", ())))
            except TreeagentError:
                self._early.count_error()
                return
        if growth.settled:
            return
        self._guesses.give_up(self._outlook.number(growth))
        self._guesses.judgements(growth, self._foresee)

    async def _read(
        self, growth: Growth, text: str, before: str, known: Sequence[ProposedStep]
    ) -> Sequence[ProposedStep]:
        """The steps of a text, of whose beginning they are ``known``. Raises PluginError."""
        parent, steps = growth.parent, self._outlook.steps(growth.parent)
        if not self._brief:
            return await self._pace.in_thread(self._guarded.read_thoughts, growth.role, text, parent, steps)
        if growth.role != "propose" or not text.startswith(before):
            before, known = "", ()
        began = time.thread_time()
        read = self._guarded.read_thoughts(growth.role, text[len(before) :], parent, steps)
        seconds = time.thread_time() - began
        self._brief = seconds < BRIEF
        await self._pace.spent(seconds)
        return [*known, *read]

    def _foresee(self, thought: Thought, judgement: Judgement, requests: Sequence[str]) -> None:
        self._outlook.judge(thought.id, judgement)
        self._go_on()

    # Following the hints

    def _plan(self) -> None:
        """Ask early for what the search names, the likeliest first, and give up what it names no longer."""
        if not self._running:
            return
        kept: dict[int, asyncio.Task[None]] = {}
        seen: set[int] = set()
        for thought, kind in self._named():
            if len(kept) == self._early.most:
                break
            if thought.id not in seen:
                seen.add(thought.id)
                chain = all(id == thought.parent for id in kept) or list(kept)[-1] == thought.parent
                task = self._ask(thought, kind if chain or kind == "next" else "sibling")
                if task is not None and not task.done():
                    kept[thought.id] = task
        above = self._outlook.above(kept)  # what a guess hangs on is kept with it
        for growth in list(self._outlook.growths.values()):
            if growth.guessed and growth.task not in kept.values() and growth.parent.id not in above:
                self._guesses.give_up(self._outlook.drop(growth))

    def _ask(self, thought: Thought, kind: str) -> asyncio.Task[None] | None:
        """The early request for what the search does with a thought; None where it has asked for that itself."""
        above = self._outlook.chance(thought)
        if thought.terminal:
            return self._guesses.answer(thought, above)
        growth = self._outlook.growths.get((thought.id, 0))
        if growth is None and not self._outlook.visits(thought):
            chance = above * self._early.chances[kind]
            growth = self._running[0].continued(thought, self._hints.role, self._hints.n, chance)
            self._outlook.open(growth)
            self._listen(growth)
            self._guesses.expand(growth, kind, self.hear_all)
        return None if growth is None or growth.real else growth.task

    def _named(self) -> Iterator[tuple[Thought, str]]:
        """What the search would expand next, with the kind of hint; unknown thoughts are left out."""
        hints, below = self._hints, self._outlook.below(self._running)
        unjudged = self._guesses.judge is None or not self._running[0].judged
        try:
            with self._inside:
                after = () if hints.after is None else hints.after(below)
                for named in islice(after, len(below) + 8 * self._early.most):
                    thought = self._known(named)
                    if thought is not None and (thought.judgement is not None or unjudged):
                        yield thought, "child" if thought.id >= 0 else "piece"
        except TreeagentError:
            self._early.count_error()
            self._hints = replace(hints, after=None)
        yield from ((thought, "next") for named in hints.thoughts if (thought := self._known(named)) is not None)

    def _known(self, named: object) -> Thought | None:
        """What is known of a thought that a search names; None where it is none of the tree."""
        known = isinstance(named, Thought) and isinstance(named.id, int) and named.id in self._outlook
        return self._outlook[named.id] if isinstance(named, Thought) and known else None
