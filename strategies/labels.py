r"""What a judge says: the label or the vote that a completion states for certain, or None.

A judge may reason first: a last line that is only a label, ``Answer: sure`` or ``\boxed{8}`` states it, and labels and
numbers before it do not count. Two statements that differ, a denied label (``not likely``, ``I am not sure``), a number
between two labels (``8.5``) and a label that merely occurs in a sentence are not read: an unread judgement costs a
sample, a wrong one steers the search to the worse branch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .mentions import Mention, Vocabulary, taken_back
from .numerals import WORDS
from .reply_text import plain, with_ordinals

LONGEST = 10_000
"""Characters of a completion that are read, from its end: judges state their label there."""

_NAMES = (
    "answer|judge?ment|verdict|label|rating|score|grade|mark|value|evaluation|assessment|conclusion|result|decision|"
    "classification|category|vote|winner|response|confidence|choice|"
    "(?:best|chosen|preferred)(?: (?:choice|option|plan|passage|one|candidate|answer))?"
)
_TITLE = re.compile(rf"\W*[\w ]{{0,30}}\b(?:{_NAMES})\W*", re.I)
_STATED = re.compile(rf"^(?:[\w ,']{{0,40}}\b)?(?:{_NAMES})(?: \(?[\w ]{{1,20}}\)?)? ?(?:[:=]|is[: ]|- )", re.I)
_SAID = re.compile(
    rf"\b(?:{_NAMES})(?: \w{{1,12}}){{0,3}}? ?(?:[:=]|is\b:?|would be\b|of(?= [0-9]))"
    r"|\b(?:rating|score|grade|mark)(?= [0-9])"
    r"|\b(?:i|we)(?:'d| would| will|'ll)? (?:\w{1,12} )?"
    r"(?:choose|pick|prefer|select|vote for|go with|rate|score|grade|give|say)\b"
    r"(?: (?:it|this|that|them|the|state|plan|step))*(?: as| at| with| an?)?",
    re.I,
)
_FINAL = re.compile(r"^[^:=\n]{0,40}\b(?:final|overall)\b", re.I)
_LEAD = re.compile(
    r"^(?:[\W_]|\b(?:so|thus|therefore|hence|then|and|overall|finally|conclusion|it is|it's|this is|that is|they are|"
    r"is|the|an?|choice|option|plan|passage|candidate|number|no\.(?= ?[0-9])|answer|clearly|definitely|quite|very|i am|"
    r"i'm|judgement)(?= |$))*$",
    re.I,
)
_UNSAID = re.compile(
    r"\b(?:worst|weakest|poorest|least|second.best|runner-up)\b"
    r"|\b(?:not|never|untrue|false|max(?:imum)?|min(?:imum)?|at (?:most|least)|up to)\W*$",
    re.I,
)
"""The end of a title that takes back what follows, or only bounds it."""
_CORRECTED = re.compile(r"(?m)^\W*(?:no|wait|actually|correction|corrected|sorry|oops|hm+|scratch)\b[^\n]*", re.I)
"""A line that takes back what was said before it."""
_TRAIL = re.compile(r"^(?: ?(?:points?|stars?|marks?))?[^\w?/%+~$\u00b0\u20ac\u00a3\u00a5\u2030-]*$", re.I)
_REASON = re.compile(
    r"^[\s.,;:!()-]*(?:because|since|as|for|due|given|the|this|that|these|those|they|it|its|we can|which|explanation|"
    r"reason|reasoning|justification|proof|here|with|no|not|there|[0-9])",
    re.I,
)
_POLITE = {
    "sure",
    "certainly",
    "absolutely",
    "good",
    "great",
    "right",
    "fine",
    "ok",
    "okay",
    "yes",
    "well",
    "of course",
}
"""Words that open a reply politely: "Sure! Let me see" says nothing."""
_PREDICATE = re.compile(
    r"^(?:$|[ ]?[.,;:!)\n]|[ ](?:because|since|as|so|that|to|for|here|indeed|with|given|in|at|on|from|then|now|though|"
    r"points?|stars?|marks?|-|\(|is (?:the )?(?:best|better))(?: |$|[.,;:!)]))",
    re.I,
)
_GIVEN = re.compile(
    r" ?[-;(:] ?[a-z]|,? (?:because|since|as|it|which|the|this|not|for|due|is (?:the )?(?:best|better))\b"
    r"|,? ?(?:\}|[a-z]+ ?:)",
    re.I,
)
"""What follows a number that is a verdict: its reason."""
_LISTED = re.compile(r"(?<!\S)[0-9]+ ?[-:.)](?: |$)")
_BETWEEN = re.compile(
    r"(?:[ :'(#]|\b(?:clearly|definitely|thus|therefore|that|it is|it's|an?|the|choice|option|plan|number|passage)\b)*",
    re.I,
)
_SPEAKS_WITH_NO = {"no", "not", "none", "never", "false", "wrong"}


def read_label(text: str, labels: Sequence[str], *, cut: bool = False) -> str | None:
    """The one of ``labels`` that a judge's completion states for certain; None where there is no such.

    Labels are whole words in any case, or numbers, which are compared by value. ``cut``: the completion ended at its
    limit of tokens, so that a label at its end may be the beginning of a longer one.
    """
    return _read(_vocabulary(tuple(labels), votes=False), plain(text[-LONGEST:]), cut=cut)


def read_vote(text: str, choices: int, *, cut: bool = False) -> int | None:
    """The one choice, from 1 to ``choices``, that a completion states for certain; None where there is no such."""
    vocabulary = _vocabulary(tuple(map(str, range(1, choices + 1))), votes=True)
    label = _read(vocabulary, with_ordinals(plain(text[-LONGEST:])), cut=cut)
    return None if label is None else int(label)


@lru_cache(maxsize=64)
def _vocabulary(labels: tuple[str, ...], *, votes: bool) -> Vocabulary:
    return Vocabulary(labels, votes)


@dataclass(frozen=True, slots=True)
class Statement:
    """A line that states a label and nothing else."""

    label: str | None
    """None where it cannot be read."""
    final: bool
    end: int
    """Where it ends in the text."""


def _read(vocabulary: Vocabulary, text: str, *, cut: bool) -> str | None:
    text = text.strip()
    statements = _statements(vocabulary, text)
    if statements:
        label, end = _agreed(vocabulary, text, statements)
    else:
        label, end = _from_prose(vocabulary, text)
    if label is not None and taken_back(text, end, label):
        return None
    if label is not None and cut and end >= len(text.rstrip(" .,")):
        longer = any(other != label and other.lower().startswith(label.lower()) for other in vocabulary.labels)
        if longer or (vocabulary.scale and text.endswith((".", ","))):
            return None
    return label


# Lines that state a label


def _statements(vocabulary: Vocabulary, text: str) -> list[Statement]:
    """The statements of a text; a line such as ``Answer:`` belongs to the line after it."""
    statements: list[Statement] = []
    start, title = 0, ""
    for line in text.split("\n"):
        end = start + len(line)
        if line.strip():
            whole = f"{title} {line}" if title else line
            statement = _statement(vocabulary, whole, end)
            if statement is not None and _ends_with_negation(text[max(0, start - 40) : start]) and not title:
                statement = Statement(None, statement.final, end)
            if statement is not None:
                statements.append(statement)
            title = line if statement is None and _TITLE.fullmatch(line) else ""
        start = end + 1
    return statements


def _statement(vocabulary: Vocabulary, line: str, end: int) -> Statement | None:
    """What a line states; None for a line of reasoning."""
    final = _FINAL.match(line) is not None
    stated = _STATED.match(line)
    title = line[: stated.end()] if stated else (re.match(r"[^:]{1,60}:(?=[^:]*$)", line) or [""])[0]
    inside = vocabulary.mentions(title)
    rest = line[len(title) :]
    if _UNSAID.search(title) and vocabulary.mentions(rest):
        return Statement(None, final, end)
    if title and not inside:
        label = _alone(vocabulary, rest) or _leading(vocabulary, rest) if stated else _alone(vocabulary, rest)
        if label is not None:
            return Statement(label, final, end)
        mentions = vocabulary.mentions(rest)
        if stated and mentions and stated[0].rstrip().endswith((":", "=")):
            return Statement(_sole(mentions), final, end)
        return None
    label = _alone(vocabulary, line)
    return None if label is None else Statement(label, final, end)


def _alone(vocabulary: Vocabulary, text: str) -> str | None:
    """The label of a text that is nothing else."""
    word = text.strip(" .!,;:()-").lower()
    if vocabulary.scale and word in WORDS and word not in vocabulary.labels:
        return vocabulary.scale.label(str(WORDS[word]))
    mentions = vocabulary.mentions(text)
    if len(mentions) != 1 or mentions[0].denied or mentions[0].label is None:
        return None
    [mention] = mentions
    alone = _LEAD.match(text[: mention.start]) and _TRAIL.match(text[mention.end :])
    return mention.label if alone else None


def _leading(vocabulary: Vocabulary, text: str) -> str | None:
    """The label that a text begins with, where a sign or a reason follows it and no other label."""
    mentions = vocabulary.mentions(text)
    if not mentions or mentions[0].denied or mentions[0].label is None or not _LEAD.match(text[: mentions[0].start]):
        return None
    first, rest = mentions[0], text[mentions[0].end :]
    if first.numeric:
        listed = _LISTED.search(rest) is not None
        alone = len(mentions) == 1 and re.match(r" ?[.:,;!)]", rest)
        given = _GIVEN.match(rest) or (vocabulary.votes and rest.startswith(":"))
        return first.label if not listed and (alone or given) else None
    others = [mention for mention in mentions[1:] if mention.label != first.label]
    undone = any(mention.denied for mention in mentions[1:] if mention.label == first.label)
    if undone or any(not mention.denied for mention in others):
        return None
    if not re.match(
        r" ?[.:;!(\n-]| (?:because|since|as)\b" if others else r" ?[.,:;!(\n-]| (?:because|since|as)\b", rest
    ):
        return None
    return None if _polite(first.label, rest) else first.label


def _polite(label: str | None, rest: str) -> bool:
    return (label or "").lower() in _POLITE and bool(re.search(r"\w", rest)) and not _REASON.match(rest)


def _ends_with_negation(text: str) -> bool:
    return re.search(r"\b(?:not|never|n't|hardly|isn't|no)\s*$", text, re.I) is not None


def _agreed(vocabulary: Vocabulary, text: str, statements: Sequence[Statement]) -> tuple[str | None, int]:
    """The label of the last statement, where no other statement and nothing after it contradicts."""
    last = statements[-1]
    before = {statement.label for statement in statements[:-1] if statement.label is not None}
    if last.label is None or (before - {last.label} and not last.final):
        return None, last.end
    rest = text[last.end :]
    for mention in vocabulary.mentions(rest):
        if not mention.numeric and mention.denied == (mention.label == last.label):
            return None, last.end
    if any(vocabulary.mentions(line[0]) for line in _CORRECTED.finditer(rest)):
        return None, last.end
    for found in _SAID.finditer(rest):
        said = vocabulary.mentions(rest[found.end() : found.end() + 40].split("\n")[0])
        if said and said[0].label not in (None, last.label):
            return None, last.end
    bare = text[: last.end].rstrip()[-1:].isalnum()  # "sure" on a line of its own is no politeness, "Sure!" may be
    return (None if not bare and _polite(last.label, rest) else last.label), last.end


# Prose


def _from_prose(vocabulary: Vocabulary, text: str) -> tuple[str | None, int]:
    """The label of a text without a line that states it: said ("the best choice is 2"), first, or the only one."""
    mentions = vocabulary.mentions(text)
    if not mentions:
        return None, 0
    said = [mention for found in _SAID.finditer(text) for mention in _next(text, found.end(), mentions)]
    if said:
        agree = len({mention.label for mention in said}) == 1
        return (_said(text, mentions[mentions.index(said[-1]) :]) if agree else None), said[-1].end
    head = _leading(vocabulary, text)
    if head is not None:
        return head, mentions[0].end
    label = _sole(mentions)
    spoken = label is not None and all(_is_predicate(text, mention) for mention in mentions)
    return (label if spoken else None), mentions[-1].end


def _next(text: str, start: int, mentions: Sequence[Mention]) -> list[Mention]:
    """The mention that follows a place of a text with nothing but small words between, if there is one."""
    following = [mention for mention in mentions if mention.start >= start][:1]
    return [mention for mention in following if _BETWEEN.fullmatch(text[start : mention.start])]


def _said(text: str, mentions: Sequence[Mention]) -> str | None:
    """The label said first, where those after it do not contradict."""
    first, rest = mentions[0], text[mentions[0].end :]
    if first.denied or re.match(r",? ?(?:and|or|&|,|/|-|maybe|perhaps|possibly|if not) ?(?:\w+ )?[0-9]", rest, re.I):
        return None
    for mention in mentions[1:]:
        same = mention.label == first.label
        if (same and mention.denied) or (not same and not mention.denied and not mention.numeric):
            return None
    return first.label


def _sole(mentions: Sequence[Mention]) -> str | None:
    """The only label of all mentions, where none is denied and none is a number that is no label."""
    labels = {mention.label for mention in mentions}
    return labels.pop() if len(labels) == 1 and not any(mention.denied for mention in mentions) else None


def _is_predicate(text: str, mention: Mention) -> bool:
    """Whether a label in a sentence is what the sentence says: "it is likely", and not "a likely start"."""
    if (mention.label or "").lower() in _SPEAKS_WITH_NO and mention.start:
        return False
    return not _polite(mention.label, text[mention.end :]) and _PREDICATE.match(text[mention.end :]) is not None
