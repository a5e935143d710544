"""The least time that the requests of a solved input need, in whatever order they are sent.

A request needs its prompt. So it begins no sooner than the line stands from which its thought is read, and that line no
sooner than the request that writes it. An oracle that knows which requests the search will make, and rows that cost
nothing, come to exactly the end of the longest chain of such steps; nothing that leaves the tree as it is comes before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from treeagent.reply import Completion
from treeagent.runtime.events import CompletionEvent
from treeagent.thought import Thought, Tree

PROMPT = 1
"""Passes that compute a prompt, before the first token."""
Time = TypeVar("Time", int, float)


def longest_chain(tree: Tree, completions: Sequence[CompletionEvent]) -> int:
    """Passes until the last of these requests of a search has ended, where each begins as soon as it can.

    Each token takes a pass.
    """

    def whole(event: CompletionEvent) -> int:
        return passes(event.completions)

    def line(event: CompletionEvent, thought: Thought) -> int:
        return PROMPT + _line_end(event.completions, thought)

    return chain_end(tree, completions, whole, line)


def chain_end(
    tree: Tree,
    completions: Sequence[CompletionEvent],
    whole: Callable[[CompletionEvent], Time],
    line: Callable[[CompletionEvent, Thought], Time],
) -> Time:
    """When the last of these requests has ended, where each begins as soon as it can, from 0 on.

    ``whole`` is the time of a request, and ``line`` the part of it until the line of a thought stands.
    """
    replies = {event.id: event for event in completions}
    known: dict[int, Time] = {}
    for thought in tree:  # parents stand before their children
        above: Time = 0 if thought.parent is None else known[thought.parent]
        event = None if thought.request is None else replies.get(thought.request)
        known[thought.id] = above if event is None else above + line(event, thought)
    return max((known[event.thought or 0] + whole(event) for event in completions), default=0)


def passes(completions: Sequence[Completion]) -> int:
    """Of a request whose completions are written side by side."""
    return PROMPT + max((len(completion.tokens or ()) for completion in completions), default=0)


def line_feed(completion: Completion, thought: Thought) -> int | None:
    """Where the line of a thought ends in a completion; None where nothing ends it."""
    line = thought.text.strip()
    place = completion.text.find(line)
    feed = completion.text.find("\n", place + len(line)) if place >= 0 else -1
    return None if feed < 0 else feed


def _line_end(completions: Sequence[Completion], thought: Thought) -> int:
    """Tokens after which the line of a thought is whole: with that of its line feed, or the last one."""
    completion = completions[thought.sample or 0]
    tokens, feed = len(completion.tokens or ()), line_feed(completion, thought)
    if feed is None:
        return tokens
    return next((number for number, end in enumerate(completion.ends or (), 1) if end > feed), tokens)
