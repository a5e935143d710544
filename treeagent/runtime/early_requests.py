"""Requests that are sent before the search asks for them.

The noise of a request is keyed by its place and not by its time, so an early answer is the one that the search would
get later. Early requests are not in the tree, the counts, the ledger's real books or the journal's story; a request of
the search takes over the early one of the same id. What fails early is asked again where the search asks for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from .. import aio
from ..backend import Backend
from ..errors import TreeagentError
from ..plugin_boundary import PluginBoundary
from ..reply import OnText, Partial, Usage
from ..request import Key, Request, ScoreRequest
from .budget import Ledger, Reservation
from .early_entry import Answer, AnyRequest, EarlyEntry, NotAnsweredError
from .early_figures import LEAST, Chances, SavedSeconds, Speculated
from .events import Event
from .journal import early_event
from .reply_text import checked_reply, checked_scores


class EarlyRequests:
    """The early requests of one search: at most ``most`` at a time, in the order of their chances."""

    def __init__(
        self,
        backends: Sequence[Backend],
        ledger: Ledger,
        chances: Chances,
        known: Callable[[str], Answer | None],
        where: str,
        clock: Callable[[], float] = time.monotonic,
        names: Sequence[str] = (),
    ) -> None:
        """``known`` are a journal's answers by request id; ``clock`` gives the seconds since the run began.

        ``names`` are those of the models after the generator's and the evaluator's.
        """
        self.most = 0
        """How many may run; 0: none, and every request of the search goes to the backend as it is."""
        self.listeners: dict[Key, OnText] = {}
        """Who hears what a generation has written so far, by its key."""
        self.chances = chances
        self._backends, self._ledger, self._names = backends, ledger, ("", "", *names)
        self._known, self._clock = known, clock
        self._where = where
        self._entries: dict[str, EarlyEntry] = {}
        self._queue: list[EarlyEntry] = []
        self._unsent: dict[str, str] = {}
        """Kinds of guesses that were not sent, by the request's id."""
        self._running: set[EarlyEntry] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling = self._closed = False
        self._asked = False  # nothing is sent early while a journal answers all that the search asks for
        self._hits: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()
        self._wasted, self._wasted_at_least = Usage(), 0
        self._errors = 0
        self._saved = SavedSeconds()
        self._events: list[Event] = []
        ledger.press(self._release)

    def name_of(self, place: int) -> str:
        """The name of a further model; empty for the generator's own and the evaluator's."""
        return self._names[place]

    def allow(self, most: int) -> None:
        """Send so many at a time; of those that are too unlikely only learn how likely they are."""
        self.most = most

    # What the search asks for

    async def answer(self, request: AnyRequest, place: int) -> Answer:
        """The answer to a request of the search, joined where it was sent early. Raises what the backend raises."""
        if not self.most:
            return await self._ask(request, place, None)
        self._asked = True
        asked, wave = self._clock(), self._saved.wave(request.key.role if isinstance(request, Request) else "score")
        entry = self._entries.get(request.id)
        if (kind := self._unsent.pop(request.id, None)) is not None:
            self.chances.learn(kind, hit=True)
        if entry is not None and not entry.real:
            entry.real, entry.asked = True, asked
            if entry.task is None:
                self._queue.remove(entry)
            elif (answer := await self._joined(entry)) is not None:
                self._saved.answered(wave, entry.seconds or 0.0, self._clock() - asked)
                return answer
        if entry is None or entry.task is not None:
            entry = self._entries[request.id] = self._entry(request, "", place)
            entry.real = True
        try:
            entry.answer = await self._ask(request, place, self._listener(request))
        finally:
            entry.ended.set()
        self._saved.answered(wave, self._clock() - asked, self._clock() - asked)
        return entry.answer

    async def _joined(self, entry: EarlyEntry) -> Answer | None:
        """The answer of an early request that has become real; None where it failed."""
        self._running.discard(entry)
        if entry.ticket is not None:
            self._ledger.release_early(entry.ticket)  # the search pays for it
        self._fill_soon()
        try:
            with self._inside(entry.place):
                self._backends[entry.place].raise_priority(entry.request)
            await entry.ended.wait()
        finally:
            if not entry.ended.is_set() and entry.task is not None:
                await aio.cancel([entry.task])
        if entry.answer is not None:
            self._settled(entry, hit=True)
        return entry.answer

    # What is asked early

    async def ahead(self, request: AnyRequest, kind: str, place: int, chance: float) -> Answer:
        """The answer to a request that the search may make later. Raises NotAnsweredError.

        Where nobody awaits it any more, it is cancelled.
        """
        if (known := self._known(request.id)) is not None:
            return known
        entry = self._entries.get(request.id)
        if entry is None:
            if self._closed or not self._asked or chance < LEAST:
                self._unsent[request.id] = kind
                raise NotAnsweredError
            self._unsent.pop(request.id, None)
            entry = self._entries[request.id] = self._entry(request, kind, place, chance)
            self._queue.append(entry)
            self._fill_soon()
        entry.waiting += 1
        try:
            await entry.ended.wait()
        finally:
            entry.waiting -= 1
            if not entry.waiting and not entry.real and not entry.ended.is_set():
                self._cancel(entry)
        if entry.answer is None:
            raise NotAnsweredError
        return entry.answer

    def _entry(self, request: AnyRequest, kind: str, place: int, chance: float = 1.0) -> EarlyEntry:
        return EarlyEntry(request, kind, place, len(self._entries), chance)

    def _fill_soon(self) -> None:
        """Send what waits, once all that is asked for in this turn of the loop is known."""
        if not self._filling and self._queue:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = False
        self._queue.sort(key=lambda entry: (-entry.chance, entry.number))
        while self._queue and len(self._running) < self.most and not self._closed:
            entry = self._queue.pop(0)
            entry.ticket = self._reserved(entry)
            if entry.ticket is None:
                del self._entries[entry.request.id]
                entry.ended.set()
                continue
            entry.began = self._clock()
            entry.task = asyncio.ensure_future(self._run(entry))
            self._running.add(entry)
            self._tasks.add(entry.task)
            entry.task.add_done_callback(partial(self._end, entry))

    def count_error(self) -> None:
        """A guess has ended with an error."""
        self._errors += 1

    def _reserved(self, entry: EarlyEntry) -> Reservation | None:
        """None where the budget has no room for it, or the backend cannot say how much it needs."""
        try:
            with self._inside(entry.place):
                copies = self._backends[entry.place].prompt_copies(entry.request)
        except TreeagentError:
            self._errors += 1
            return None
        return self._ledger.reserve_early(entry.request, entry.place, copies)

    async def _run(self, entry: EarlyEntry) -> None:
        request = replace(entry.request, priority=entry.chance)
        heard = self._listener(request)

        def on_text(written: Partial) -> None:
            entry.tokens[written.sample] = written.tokens
            if heard is not None:
                heard(written)

        try:
            with self._inside(entry.place):
                answer = await self._ask(request, entry.place, on_text)
                if isinstance(request, ScoreRequest):
                    entry.answer = checked_scores(answer, len(request.continuations))
                else:
                    entry.answer = checked_reply(answer)
        except TreeagentError:
            self._errors += 1

    def _end(self, entry: EarlyEntry, task: asyncio.Task[None]) -> None:
        """What follows when the task of an early request has ended in any way."""
        self._tasks.discard(task)
        self._running.discard(entry)
        entry.seconds = self._clock() - entry.began
        entry.ended.set()
        if not entry.real and self._entries.get(entry.request.id) is entry:
            if entry.answer is None:
                self._miss(entry)
            elif entry.ticket is not None:
                self._ledger.book_early(entry.ticket, entry.answer.usage)  # until the search pays for it
        self._fill_soon()

    async def _ask(self, request: AnyRequest, place: int, on_text: OnText | None) -> Answer:
        backend = self._backends[place]
        if isinstance(request, ScoreRequest):
            return await backend.score(request)
        return await (backend.generate(request) if on_text is None else backend.stream(request, on_text))

    def _inside(self, place: int) -> PluginBoundary:
        """The boundary that names a backend; which one runs may be known since the last load."""
        return PluginBoundary("backend", self._backends[place].name, self._where)

    def _listener(self, request: AnyRequest) -> OnText | None:
        return self.listeners.get(request.key) if isinstance(request, Request) else None

    # What becomes of it

    def _cancel(self, entry: EarlyEntry) -> None:
        """Give up an early request that has not ended."""
        if entry.task is None:
            self._queue.remove(entry)
            del self._entries[entry.request.id]
        else:
            self._miss(entry)
            entry.task.cancel()
        entry.ended.set()

    def _miss(self, entry: EarlyEntry) -> None:
        del self._entries[entry.request.id]
        usage = entry.usage
        self._wasted += usage
        self._wasted_at_least += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        if entry.ticket is not None:
            self._ledger.book_early(entry.ticket, entry.usage)
        self._settled(entry, hit=False)

    def _settled(self, entry: EarlyEntry, *, hit: bool) -> None:
        self.chances.learn(entry.kind, hit=hit, written=entry.usage.completion_tokens or 0)
        (self._hits if hit else self._misses)[entry.kind] += 1
        seconds = self._clock() - entry.began if entry.seconds is None else entry.seconds
        event = early_event(entry.request, entry.kind, hit, entry.began, seconds, entry.usage, entry.asked)
        self._events.append(event)

    def _release(self) -> bool:
        """Give up all early requests that run, for a request of the search; whether there were any."""
        running = [entry for entry in self._running if not entry.ended.is_set()]
        for entry in running:
            self._cancel(entry)
        return bool(running)

    def events(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    async def close(self) -> None:
        """Cancel what still runs, wait until it has ended, and count all that was not asked for as misses."""
        self._closed = True
        for kind in self._unsent.values():
            self.chances.learn(kind, hit=False)
        self._unsent.clear()
        for entry in list(self._entries.values()):
            if not entry.real and not entry.ended.is_set():
                self._cancel(entry)
            elif not entry.real:
                self._miss(entry)
        await aio.cancel(list(self._tasks))

    @property
    def figures(self) -> Speculated | None:
        """What became of the early requests; None where none are sent."""
        if not self.most:
            return None
        hits, misses = (dict(sorted(counts.items())) for counts in (self._hits, self._misses))
        saved = round(self._saved.total, 4)
        return Speculated(hits, misses, self._wasted, self._wasted_at_least, self._errors, saved)
