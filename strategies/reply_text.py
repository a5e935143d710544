"""The text of a judge's reply without its markup, with plain signs and digits."""

from __future__ import annotations

import re
import unicodedata

from .numerals import ORDINALS, WORDS, joined

_QUOTES = '"\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f\u3010\u3011\u00a1\u00bf'
_SIGNS = str.maketrans({
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
    **dict.fromkeys(_QUOTES, " "),
    **dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'"),
    **dict.fromkeys("\u2012\u2013\u2014\u2015", " - "),
    **dict.fromkeys("\r\x85\u2028\u2029", "\n"),
    **dict.fromkeys("\u200b\ufeff", ""),
    **dict.fromkeys("\u3002\u0964", "."),
    **dict.fromkeys("\u3001\u060c", ","),
    "\u061f": "?",
    "\u2212": "-",
    "\u2044": "/",
    "\u2192": ":",
})  # fmt: skip
_MARKUP = (
    (re.compile(r"~~[^~\n]*~~"), " ... "),  # struck out
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\{([^{}\n]*)\}"), r"\1"),
    (re.compile(r"\\d?frac\{([^{}\n]*)\}\{([^{}\n]*)\}"), r"\1/\2"),
    (re.compile(r"\\boxed\{([^{}\n]*)\}|\[\[([^\[\]\n]*)\]\]|<answer>([^<>]*)</answer>"), r"\nAnswer: \1\2\3\n"),
    (re.compile(r"\\[()\[\]]|</?[a-z]{1,10}>|[*`$]"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<![^\W_])_+|_+(?![^\W_])"), " "),
    (re.compile(r"(?<!\w)'|'(?!\w)"), " "),
    (re.compile(r"(?m)^[ \t]*(?:(?:[#\u2022\u00b7|]+|[>+-](?![ \t]*[0-9.]))[ \t]*)+"), ""),
    (re.compile(r"(?<=[:=(]) ?- (?=[0-9])"), " -"),
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r"\bon an? (?:scale (?:of|from) \S{1,9} to \S{1,9}|\S{1,9} ?- ?\S{1,9} scale)\b", re.I), ""),
)


def plain(text: str) -> str:
    """The text without markup, with ASCII signs and digits, single blanks, and a line feed between lines."""
    text = text.translate(_SIGNS)
    text = "".join(
        str(unicodedata.decimal(sign)) if sign > "\x7f" and unicodedata.category(sign) == "Nd" else sign
        for sign in text
    )
    for pattern, by in _MARKUP:
        text = pattern.sub(by, text)
    return joined(text)


def with_ordinals(text: str) -> str:
    """``the second choice`` and ``choice two`` as ``2``."""
    text = _NUMBERED.sub(lambda found: f"{found[1]} {WORDS[found[2].lower()]}", text)
    return _ORDINAL.sub(lambda found: str(ORDINALS.get(found[1].lower(), 0) or re.sub(r"\D", "", found[1])), text)


_NUMBERED = re.compile(rf"\b(choice|option|plan|passage|candidate|number) ({'|'.join(WORDS)})\b", re.IGNORECASE)
_ORDINAL = re.compile(
    rf"\b(?:the )?({'|'.join(ORDINALS)}|[0-9]{{1,4}}(?:st|nd|rd|th))"
    r"(?: (?:choice|option|plan|passage|candidate|one|answer|solution))?(?= ?(?:$|[.,;:!)\n]| is\b| (?:and|or)\b))",
    re.IGNORECASE,
)
