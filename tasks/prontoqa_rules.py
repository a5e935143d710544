"""Sentences of PrOntoQA and what follows from them: rules about kinds, facts about one name, one step at a time.

The language is that of Saparov and He 2022, arXiv:2210.01240 (section 3): "Every cat is a feline.",
"Cats are felines.", "Sheep are not bony.", "Max is a cat.", "Max is not bony.".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SENTENCE = re.compile(r"(?P<subject>.+?) (?P<verb>is|are)(?P<no> not)? (?P<predicate>.+)")
_QUANTIFIER = re.compile(r"(?i:(?:every|each|all|an?) )")
_ARTICLE = re.compile(r"(?i:an? )")


@dataclass(frozen=True, slots=True)
class Proposition:
    """A kind or property, or its denial."""

    name: str
    holds: bool = True

    @property
    def denied(self) -> Proposition:
        """The opposite claim."""
        return Proposition(self.name, not self.holds)


@dataclass(frozen=True, slots=True)
class Fact:
    """A claim about one individual."""

    who: str
    claim: Proposition

    @property
    def denied(self) -> Fact:
        """The opposite fact."""
        return Fact(self.who, self.claim.denied)


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for everything of a kind."""

    kind: str
    claim: Proposition


def read_sentence(text: str) -> Fact | Rule:
    """A fact or a rule. Raises ValueError for anything else."""
    match = _SENTENCE.fullmatch(" ".join(text.strip().removesuffix(".").split()))
    if match is None:
        raise ValueError(
            f"{text[:60]!r} is not of the form 'Every cat is a feline', 'Cats are felines' or 'Max is a cat'"
        )
    claim = Proposition(singular(_ARTICLE.sub("", match["predicate"], count=1)), match["no"] is None)
    kind = _QUANTIFIER.sub("", match["subject"], count=1)
    if match["verb"] == "are" or kind != match["subject"]:
        return Rule(singular(kind), claim)
    return Fact(match["subject"].lower(), claim)


def singular(phrase: str) -> str:
    """A noun phrase in lower case with its last word in the singular; an adjective stays as it is."""
    word = phrase.lower()
    if word.endswith(("us", "ss", "is")):
        return word
    for ending, instead in (("ies", "y"), ("uses", "us"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending):
            return word.removesuffix(ending) + instead
    return word.removesuffix("s")


def sentences(text: str) -> list[str]:
    """Split at full stops and line breaks; white space trimmed."""
    return [part.strip() for part in re.split(r"\.(?:\s+|$)|\n", text) if part.strip()]


def follows(fact: Fact, rules: Iterable[Rule], known: Iterable[Fact]) -> bool:
    """Whether one of the rules and one of the known facts give the fact at once."""
    facts = set(known)
    return any(rule.claim == fact.claim and Fact(fact.who, Proposition(rule.kind)) in facts for rule in rules)
