"""Training data out of a recorded tree: pairs of sibling steps, and paths whose steps are labelled.

The columns that a trainer reads are those of TRL: ``prompt``, ``chosen`` and ``rejected`` for preferences; ``prompt``,
``completions`` and ``labels`` for the supervision of steps. The other columns say where a row comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ..errors import JournalError
from ..thought import Thought, Tree
from .journal import Event
from .journal_tree import Rebuilt, rebuild


@dataclass(frozen=True, slots=True)
class SampledText:
    """The completion that a step was read from."""

    prompt: str
    messages: tuple[dict[str, str], ...]
    """Of a chat, those before the prompt."""
    text: str
    tokens: list[int] | None
    logprob: float | None
    """Natural logarithm, the sum over the drawn tokens (an end of text and a stop string included), untempered; None
    where the backend did not report it, and for a model that thinks."""


def preferences(events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    """Each pair of siblings with one prompt, the better one as ``chosen``. Raises JournalError.

    A step on the path of an answer that the task found right is better than its siblings (``basis`` verdict); of other
    pairs, the one of the higher value (``basis`` judgement). Pairs of equal or unknown value are left out.
    """
    rebuilt, texts = rebuild(events), _texts(events)
    solution = _right_path(rebuilt)
    for siblings in _families(rebuilt.tree):
        for pair in combinations(siblings, 2):
            one, other = (_text(texts, each) for each in pair)
            better = _better(pair, solution)
            if (
                better is None
                or one is None
                or other is None
                or (one.prompt, one.messages) != (other.prompt, other.messages)
            ):
                continue
            chosen, rejected = pair if better is pair[0] else pair[::-1]
            sampled = (one, other) if better is pair[0] else (other, one)
            by_verdict = chosen.id in solution and rejected.id not in solution
            yield _pair(rebuilt, chosen, rejected, sampled, by_verdict=by_verdict)


def labelled_steps(events: Sequence[Event], threshold: float | None = None) -> Iterator[dict[str, Any]]:
    """Each path from the input to a leaf, with a label for every step. Raises JournalError.

    A step is right if it leads to the answer that the task found right; else if its value is at least ``threshold``.
    Without a threshold, only paths to terminal thoughts and answers count, of runs with a verdict, and their other
    steps are wrong (hard estimation, https://arxiv.org/abs/2312.08935). With one, a path ends before its first step
    without a value, and only once where several leaves share it.
    """
    rebuilt, texts = rebuild(events), _texts(events)
    solution, tree = _right_path(rebuilt), rebuilt.tree
    if threshold is None and rebuilt.solved is None:
        return
    parents = {thought.parent for thought in tree}
    written: set[int] = set()
    for leaf in tree:
        if leaf.id in parents or leaf.parent is None:
            continue
        if threshold is None and not (leaf.terminal or leaf.answer is not None):
            continue
        path: list[Thought] = []
        labels: list[bool] = []
        for step in tree.lineage(leaf):
            if step.parent is None:
                continue
            if step.id not in solution and threshold is not None and step.value is None:
                break
            path.append(step)
            labels.append(step.id in solution or (threshold is not None and step.value is not None
                                                  and step.value >= threshold))  # fmt: skip
        if not path or path[-1].id in written:
            continue
        written.add(path[-1].id)
        yield {
            "prompt": rebuilt.header["input"], "completions": [each.text for each in path], "labels": labels,
            "values": [each.value for each in path],
            "verdicts": [True if each.id in solution else None for each in path],
            "logprobs": [_logprob(texts, each) for each in path],
            "input": rebuilt.header["input"], "solved": rebuilt.solved, "thoughts": [each.id for each in path],
        }  # fmt: skip


def _pair(
    rebuilt: Rebuilt, chosen: Thought, rejected: Thought, sampled: tuple[SampledText, SampledText], *, by_verdict: bool
) -> dict[str, Any]:
    """The row of a pair, of whose thoughts ``sampled`` are the completions."""
    first, second = sampled
    chat = first.messages != ()

    def shown(text: str, role: str) -> Any:
        return [{"role": role, "content": text}] if chat else text

    row: dict[str, Any] = {
        "prompt": [*first.messages, {"role": "user", "content": first.prompt}] if chat else first.prompt,
        "chosen": shown(_completion(first, chosen), "assistant"),
        "rejected": shown(_completion(second, rejected), "assistant"),
        "basis": "verdict" if by_verdict else "judgement",
        "input": rebuilt.header["input"], "solved": rebuilt.solved, "parent": chosen.parent,
    }  # fmt: skip
    for name, thought, text in (("chosen", chosen, first), ("rejected", rejected, second)):
        row |= {
            f"{name}_value": thought.value, f"{name}_labels": None if thought.judgement is None
            else list(thought.judgement.labels),
            f"{name}_logprob": text.logprob if _is_whole(text, thought) else None,
            f"{name}_tokens": text.tokens if _is_whole(text, thought) else None, f"{name}_thought": thought.id,
        }  # fmt: skip
    return row


def _families(tree: Tree) -> Iterator[list[Thought]]:
    """The children of each thought that has several."""
    families: dict[int, list[Thought]] = {}
    for thought in tree:
        if thought.parent is not None:
            families.setdefault(thought.parent, []).append(thought)
    yield from (children for children in families.values() if len(children) > 1)


def _better(pair: tuple[Thought, Thought], solution: frozenset[int]) -> Thought | None:
    one, other = pair
    if (one.id in solution) != (other.id in solution):
        return one if one.id in solution else other
    if one.value is None or other.value is None or one.value == other.value:
        return None
    return one if one.value > other.value else other


def _right_path(rebuilt: Rebuilt) -> frozenset[int]:
    """Ids of the thoughts on the path to the answer, where the task found it right."""
    if rebuilt.solution is None or rebuilt.solved is not True:
        return frozenset()
    return frozenset(thought.id for thought in rebuilt.tree.lineage(rebuilt.solution))


def _texts(events: Sequence[Event]) -> dict[str, list[SampledText]]:
    """The completions of each request."""
    return {
        event.data["id"]: [
            SampledText(event.data["prompt"], tuple(event.data.get("messages") or ()), each["text"], each["tokens"],
                        None if each.get("reasoning") else each.get("logprob"))
            for each in event.data["completions"]
        ]
        for event in events if event.type == "completion"
    }  # fmt: skip


def _text(texts: dict[str, list[SampledText]], thought: Thought) -> SampledText | None:
    """The completion that a thought was read from; None for one that came from none. Raises JournalError."""
    if thought.request is None or thought.sample is None:
        return None
    samples = texts.get(thought.request, [])
    if not 0 <= thought.sample < len(samples):
        raise JournalError(f"thought {thought.id}: the journal has no completion {thought.request}, {thought.sample}")
    return samples[thought.sample]


def _is_whole(text: SampledText, thought: Thought) -> bool:
    """Whether the completion is this step alone, so that its log-probability is the step's."""
    return text.text.strip() == thought.text.strip()


def _completion(text: SampledText, thought: Thought) -> str:
    """The step as the model wrote it, white space included, where it is alone in its completion."""
    return text.text if _is_whole(text, thought) else thought.text


def _logprob(texts: dict[str, list[SampledText]], thought: Thought) -> float | None:
    text = _text(texts, thought)
    return text.logprob if text is not None and _is_whole(text, thought) else None
