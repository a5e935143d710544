"""Labels named in a text, and whether the text denies them: the words around a label decide what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .numerals import Scale, value
from .reply_text import plain

# What denies a label

MOST = 64
"""Mentions in a line or a text beyond which none of them is a verdict."""

_NEGATORS = (
    "not|no|never|neither|nor|none|nothing|nobody|nowhere|cannot|without|hardly|barely|scarcely|less|least|isnt|arent|"
    "wasnt|dont|doesnt|didnt|cant|couldnt|wont|wouldnt|shouldnt|aint|doubt|doubtful|unlikely|improbable|uncertain|"
    "unclear|unsure|rejects?|deny|excludes?|except|false|wrong|rule out|rules out|ruled out|used to be|far from|"
    "anything but|all but|nothing but|rather than|instead of|other than|"
    "nicht|kein|keine|nie|kaum|pas|jamais|aucun|nunca|mai|nem|niet|geen|inte|ikke|\u043d\u0435|\u043d\u0435\u0442"
)
_HEDGES = (
    "almost|nearly|probably|both|might|may|could|perhaps|maybe|possibly|if|unless|whether|about|around|roughly|"
    "approximately|over|under|above|below|between|either|more than|at most|up to|near|close to|next to|somewhere|"
    "minimum|maximum|min|max|virtually|practically|quasi|seemingly|equally|"
    "rarely|seldom|formerly|previously|once|too|allegedly|supposedly|so-called|they say|some say|some would say|"
    "worst|weakest|poorest|second best|second-best|runner-up"
)
_APOSTROPHE = r"\b\w{1,10}n't\b"
_CLAUSE = re.compile(
    r"[!?;:\n]|\.(?![0-9])| - |,? (?:because|since|therefore|thus|hence) "
    r"|,? so (?=(?:it|this|that|they|we|i|the|my) )"
    r"|, (?:so |and )?(?=(?:it|this|that)(?:'s| is| must| has| will) )|, (?:so|thus|hence|therefore) ",
    re.IGNORECASE,
)
_AFTER = re.compile(r"[,.:;!?()\n](?![0-9])| - | (?:because|since|as|so|but) ", re.IGNORECASE)
_CERTAIN = re.compile(r"\b(?:no|without(?: any| a)?|beyond(?: any| a)?) (?:doubt|question)\b", re.IGNORECASE)
_DENIED_AFTER = re.compile(
    r" ?[:=,.!;-]{1,3} ?(?:not?|false|never)\b(?! \w)| ?[\u274c\u2717\u2718\u2716\U0001f44e]"
    r"| (?:at (?:most|least|best|worst)|tops|or (?:more|less|so|higher|lower))\b"
    r"| to (?:say|tell|know|judge|determine|decide|assess|evaluate|predict|fail|miss|lose|be (?:wrong|false))\b",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:^|[^\w!])[!~\u00ac\u2260] ?$|[\u274c\u2717\u2718\u2716\U0001f44e] ?$"  # signs for "not"
    r"|[\u4e0d\u975e\u7121\u65e0\u6ca1\u672a] ?$|(?<!100)% ?$|\b(?:all|any|each|every|these|those) (?:of )?(?:the )?$"
    r"|\b(?:make|makes|made|making|as) $|(?:^|[.!?\n] ?)to be $",  # "make sure", "as likely as not", "to be sure, ..."
    re.IGNORECASE,
)
_STANCE = re.compile(r"\b(?:i am|i'm|we are|we're|i feel)(?: \w{1,12})? $", re.IGNORECASE)
_UNITS_BEFORE = re.compile(
    r"\b(?:steps?|lines?|rows?|questions?|problems?|tasks?|parts?|paragraphs?|sentences?|words?|versions?|levels?|items?|"
    r"figures?|numbers?|plans?|choices?|options?)[ #]{1,2}$",
    re.IGNORECASE,
)
_CHOICE_BEFORE = re.compile(r"\b(?:plan|choice|option|number)[ #]{1,2}$", re.IGNORECASE)
_UNEQUAL = re.compile(r"[<>~\u2248\u2264\u2265\u00b1] ?$")
_DASH = re.compile(r"(?:^|\n) ?- $")
_UNITS_AFTER = re.compile(r" (?!(?:points|stars|marks|is|as|was|this|thus|plus)\b)[a-z]{2,20}s\b", re.IGNORECASE)
_DOUBTED = re.compile(
    r"\b(?:i|we)(?:'m|'re| am| are| was| were| may be| might be| could be| can be)?(?: \w{1,12})?"
    r" (?:wrong|mistaken|unsure|uncertain|in error|in doubt|just guessing|only guessing|guessing)\b",
    re.I,
)
"""A judge that takes back what it has said before."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A place where a text names a label, or a number that is none."""

    start: int
    end: int
    label: str | None
    """None for a number that is no label."""
    numeric: bool
    denied: bool
    """Whether the words around it deny it, doubt it, ask for it or count something with it."""


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a judge, ready to be looked for."""

    labels: Sequence[str]
    votes: bool = False
    """Whether the labels are numbers of choices."""
    scale: Scale = field(init=False)
    _pattern: re.Pattern[str] = field(init=False)
    _exact: dict[str, str] = field(init=False)
    _any_case: dict[str, str] = field(init=False)
    _negators: re.Pattern[str] = field(init=False)
    _hedges: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        values = {label: value(label) for label in self.labels}
        numbers = {number: label for label, number in values.items() if number is not None}
        words = sorted((label for label in self.labels if value(label) is None), key=len, reverse=True)
        alternatives = "|".join(re.escape(plain(word)) for word in words) or r"(?!)"
        number = r"(?<!\S)[^\s0-9]*[0-9]\S*" if numbers else r"(?!)"
        named = rf"(?<![\w/])(?<!\w-)(?P<word>{alternatives})(?![\w/%+]|-\w|'\w)"
        names = {word.lower() for word in self.labels}
        object.__setattr__(self, "scale", Scale(numbers))
        object.__setattr__(self, "_pattern", re.compile(rf"{named}|(?P<number>{number})", re.IGNORECASE))
        object.__setattr__(self, "_exact", {plain(word): word for word in reversed(words)})
        object.__setattr__(self, "_any_case", {plain(word).lower(): word for word in reversed(words)})
        object.__setattr__(self, "_negators", _words(_NEGATORS, names))
        object.__setattr__(self, "_hedges", _words(_HEDGES, names))

    def mentions(self, text: str) -> list[Mention]:
        """All of a plain text, in order; all denied where there are more than a verdict has."""
        places = list(self._pattern.finditer(text))
        crowded = len(places) > MOST
        return [mention for place in places for mention in self._read(place, text, crowded=crowded)]

    def _read(self, found: re.Match[str], text: str, *, crowded: bool) -> list[Mention]:
        label: str | None
        if found["word"] is not None:
            name = self._named(found["word"])
            article = len(name) == 1 and found["word"] != name and len(text.strip(" .!\n()")) > 1
            if not name or article:
                return []  # "a" is an article, "A" may be a label
            label, (start, end), numeric = name, found.span("word"), False
        else:
            piece = found["number"]
            core = piece.lstrip("([{'#:;,!?=").rstrip(")]}':;,.!?=")
            start = found.start("number") + piece.index(core)
            end, numeric = start + len(core), True
            label = self.scale.label(core)
        denied = crowded or self._denied(text, start, end, numeric=numeric)
        return [Mention(start, end, label, numeric, denied)]

    @property
    def _has_negatives(self) -> bool:
        return any(label.startswith("-") for label in self.labels)

    def _named(self, word: str) -> str:
        return self._exact.get(word) or self._any_case.get(word.lower(), "")

    def _denied(self, text: str, start: int, end: int, *, numeric: bool) -> bool:
        head = text[max(0, start - 300) : start]
        before = head[max((found.end() for found in _CLAUSE.finditer(head)), default=0) :]
        before = _CERTAIN.sub(" ", before)
        tail = text[end : end + 300]
        stop = _AFTER.search(tail)
        after = tail[: stop.start() if stop else None]
        asked = re.match(r"[^.!\n?]*\?", tail) is not None
        if asked or _DENIED_BEFORE.search(head) or _DENIED_AFTER.match(tail):
            return True
        if self._negators.search(before) or self._negators.search(after):
            return True
        if self._hedges.search(before) or re.search(r"\bunless\b", tail[:200], re.IGNORECASE):
            return True
        if not numeric:
            return _STANCE.search(head) is not None and re.match(r" [\w]", tail) is not None
        if _UNEQUAL.search(head) or (self._has_negatives and _DASH.search(head)):
            return True
        unit = _UNITS_BEFORE.search(head)
        counted = unit is not None and not (self.votes and _CHOICE_BEFORE.search(head))
        return counted or _UNITS_AFTER.match(tail) is not None


def _words(alternatives: str, names: set[str]) -> re.Pattern[str]:
    """Any of the words but those that are labels."""
    kept = "|".join(word for word in alternatives.split("|") if word not in names)
    return re.compile(rf"\b(?:{kept})\b|{_APOSTROPHE}", re.IGNORECASE)


def taken_back(text: str, end: int, label: str) -> bool:
    """Whether the judge doubts itself in the line of the label that ends at ``end``, or after it."""
    doubt = _DOUBTED.search(text, text.rfind("\n", 0, end) + 1)
    return doubt is not None and doubt[0].split()[-1].lower() != label.lower()
