"""A request for rewards as tokens: a prompt, then each step with the mark behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional as F

from treeagent.errors import BackendError
from treeagent.reply import Scores, Usage
from treeagent.request import RewardRequest

from ..models.model import Model
from ..models.tokenizer import ChatTokenizer
from .base import check_fits


@dataclass(frozen=True, slots=True)
class RewardTokens:
    """What a process reward model reads, and where its rewards stand."""

    tokens: tuple[int, ...]
    """Prompt, steps and marks."""
    marks: tuple[int, ...]
    """Places of the marks in ``tokens``, one behind each step."""
    prompt: int
    """Tokens of the prompt."""
    columns: tuple[int, int]
    """Columns of a row of logits: those of a right and of a wrong step."""

    def rewards(self, logits: torch.Tensor) -> list[float]:
        """Natural-log rewards (n,) from the logits (n, V) of n marks, in float32 at least."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        right, wrong = self.columns
        values: list[float] = F.logsigmoid(wide[:, right] - wide[:, wrong]).tolist()
        return values

    def scores(self, rewards: Sequence[float]) -> Scores:
        """The answer to the request."""
        ends = (self.prompt, *(mark + 1 for mark in self.marks))
        lengths = tuple(end - start for start, end in pairwise(ends))
        return Scores(tuple(rewards), lengths, Usage(1, len(self.tokens), 0))


def reward_tokens(request: RewardRequest, text: ChatTokenizer, model: Model) -> RewardTokens:
    """The tokens of a request; each step is tokenised by itself, so that what is read before it stays what it was.

    White space behind the word of a mark stands before the next step. Raises BackendError.
    """
    columns = _columns(request, text, model)
    word = request.mark.strip() or request.mark
    mark = _token(word, text, "mark")
    between = request.mark.rpartition(word)[2]
    tokens = list(text.prompt(request.prompt))
    prompt, marks = len(tokens), []
    for number, step in enumerate(request.continuations):
        tokens += [*text.part(f"{between}{step}" if number else step), mark]
        marks.append(len(tokens) - 1)
    if model.context is not None:
        check_fits(len(tokens), model.context)
    return RewardTokens(tuple(tokens), tuple(marks), prompt, columns)


def _columns(request: RewardRequest, text: ChatTokenizer, model: Model) -> tuple[int, int]:
    if model.rewards and request.good is None:
        return 0, 1
    if model.rewards:
        raise BackendError("the process reward model has a reward head; leave the options good and bad out")
    if request.good is None or request.bad is None:
        raise BackendError(
            "the model is no process reward model with a reward head. Take one (--evaluator-model), or, for a causal "
            "model that was trained to write a token behind each step, name its tokens: --set evaluator.good=+ "
            "--set evaluator.bad=-"
        )
    return _token(request.good, text, "token of a right step"), _token(request.bad, text, "token of a wrong step")


def _token(word: str, text: ChatTokenizer, what: str) -> int:
    """The only token of a word, a blank before it not counted. Raises BackendError."""
    tokens = text.part(word)
    before = text.decode(tokens[:-1]).strip() if len(tokens) > 1 else ""
    if not tokens or before:
        raise BackendError(
            f"the {what} {word!r} is {len(tokens)} tokens of the model, expected one; see its model card"
        )
    return tokens[-1]
