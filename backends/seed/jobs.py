"""What the engine works on: sequences that grow by rounds, and scorings, which one pass answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from treeagent.errors import BackendError

from ..decoding import Sample
from .branch import Branch
from .drafters import Draft, Row
from .forest import Span
from .pool import Slots

NOT_FINITE = (
    "the model returned logits that are not finite (nan, or no token is possible). Its weights may be damaged, or "
    "overflow in this dtype; try dtype=float32."
)


@dataclass(slots=True, eq=False)
class Growing:
    """One sample in the making."""

    sample: Sample
    finished: Callable[[], None]
    failed: Callable[[BaseException], None]
    row: Row = field(init=False)
    branch: Branch | None = None
    """None while it waits, or after its keys and values were given up for others."""
    draft: Draft | None = None
    """What has been drafted and not verified yet."""
    served: int = 0
    """Round in which it was verified last."""
    watched: int = 0
    """Tokens of the row that the drafter has seen."""
    width: int = 1
    """Tokens of its next pass without the draft."""

    def __post_init__(self) -> None:
        sample = self.sample
        self.row = Row(list(sample.prompt), len(sample.prompt), sample.sampling, sample.stream, sample.limit)

    @property
    def open(self) -> bool:
        """Whether anybody still waits for it."""
        return self.sample.open

    @property
    def most(self) -> int:
        """Tokens that it holds at its longest."""
        return self.row.prompt + self.row.limit

    def prompt(self) -> Sequence[int]:
        """What must be read before its next token: everything but the last token, which the verifying pass reads."""
        return self.row.tokens[:-1]

    def span(self, slots: Slots) -> Span:
        """Its last token and its draft."""
        assert self.branch is not None  # noqa: S101  # only joined sequences are verified
        draft = self.draft or Draft()
        parents = [-1, *(parent + 1 for parent in draft.parents)]
        wanted = range(1 + len(draft))
        tokens = [self.row.tokens[-1], *draft.tokens]
        return Span(tokens, slots, self.branch.table, self.branch.node, parents if len(draft) else None, wanted)


class Scoring:
    """Log-probabilities of continuations of one prompt: one tree, so that common beginnings are read once."""

    def __init__(
        self,
        prompt: Sequence[int],
        continuations: Sequence[Sequence[int]],
        answer: Callable[[list[float]], None],
        failed: Callable[[BaseException], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._prompt = list(prompt)
        self._continuations = continuations
        self.answer = answer
        self.failed = failed
        self._wanted = wanted
        self.branch: Branch | None = None
        self.served = 0
        self.tokens: list[int] = [self._prompt[-1]]
        """The prompt's last token, then the continuations' tokens but their last ones, as a tree."""
        self.parents: list[int] = [-1]
        self._asked: list[list[tuple[int, int]]] = []
        known: dict[tuple[int, int], int] = {}
        for continuation in continuations:
            node, steps = 0, []
            for place, token in enumerate(continuation):
                steps.append((node, token))
                if place == len(continuation) - 1:
                    break
                if (node, token) not in known:
                    known[node, token] = len(self.tokens)
                    self.tokens.append(token)
                    self.parents.append(node)
                node = known[node, token]
            self._asked.append(steps)

    @property
    def open(self) -> bool:
        """Whether anybody still waits for it."""
        return self._wanted()

    @property
    def width(self) -> int:
        """Tokens of its pass."""
        return len(self.tokens)

    @property
    def most(self) -> int:
        """Tokens that it holds at most."""
        return len(self._prompt) - 1 + len(self.tokens)

    def prompt(self) -> Sequence[int]:
        """What must be read first."""
        return self._prompt[:-1]

    def span(self, slots: Slots) -> Span:
        """The tree."""
        assert self.branch is not None  # noqa: S101  # only joined scorings are run
        return Span(
            self.tokens, slots, self.branch.table, self.branch.node, self.parents, wanted=range(len(self.tokens))
        )

    def take(self, logits: torch.Tensor) -> None:
        """Answer from the logits (n, V) of the tree's tokens; sums in float64."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        norms = wide.logsumexp(dim=1)  # (n,)
        sums = []
        for steps in self._asked:
            at = torch.tensor([node for node, _ in steps], dtype=torch.long, device=logits.device)
            tokens = torch.tensor([token for _, token in steps], dtype=torch.long, device=logits.device)
            sums.append(float((wide[at, tokens] - norms[at]).double().sum()))
        if any(math.isnan(value) for value in sums):
            self.failed(BackendError(NOT_FINITE))
        else:
            self.answer(sums)
