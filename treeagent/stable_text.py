"""The part of a growing text that its end cannot change any more."""

from __future__ import annotations

from collections.abc import Sequence

from .reasoning import Thinking, without_begun


def stable_text(text: str, stop: Sequence[str], thinking: Thinking | None = None) -> str:
    """What a completion begins with whatever follows ``text``.

    A stop string that has begun is held back, and so is thinking. Thinking that nothing opened is known only by its
    closing mark, so that this mark alone can take back what is returned.
    """
    known = text if thinking is None else thinking.settled(text)
    cuts = [at for at in (known.find(end) for end in stop) if at >= 0]
    return known[: min([*cuts, len(without_begun(known, stop))])]  # a longer stop string may have begun before a cut
