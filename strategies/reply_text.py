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
    **dict.fromkeys("\x00\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0f\ufeff", ""),
    **dict.fromkeys(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))), ""),  # of writing direction
    **dict.fromkeys("\u3002\u0964", "."),
    **dict.fromkeys("\u3001\u060c", ","),
    "\u061f": "?",
    "\u2212": "-",
    "\u2044": "/",
    "\u066a": "%",
    "\u00bc": " 1/4",
    "\u00bd": " 1/2",
    "\u00be": " 3/4",
    "\u2192": ":",
})  # fmt: skip
_MINUS = re.compile(r"(?<![\w)\]%])(?<![0-9] )[\u2012-\u2015](?=[0-9.])")
"""A dash in the place of a minus sign."""
_MARKUP = (
    (re.compile(r"~~[^~\n]*~~"), " ... "),  # struck out
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit)\{([^{}\n]*)\}"), r"\1"),
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),
    (re.compile(r"(?<=[0-9])(?: ?pts?\b\.?|\u70b9|\u5206|\uc810)"), " points"),
    (re.compile(r"<([0-9][0-9./]{0,10})>"), r" \1 "),
    (re.compile(r"\\[dt]?frac([0-9])([0-9])"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\{([^{}\n]*)\}\{([^{}\n]*)\}"), r"\1/\2"),
    (re.compile(r"\\boxed\{([^{}\n]*)\}|\[\[([^\[\]\n]*)\]\]|<answer>([^<>]*)</answer>"), r"\nAnswer: \1\2\3\n"),
    (re.compile(r"\\[()\[\]]|</?[a-z]{1,10}>|[*`]|\$\$"), " "),
    (re.compile(r"\$([^$\n]*)\$"), r" \1 "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<![^\W_])_+|_+(?![^\W_])"), " "),
    (re.compile(r"(?<!\w)'|'(?!\w)"), " "),
    (re.compile(r"(?m)^[ \t]*(?:(?:[#\u2022\u00b7|]+|[>+-](?![ \t]*[0-9.]))[ \t]*)+"), ""),
    (re.compile(r"(?m)^[ \t]*\|?([^|\n]{1,40})\|([^|\n]{1,40})\|?[ \t]*$"), r"\1:\2"),  # a row of two cells
    (re.compile(r"[ \t]*[-=]>"), ":"),
    (re.compile(r"(?<=[:=(]) ?- (?=[0-9])"), " -"),
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r"\bon an? (?:scale (?:of|from) \S{1,9} ?(?:to|-) ?\S{1,9}|\S{1,9} ?- ?\S{1,9} scale)\b", re.I), ""),
    (re.compile(r"(?<=[a-z]) ?[(\[][^()\[\]\n]*[0-9] ?(?:-|to|/|=|,)[^()\[\]\n]*[)\]](?= ?[:=])", re.I), ""),
    (re.compile(r"(?<=[a-z]) from [0-9]{1,3} to [0-9]{1,3}(?= ?[:=])", re.I), ""),
)


def plain(text: str) -> str:
    """The text without markup, with ASCII signs and digits, single blanks, and a line feed between lines."""
    text = _MINUS.sub("-", text).translate(_SIGNS)
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
