"""Which tokens a constraint allows next, through the library llguidance.

The law of a constrained text is that of plain constrained sampling: at each token the softmax of the logits, warped by
the request's sampling, over the allowed tokens alone (no look-ahead to the rest of the text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from treeagent.constraint import Constraint
from treeagent.errors import BackendError, RequestRefusedError
from treeagent.extras import require

from ..models.model import Model
from ..models.tokenizer import ChatTokenizer

KNOWN = 32
"""Beginnings of texts of a constraint of which it is remembered what may follow; an array (V,) each."""
CONSTRAINTS = 16
"""Constraints whose beginnings are remembered, those that were used last."""


@dataclass(slots=True)
class _Allowance:
    """How many more beginnings of a constraint will be remembered."""

    left: int


class _Beginning:
    """The beginning of a text, and what may follow it; all texts of a constraint share those that are remembered."""

    def __init__(
        self, matcher: Any, size: int, eos: frozenset[int], allowance: _Allowance, *, shared: bool = True
    ) -> None:
        """``allowance``: of all texts of the constraint; ``shared``: it is remembered, else one text alone has it."""
        self._matcher, self._size, self._eos, self._allowance, self._shared = matcher, size, eos, allowance, shared
        self._next: dict[int, _Beginning] = {}

    @cached_property
    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """As :meth:`TokenMask.allowed`; read-only."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._size].astype(bool)
        if not allowed.any():
            allowed[list(self._eos)] = True
        allowed.setflags(write=False)
        return allowed

    @cached_property
    def forced(self) -> list[int]:
        """As :meth:`TokenMask.forced`."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def after(self, token: int) -> _Beginning | None:
        """The beginning with one more token; None where it is not allowed or ends the text."""
        if (known := self._next.get(token)) is not None:
            return known
        if token in self._eos or not self.allowed[token]:
            return None
        matcher = self._matcher.deep_copy()
        if matcher.try_consume_tokens([token]) != 1:
            return None
        shared = self._allowance.left > 0
        longer = _Beginning(matcher, self._size, self._eos, self._allowance, shared=shared)
        if shared:
            self._allowance.left -= 1
            self._next[token] = longer
        return longer

    def extended(self, token: int) -> _Beginning:
        """The beginning with one more token that is allowed, in place where one text alone has it."""
        if self._shared:
            return self.after(token) or self
        if token not in self._eos and self.allowed[token] and self._matcher.try_consume_tokens([token]) == 1:
            vars(self).pop("allowed", None)
            vars(self).pop("forced", None)
        return self


class TokenMask:
    """What one text may go on with."""

    def __init__(self, beginning: _Beginning) -> None:
        self._text = beginning

    def allowed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each token of the vocabulary (V,) may come next; those that end a text where it may end.

        Where no token leads on, which takes a vocabulary that lacks bytes, the text ends.
        """
        return self._text.allowed

    def take(self, token: int) -> None:
        """Go on by a token that is allowed; one that ends the text is the last."""
        self._text = self._text.extended(token)

    def forced(self) -> list[int]:
        """Tokens of the text that every allowed text goes on with; another cut into tokens may be allowed as well."""
        return self._text.forced

    def after(self, token: int) -> TokenMask | None:
        """The mask of the text with one more token; None where it is not allowed or ends the text."""
        longer = self._text.after(token)
        return None if longer is None else TokenMask(longer)


class TokenMasks:
    """Masks of a tokenizer and the vocabulary of a model."""

    def __init__(self, text: ChatTokenizer, model: Model, size: int) -> None:
        """``size`` is the length of a row of logits. Raises MissingExtraError, BackendError."""
        require("a constraint", "llguidance")
        import llguidance.hf  # noqa: PLC0415  # an extra

        self._size, self._eos = size, model.eos
        self._begun: dict[Constraint, _Beginning] = {}
        self._matcher: Any = llguidance.LLMatcher
        try:
            self._tokens = llguidance.hf.from_tokenizer(text.tokenizer, n_vocab=size, eos_token=sorted(model.eos))
        except (ValueError, TypeError) as error:
            raise BackendError(f"constraints do not work with the tokenizer of this model: {error}") from error

    def mask(self, constraint: Constraint) -> TokenMask:
        """The mask of a text that has not begun. Raises RequestRefusedError for a constraint that allows no text."""
        beginning = self._begun.pop(constraint, None) or self._begin(constraint)
        self._begun[constraint] = beginning  # at the end, as it was used last
        if len(self._begun) > CONSTRAINTS:
            del self._begun[next(iter(self._begun))]
        return TokenMask(beginning)

    def _begin(self, constraint: Constraint) -> _Beginning:
        grammar = self._grammar(constraint)
        if fault := self._matcher.validate_grammar(grammar, self._tokens):
            raise RequestRefusedError(f"the constraint {constraint.text!r} is not understood: {_one_line(fault)}")
        matcher = self._matcher(self._tokens, grammar)
        matcher.compute_bitmask()  # stops a matcher that nothing leads on from
        if matcher.is_stopped() and not matcher.is_accepting():
            raise RequestRefusedError(f"no text matches the constraint {constraint.text!r}")
        return _Beginning(matcher, self._size, self._eos, _Allowance(KNOWN))

    def _grammar(self, constraint: Constraint) -> str:
        if constraint.kind == "json_schema":
            schema: str = self._matcher.grammar_from_json_schema(json.loads(constraint.text))
            return schema
        choices = "|".join(re.escape(choice).replace("\\\n", "\\n") for choice in constraint.choices)
        regex: str = self._matcher.grammar_from_regex(f"({choices})" if choices else constraint.text)
        return regex


def masked(logits: torch.Tensor, masks: Sequence[TokenMask | None]) -> torch.Tensor:
    """Logits (R, V) with minus infinity where the row's mask forbids the token; the same tensor without masks."""
    if not any(masks):
        return logits
    everything = np.ones(logits.shape[1], bool)
    allowed = np.stack([everything if mask is None else mask.allowed() for mask in masks])
    return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)


def _one_line(fault: str) -> str:
    return " ".join(fault.split())
