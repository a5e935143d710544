"""Hands out the texts of streamed completions as they grow."""

from __future__ import annotations

from collections.abc import Sequence

from treeagent.reply import Completion, OnText, Partial
from treeagent.stable_text import stable_text

from .body import whole_text
from .event_stream import EventStream
from .protocol import TextRules


class TextListener:
    """Listens to one request over HTTP, whose choices are samples of one request of a search."""

    def __init__(self, on_text: OnText, rules: TextRules, samples: Sequence[Sequence[int]]) -> None:
        """``samples``: for each choice the samples that it is the text of, several where all are equal."""
        self._on_text, self._rules, self._samples = on_text, rules, samples
        self._last = [""] * len(samples)

    def arrived(self, stream: EventStream) -> None:
        """Hand out what events have added. After a retry nothing is, until the new text is longer than the old one."""
        for index, text in stream.texts().items():
            place = 0 if len(self._samples) == 1 else index
            if 0 <= place < len(self._samples):
                known = stable_text(_without_half(text), self._rules.stop, self._rules.thinking)
                if len(known) > len(self._last[place]):
                    self._hand_out(place, known, whole=False)

    def completed(self, completions: Sequence[Completion]) -> None:
        """Hand out whole texts."""
        for place, completion in enumerate(completions[: len(self._samples)]):
            self._hand_out(place, completion.text, whole=True)

    def _hand_out(self, place: int, text: str, *, whole: bool) -> None:
        if not text.startswith(self._last[place]):
            return
        self._last[place] = text
        for sample in self._samples[place]:
            self._on_text(Partial(sample, text, whole=whole))


def _without_half(text: str) -> str:
    """The text without half a surrogate pair at its end, of which the next event brings the rest."""
    return whole_text(text[:-1] if "\ud800" <= text[-1:] <= "\udbff" else text)
