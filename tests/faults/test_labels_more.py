"""More sentences of judges: units, ranges, bounds, negation in signs and words, other languages, markup."""

from __future__ import annotations

import pytest
from test_labels import HUNDRED, TEN, UNIT, WORDS

from treeagent.strategies.labels import read_label, read_vote

TEN_READ: dict[str | None, list[str]] = {
    "9": [
        "9 out of ten", "nine out of 10", "Nine/10", "9 of 10", "9 von 10", "easily a 9",
    ],
    "7": [
        "7 sur 10", "7.0/10", "7,0",
    ],
    "8": [
        "8 de 10", "8,00 von 10", "0.8e1", "8e0", "8E+00", "\uff18\uff0f\uff11\uff10", "\uff18\u70b9",
        "8/10.", "8/10!", "Rating: 8/10 stars", "8 stars out of 10", "8 pts", "8 pt.", "a solid 8",
        "solid 8/10", "Score (0-10): 8", "Score [0-10]: 8", "Score from 0 to 10: 8",
        "Score (1 = bad, 10 = good): 8", "On a scale from 0 to 10: 8", "On a scale of 1-10, 8",
        "On a scale of 1 to 10, I'd say 8.", "**Score:** 8", "**Score: 8**", "*Score*: **8**/10",
        "Score: **8** / **10**", "| Score | 8 |", "Score | 8", "Score -> 8", "Score \u2192 8", "Score\t8",
        "score:8", "SCORE=8;", "`8/10`", "```\n8\n```", '```json\n{"score": 8}\n```', "{score: 8}",
        "<score>8</score>", "\\boxed{8/10}", "\\boxed{\\text{8}}", "$8$", "\\(8\\)", "$$8$$",
        "Score: 8\nExplanation: step 2 is off by 1.", "Explanation: 2 steps fail.\nScore: 8", "Score: <8>",
        "8.", "(8)", "8)", "8:", "- 8/10", "\u2022 8", "8,", "8;", "\u201c8\u201d", "'8'", "\u0668",
        "\u096e", "\uff18", "score is 8 out of a possible 10", "8 out of a maximum of 10",
        "8 points out of 10", "8 (out of ten)", "08/10",
    ],
    None: [
        "Note : 7,5/10", "7,5", "1,000", "1.000,00", "1 000", "8 x 10^0", "2^3", "\u221a64", "VIII",
        "\u20135", "\u22125/10", "10-", "8-", "4/5 stars", "8%", "8 per cent", "8 \xb0", "8\u20ac", "$8",
        "\u20ac8", "8k", "8 km", "8 minutes", "8 seconds", "8 more steps", "I'd give it 7 or maybe 8",
        "I'd give it a 7, maybe an 8", "somewhere near 8", "close to 8", "8ish", "8-ish", "8-9/10",
        "8/10 - 9/10", "from 7 to 9", "7...9", "7..9", "7 bis 8", "7 \xe0 8", "entre 7 et 8",
        "zwischen 7 und 8", "[7, 8]", "(7; 8)", "7 & 8", "7 & a half", "7 and a half", "7 1/2",
        "seven and a half", "7\xbd", "seven point five", "7 point 5", "no more than 8", "no less than 8",
        "not less than 8", "nothing short of 10", "minimum 8", "max 8", "maximum: 8", "8 at best",
        "8 or better", "8 and up", "8 minus 2", "8 - 2", "8 - 2 = 6", "8-2", "10-2=8", "8 (down from 9)",
        "raised from 6 to 8", "was 9, now 7", "9 -> 7", "first 9, then 7",
        "<score>8</score><score>3</score>", "\\boxed{8.5}", "\\boxed{3} no wait \\boxed{8}", "8\\,",
        "Score: 3. Wait, actually 8.", "Score: 3\nCorrection: 8", "Score: 3\nNo, 8", "I said 3 but it's 8",
        "It is not a 3 but an 8.", "not 8 but 3", "Score: not 8", "Score: N/A", "Score: none", "Score: ?",
        "Score: 8?", "Score: 8 (?)", "Score: __", "Score: >8", "Score: \u22658", "Score: \u2264 8",
        "Score: ~8", "Score: \u22488", "Score: \xb18", "Score: 8\xb11", "8 \xb1 1", "Score: 8 +/- 1",
        "Score: 11/10", "110%", "0x8", ".8", "8.0.0", "v8", "\u21168", "8a", "a8", "step 8",
        "line 8 is wrong", "There are 8 steps", "It needs 8 steps", "8 wrong steps", "the 8 puzzle",
        "8 numbers left", "24", "\u2467", "8\u20e3", "\u2078", "\u2167", "8 over 10", "8 in 10",
        "80 out of 100", "16/20", "8/10/2024", "8 / 10 = 0.8", "8 : 10", "8:10", "8.10", "eleven", "twenty",
        "thirty-eight", "eighty", "eight hundred", "half", "minus eight", "negative 8",
    ],
    "0": [
        "-0", "zero", "minus 0",
    ],
    "4": [
        "4 stars",
    ],
    "10": [
        "Score: 010", "ten", "Ten out of ten!",
    ],
}  # fmt: skip
WORDS_READ: dict[str | None, list[str]] = {
    None: [
        "not impossible", "It is not impossible.", "not entirely impossible", "impossible? no",
        "by no means impossible", "quasi impossible", "virtually impossible", "practically impossible",
        "next to impossible", "far from impossible", "seemingly impossible", "It would be impossible to say",
        "impossible to say", "impossible to tell", "It's impossible to know whether it works", "likely not",
        "Likely, not sure", "more likely than not", "equally likely", "as likely as not",
        "likely impossible", "likely to fail", "likely wrong", "sure thing", "to be sure, it fails",
        "make sure that 4+5=9", "not so likely", "un\xadlikely", "unlikely", "likelihood", "ensure",
        "\u0455ure", "s u r e", "sur", "surely", "sure-fire", "sure's", "Answer: sure/likely",
        "Answer: sure (or likely)", "Answer: likely, rather than sure", "If 4*6=24 then sure",
        "sure if 4*6=24", "sure unless", "I'd be lying if I said sure", "I would not say sure",
        "Far from being sure", "I can't be sure", "one cannot be sure", "no way this is likely",
        "There's no chance this is likely", "It's false that it is likely", "untrue: likely", "not: likely",
        "NOT likely", "\xaclikely", "!likely", "~likely", "non-likely", "likely\u274c", '{"label": null}',
        "1. sure\n2. likely", "sure likely", "sure|likely|impossible",
        "sure: no; likely: yes; impossible: no", "sure - no\nlikely - yes",
        "[ ] sure [x] likely [ ] impossible", "\u2610 sure \u2611 likely", "s\xdcre",
        "The answer isn't sure", "The answer is: not sure", "Reaching 24 is not likely",
        "Reaching 24 is likely impossible", "I'm pretty sure it's impossible", "It's impossible, I'm sure.",
        "I am sure it is impossible.", "This is not impossible; in fact it is likely.",
        "It isn't sure but it's likely.", "70% likely", "0% sure", "50% likely", "not 100% sure",
        "less than likely", "rarely likely", "seldom likely", "barely likely", "no longer likely",
        "formerly likely", "once likely, now impossible", "impossible\n...\nwait, 4*6=24, sure",
        "Can it be impossible? Yes, impossible.", "they say it is likely",
        "Some would say sure, others impossible", "I refuse to say sure or impossible",
        "As an AI I cannot be sure", "I'm sorry, but I can't determine whether it is likely.",
        "It is unclear if it's likely", "The question is whether it's sure", "too likely",
        "so-called likely", '"likely" is wrong', "'sure' would be wrong", "likely is not the right label",
        "The label is likely not sure", "definitely not likely", "Absolutely not impossible", "kaum likely",
        "pas sure", "no es likely", "\u4e0d likely", "\u043d\u0435 sure",
    ],
    "likely": [
        "most likely", "very likely", "highly likely", "likely (not sure)", '"label": "likely"',
        "label=likely", "{'label': 'likely', 'reason': 'close'}",
        "Options: sure, likely, impossible\nChoice: likely", "~~sure~~ likely",
        "The state is likely to reach 24", "Reaching 24 is likely", "Evaluation: likely",
        "\xc9valuation : likely", "\u7ed3\u8bba\uff1alikely",
        "I cannot obtain 24 now, but numbers are within a reasonable range\nlikely",
        'The correct label would be "likely".', "Answer: likely\n\nNote: this is not impossible.",
        "Definitely likely", "nicht unm\xf6glich: likely",
    ],
    "sure": [
        "for sure", "Sure\u200b", "sure \u2705", "sure \U0001f44d", "sure \U0001f600", "[sure]", "{sure}",
        "<label>sure</label>", "SURE", "sure.", "...sure...", "sure\u2026", "I'm pretty sure",
        "Bewertung: sure", "\u2192 sure", "=> sure", "\u2234 sure", "sure\x00", "\x1b[1msure\x1b[0m",
        "<b>sure</b>", "4 * 6 = 24, so it is sure.", "24 = 24\nsure", "I'd say sure.", "Judge: sure",
        "label = 'sure'", "sure (95%)", "100% sure",
    ],
    "impossible": [
        "The numbers 1 3 can give 3, 4, 2; none is 24. So this is impossible.",
        "(6 - 4) * 13 = 26\n13 - 6 + 4 = 11, impossible", "We label it impossible, since 1+1+1=3.",
        "My evaluation is: **impossible**.", "Absolutely impossible!", "100% impossible",
        "completely impossible", "impossible!!!",
    ],
}  # fmt: skip
UNIT_READ: dict[str | None, list[str]] = {
    "0.5": [
        "50 %", "0.50", "50/100", "5/10", "0,50", "5,0e-1", "probability 0.5", "P(success) = 0.5", "50 %.",
        "50\u066a", "\\frac12", "\\tfrac{1}{2}", "\xbd", "0.5/1",
    ],
    None: [
        "one half", "half", "0\xb75", "0.5%", "500%", "-0.5", "\u22121", "0.5 \xb1 0.1", "0.4-0.6",
        "0.5-ish", "1e400", "0.5f", "50 p.c.", "50\u2030", "500\u2030", "\u066a50", "1/0", "0/0", "3/2",
    ],
    "1": [
        "1.0/1.0", "100%", "1e0", "1e-0", "1/1",
    ],
    "0": [
        "0%",
    ],
}  # fmt: skip
HUNDRED_READ: dict[str | None, list[str]] = {
    "80": [
        "80 %", "80", "8e1", "80 points of 100",
    ],
    None: [
        "85,5 %", "eighty", "80-85", "80+", "\u224880", "80 or so", "80 %-90 %", "80th percentile",
        "80 percentile", "0.8", "8/10",
    ],
    "1": [
        "1,00", "1.00", "1.000",
    ],
    "100": [
        "100/100", "100 out of 100",
    ],
}  # fmt: skip
YES_NO_READ: dict[str | None, list[str]] = {
    None: [
        "yes and no", "yes/no", "no, wait, yes", "yes?", "Not yes", "yes.no", "Y", "n", "nope", "yesterday",
        "I know", "There is no answer", "Yes, but no", "Hell no", "Yes\nNo", "no\n\nyes",
    ],
    "yes": [
        "Yes!", "yes, it is not wrong", "Oh yes", "Is it? Yes.",
    ],
    "no": [
        "No.", "Answer: no", "The answer is no.",
    ],
}  # fmt: skip
VOTES_READ: dict[int | None, list[str]] = {
    2: [
        "Vote: 2", "Vote for 2.", "I vote 2", "no. 2", "number two", "2)", "2.)", "[2]", "{2}", "<2>",
        "\uff12", "The winner is 2!", "Best: 2; worst: 1", "I prefer 2", "I'd prefer choice 2 over choice 1",
        "choice 2/3", "The best choice is 2 (two)", "best choice = 2", "The best choice is: 2",
        "The best choice is\n2", "The best choice is\n\n**2**",
        "The best choice is 2\n\nThe best choice is 2", "The best choice would be 2",
        "\\boxed{\\text{Choice 2}}", "**Choice 2**", "**Best choice:** 2", "Best choice: **2**", "best=2",
        '{"choice": 2}', '{"choice": "2", "why": "1 is dull"}', '{"best": 2, "worst": 1}', "second",
        "Second choice", "2 is best", "2 is the best", "2 is best, not 1", "The best plan is plan 2.",
        "The most coherent passage is 2", "the best choice is the second", "the best choice is the 2nd one",
    ],
    3: [
        "My choice is 3", "Choice: 3.", "choice #3", "#3", "Winner: choice 3 (clear)",
        "Choice 3, not choice 2", "Comparing 1 and 3: the best choice is 3", "3\n", "3,", "three!",
    ],
    None: [
        "Option B", "\u2461", "II", "2 wins over 3", "2 > 1 > 3", "2, then 1, then 3", "1st: 2, 2nd: 1",
        "Ranking: 2, 1, 3", "Worst: 2", "The worst choice is 2", "Least good: 2",
        "not choice 2 but choice 3", "rather 2 than 1", "Choices 2", "The best choice is 2 and 3",
        "The best choice is 22", "The best choice is 2.5", "The best choice is -2",
        "The best choice is \u22122", "The best choice is \u20132",
        "The best choice is 2\n\nThe best choice is 3", "The best choice could be 2",
        "The best choice might be 2", "The best choice isn't 2", "The best choice: not 2",
        "The best choice is either 1 or 2", "The best choice is 2?", "is it 2?", "Maybe 2", "Probably 2",
        "2 probably", "I am torn between 1 and 2", "Choice 1: 5 points. Choice 2: 3 points.",
        "Choice 1 (8/10), choice 2 (9/10)", "choice_2", "Choice2", "the last one", "the second best is 3",
        "2 seconds", "0.5", "3 0", "three of them are good", "All 3", "all three are equal",
        "None of 1, 2, 3", "2 is wrong", "2 is not best", "2 isn't bad", "1 fails, 2 fails, 3 works",
        "Choice 3 works.",
    ],
    1: [
        "the first", "First", "Passage 1", "Choice 1 is the best choice.",
        "Choice 1 is the best choice, choice 2 is close.",
    ],
}  # fmt: skip
"""Sentences by what they say; None: not for certain."""
SCALES = [
    (WORDS, WORDS_READ), (TEN, TEN_READ), (UNIT, UNIT_READ), (HUNDRED, HUNDRED_READ), (["yes", "no"], YES_NO_READ),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "table"), SCALES, ids=["words", "ten", "unit", "hundred", "yes-no"])
def test_labels_are_read_for_certain_or_not_at_all(labels: list[str], table: dict[str | None, list[str]]) -> None:
    """Each sentence gives the label that it states, and no label where it bounds, doubts, denies or measures."""
    wrong = [
        (text, read) for label, texts in table.items() for text in texts if (read := read_label(text, labels)) != label
    ]
    assert wrong == []


def test_votes_are_read_for_certain_or_not_at_all() -> None:
    """Of three choices."""
    wrong = [
        (text, read) for vote, texts in VOTES_READ.items() for text in texts if (read := read_vote(text, 3)) != vote
    ]
    assert wrong == []


def test_a_judge_that_takes_its_label_back_is_not_read() -> None:
    """In the sentence of the label or after it; what it said before the label does not count."""
    labels = list(WORDS)
    for text in (
        "Sure: 4*6. But likely I am wrong.", "Sure, but I may be wrong.", "Answer: sure, but I might be mistaken",
        "likely\nBut I could be wrong.", "Likely. I'm just guessing.",
    ):  # fmt: skip
        assert read_label(text, labels) is None, text
    assert read_label("I was wrong before.\nAnswer: sure", labels) == "sure"
    assert read_label("I am unsure", ["certain", "unsure"]) == "unsure"


def test_a_number_grouped_by_points_is_read_where_one_reading_is_a_label() -> None:
    """``10.000`` is ten with three decimals, or ten thousand in many countries."""
    assert read_label("Score: 10.000", TEN) == "10"
    assert read_label("10.000", ["1", "10000"]) == "10000"
    assert read_label("10.000", ["10", "10000"]) is None
    assert read_label("1,000", TEN) is None  # a comma that groups digits is no decimal comma
