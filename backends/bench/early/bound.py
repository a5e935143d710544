"""The least number of passes that the requests of a solved input need, in whatever order they are sent.

A request needs its prompt. So it begins no sooner than the line stands from which its thought is read, and that line no
sooner than the request that writes it. An oracle that knows which requests the search will make, and rows that cost
nothing, come to exactly the end of the longest chain of such steps; nothing that leaves the tree as it is comes before.
"""

from __future__ import annotations

from collections.abc import Sequence

from treeagent.reply import Completion
from treeagent.runtime.events import CompletionEvent
from treeagent.thought import Thought, Tree

PROMPT = 1
"""Passes that compute a prompt, before the first token."""


def longest_chain(tree: Tree, completions: Sequence[CompletionEvent]) -> int:
    """Passes until the last of these requests of a search has ended, where each begins as soon as it can."""
    replies = {event.id: event for event in completions}
    known: dict[int, int] = {}
    for thought in tree:  # parents stand before their children
        above = 0 if thought.parent is None else known[thought.parent]
        event = None if thought.request is None else replies.get(thought.request)
        known[thought.id] = above if event is None else above + PROMPT + _line_end(event.completions, thought)
    return max((known[event.thought or 0] + passes(event.completions) for event in completions), default=0)


def passes(completions: Sequence[Completion]) -> int:
    """Of a request whose completions are written side by side."""
    return PROMPT + max((len(completion.tokens or ()) for completion in completions), default=0)


def _line_end(completions: Sequence[Completion], thought: Thought) -> int:
    """Tokens after which the line of a thought is whole: with that of its line feed, or the last one."""
    completion = completions[thought.sample or 0]
    ends, tokens = completion.ends or (), len(completion.tokens or ())
    place = completion.text.find(thought.text.strip())
    feed = completion.text.find("\n", place + len(thought.text.strip())) if place >= 0 else -1
    if feed < 0:
        return tokens
    return next((number for number, end in enumerate(ends, 1) if end > feed), tokens)
