"""PrOntoQA: every step of a proof is checked against the stated rules, and a finished state names the answer.

An input and a state are the same kind of text: sentences, then the question; what a step derives is added to them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from treeagent.checker import Checker
from treeagent.text import single_blanks

from .prontoqa_rules import Fact, Rule, follows, read_sentence, sentences

_QUESTION = re.compile(r"(?i:true or false:|is the following statement true or false\?)\s*")
_ANSWERS = ("Answer: True", "Answer: False")


@dataclass(frozen=True, slots=True)
class ProntoQAProblem:
    """The stated sentences and the question."""

    stated: tuple[str, ...]
    """The sentences, without full stops."""
    rules: frozenset[Rule]
    facts: frozenset[Fact]
    question: str
    query: Fact

    @property
    def answer(self) -> str | None:
        """The answer that the facts prove; None while they prove none."""
        if self.query in self.facts:
            return "True"
        return "False" if self.query.denied in self.facts else None

    @property
    def text(self) -> str:
        """Inverse of :func:`read`."""
        ended = "" if self.answer is None else f" Answer: {self.answer}"
        return f"{'. '.join(self.stated)}. True or false: {self.question}.{ended}"

    def transition(self, step: str) -> ProntoQAProblem | None:
        """With a step added: one or more sentences, each stated or following in one go; None where one does not.

        A step that brings no new fact gives an equal problem, which a search drops as a duplicate.
        """
        problem = self
        for sentence in sentences(step):
            try:
                claim = read_sentence(sentence)
            except ValueError:
                return None
            if claim in problem.rules or claim in problem.facts:
                continue
            if isinstance(claim, Rule) or not follows(claim, problem.rules, problem.facts):
                return None
            problem = ProntoQAProblem(
                (*problem.stated, sentence), problem.rules, problem.facts | {claim}, problem.question, problem.query
            )
        return problem


def read(text: str) -> ProntoQAProblem:
    """Rules and facts, then ``True or false:`` and a fact. Raises ValueError saying what is wrong."""
    text = text.rstrip()
    answer = next((ending for ending in _ANSWERS if text.endswith(ending)), "")
    parts = _QUESTION.split(text.removesuffix(answer).rstrip())
    if len(parts) != 2 or not parts[0].strip():
        raise ValueError("it must be sentences, then 'True or false:' and one more")
    stated = sentences(parts[0])
    questions = sentences(parts[1])
    query = read_sentence(questions[0]) if len(questions) == 1 else None
    if not isinstance(query, Fact):
        raise ValueError("the question must be one sentence about one name")
    claims = [read_sentence(sentence) for sentence in stated]
    rules = frozenset(claim for claim in claims if isinstance(claim, Rule))
    facts = frozenset(claim for claim in claims if isinstance(claim, Fact))
    return ProntoQAProblem(tuple(stated), rules, facts, questions[0], query)


class ProntoQA(Checker):
    """Registered as ``prontoqa``."""

    def read(self, input: str) -> str:
        """With the question in one form."""
        return read(single_blanks(input)).text

    def key(self, state: str) -> str:
        """The facts known, in order: the rules and the question never change in a search."""
        return "; ".join(
            sorted(
                f"{fact.who} {'is' if fact.claim.holds else 'is not'} {fact.claim.name}" for fact in read(state).facts
            )
        )

    def transition(self, parent: str, text: str) -> str | None:
        """The problem with what the step derives; None where a sentence is neither stated nor follows in one go."""
        problem = read(parent).transition(text)
        return None if problem is None else problem.text

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Whether the steps prove the answer.

        A right answer without a proof is not verified: with two answers to choose from, a check that told right from
        wrong would hand the answer to any search that asked twice. A chain of thought is read up to its answer.
        """
        problem: ProntoQAProblem | None = read(input)
        for step in steps:
            proof = re.split(r"(?i)\b(?:answer|true or false):", step)[0]
            problem = problem.transition(proof) if problem is not None else None
        return problem is not None and problem.answer is not None and answer in (None, problem.answer)

    def grade(self, answer: str, gold: str) -> bool:
        """In any case of the letters; ``A`` and ``B`` of the multiple-choice form are True and False."""
        names = {"a": "true", "b": "false"}
        words = [names.get(text.strip().lower(), text.strip().lower()) for text in (answer, gold)]
        return words[0] == words[1]
