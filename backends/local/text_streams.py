"""Texts of streamed requests on their way from a model's thread to the event loops that await them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from treeagent.reply import Partial

from .request_queue import PendingRequest
from .sample import Sample


class TextStreams:
    """Hands out texts as they grow; used by one thread, that of the model."""

    def __init__(self) -> None:
        self._live: list[_RequestText] = []

    def add(self, pending: PendingRequest[Any], samples: Sequence[Sample]) -> None:
        """Hand out the texts of a request's samples, if it is streamed."""
        if pending.on_text is not None:
            self._live.append(_RequestText(pending, samples))

    def hand_out(self) -> None:
        """Hand out what was added since the last call: one callback for each event loop, before any later reply."""
        if not self._live:
            return
        fresh: defaultdict[asyncio.AbstractEventLoop, list[tuple[PendingRequest[Any], Partial]]] = defaultdict(list)
        for text in self._live:
            if text.pending.is_wanted():
                fresh[text.pending.future.get_loop()] += [(text.pending, part) for part in text.read()]
        for loop, parts in fresh.items():
            if parts:
                try:
                    loop.call_soon_threadsafe(_deliver, parts)
                except RuntimeError:  # the loop was closed in the meantime
                    continue
        self._live = [text for text in self._live if text.open]


class _RequestText:
    """The texts of one request."""

    def __init__(self, pending: PendingRequest[Any], samples: Sequence[Sample]) -> None:
        self.pending = pending
        self._samples = samples
        self._readers = dict(enumerate(sample.reader() for sample in samples))

    @property
    def open(self) -> bool:
        """Whether more may follow."""
        return self.pending.is_wanted() and bool(self._readers)

    def read(self) -> list[Partial]:
        """What was added since the last call; nothing where thinking takes back what was handed out.

        Nothing, too, of a text that is generated again, before there is more of it than the first time.
        """
        known = self.pending.texts
        read = [part for index, reader in self._readers.items() if (part := reader.read(index)) is not None]
        parts = [part for part in read if part.text.startswith(known.get(part.sample, ""))]
        known.update((part.sample, part.text) for part in parts)
        for index in [index for index in self._readers if self._samples[index].completion is not None]:
            del self._readers[index]
        return parts


def _deliver(parts: Sequence[tuple[PendingRequest[Any], Partial]]) -> None:
    """Call the listeners of requests that are still awaited; runs in the loop's thread."""
    for pending, part in parts:
        if pending.on_text is not None and not pending.future.done():
            pending.on_text(part)
