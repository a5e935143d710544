"""Turns tokens into text as they are generated, and finds a stop string as soon as it is complete.

Bytes of one character may be spread over several tokens, and some decoders treat the first token apart (leading space);
so a token is never decoded alone but in a short window that starts with tokens whose text is known already. A
byte-level vocabulary has no such decoder: the text of a token of whole characters is added as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

from treeagent.reasoning import Thinking

Decode = Callable[[Sequence[int]], str]

CONTEXT = 4
"""Prompt tokens that are decoded along with a completion, so that its first token is not taken for a text's start."""
WINDOW = 4 * CONTEXT
"""Known tokens that are decoded along with new ones at most; then all but the last CONTEXT are left out."""

_BROKEN = "\ufffd"  # what decoders put for bytes that are no character (yet)


def decode_after(decode: Decode, before: Sequence[int], tokens: Sequence[int]) -> str:
    """The text of ``tokens`` where they follow the tokens ``before``."""
    head = decode(before) if before else ""
    whole = decode([*before, *tokens])
    return whole[len(head) :] if whole.startswith(head) else decode(tokens)


class IncrementalDetokenizer:
    """The text of a growing list of tokens, and where in it a stop string begins."""

    def __init__(
        self, decode: Decode, prompt: Sequence[int], stop: Sequence[str], thinking: Thinking | None = None
    ) -> None:
        """Stop strings are not looked for in ``thinking``.

        ``decode`` may have ``pieces``, see :class:`treeagent.backends.models.token_codec.TokenCodec`.
        """
        self.text = ""
        """Text that later tokens cannot change, without an incomplete last character."""
        self.cut: int | None = None
        """Offset in ``text`` at which the first stop string begins, None while there is none."""
        self._decode = decode
        self._stop = stop
        self._pieces: Mapping[int, str | None] | None = getattr(decode, "pieces", None)
        self._last = {end[-1] for end in stop}  # a stop string is complete with one of these
        self._longest = max(map(len, stop), default=0)
        self._thinking = thinking  # None once it has ended
        self._begin = 0  # offset in text from which stop strings are looked for
        self._searched = 0  # offset in text up to which stop strings have been looked for
        self._known = list(prompt[-CONTEXT:])  # tokens whose text is known: the window's first part
        self._head: str | None = None  # their text, None where it is not known alone
        self._fresh: list[int] = []  # tokens whose text is held back
        self._ends: list[int] = []  # offset in text after each token

    @property
    def is_thinking(self) -> bool:
        """Whether thinking that the text began with is open."""
        return self._thinking is not None and self._thinking.answer_start(self.text) is None

    def fork(self) -> IncrementalDetokenizer:
        """A copy with the same tokens."""
        twin = copy(self)
        twin._known, twin._fresh, twin._ends = list(self._known), list(self._fresh), list(self._ends)
        return twin

    def push(self, token: int) -> bool:
        """Add a token; whether the text now contains a stop string."""
        if self._pieces is not None and not self._fresh and self._thinking is None:
            piece = self._pieces[token]
            if piece is not None:
                self._known.append(token)
                self._head = None
                self.text += piece
                self._ends.append(len(self.text))
                if not self._last.isdisjoint(piece):
                    self._find()
                return self.cut is not None
        self._fresh.append(token)
        fresh, whole = self._decoded()
        if fresh.endswith(_BROKEN):
            return False
        self._take(fresh, whole)
        return self.cut is not None

    def finish(self) -> bool:
        """Add what was held back, as no token follows; whether the text contains a stop string."""
        if self._fresh:
            self._take(*self._decoded())
        return self.cut is not None

    def _decoded(self) -> tuple[str, str | None]:
        """The text of the tokens that are held back, and that of the whole window where it begins with the known one's.

        As :func:`decode_after`, but the text of known tokens is decoded once.
        """
        if self._head is None:
            if len(self._known) > WINDOW:
                self._known = self._known[-CONTEXT:]
            self._head = self._decode(self._known) if self._known else ""
        whole = self._decode([*self._known, *self._fresh])
        if whole.startswith(self._head):
            return whole[len(self._head) :], whole
        return self._decode(self._fresh), None

    def before_cut(self, tokens: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """The text before the stop string, and those of the pushed tokens that lie wholly in it."""
        if self.cut is None:
            return self.text, tuple(tokens)
        kept = sum(1 for end in self._ends if end <= self.cut)
        return self.text[: self.cut], tuple(tokens[:kept])

    def ends(self, count: int) -> tuple[int, ...]:
        """Offset in the text after each of the first ``count`` tokens, once their text is known."""
        return tuple(self._ends[:count])

    def _take(self, fresh: str, whole: str | None) -> None:
        self.text += fresh
        self._ends += [len(self.text)] * len(self._fresh)
        known = [*self._known, *self._fresh]
        if len(known) > WINDOW or whole is None:
            known, whole = known[-max(CONTEXT, len(self._fresh)) :], None
        self._known, self._head = known, whole
        self._fresh = []
        if self._thinking is not None:
            begin = self._thinking.answer_start(self.text)
            if begin is None:
                return
            self._begin = begin
            if self.text[begin:].strip():
                self._thinking = None  # what follows is not thinking
        self._find()

    def _find(self) -> None:
        """Look for the first stop string in what was added since the last time."""
        start = max(self._begin, self._searched - self._longest + 1)
        self._searched = len(self.text)
        cuts = [at for at in (self.text.find(stop, start) for stop in self._stop) if at >= 0]
        self.cut = min(cuts, default=None)
