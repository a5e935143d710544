"""What the built-in workloads say, in words of our own: instructions, worked examples and the pieces that vary."""

from __future__ import annotations

PROPOSE = """\
You are playing the Game of 24. Take two of the numbers, combine them with + - * or /, put the result in their place.
List possible next steps, each with the numbers that are left after it.
Numbers: 3 6 7 12
Possible next steps:
12 / 6 = 2 (left: 2 3 7)
3 + 7 = 10 (left: 6 10 12)
7 - 3 = 4 (left: 4 6 12)
6 * 3 = 18 (left: 7 12 18)
12 - 6 = 6 (left: 3 6 7)
12 / 3 = 4 (left: 4 6 7)
7 + 6 = 13 (left: 3 12 13)
Numbers: 1 5 8 11
Possible next steps:
11 - 8 = 3 (left: 1 3 5)
5 + 1 = 6 (left: 6 8 11)
8 * 1 = 8 (left: 5 8 11)
5 - 1 = 4 (left: 4 8 11)
8 - 5 = 3 (left: 1 3 11)
11 + 5 = 16 (left: 1 8 16)
11 - 5 = 6 (left: 1 6 8)
"""
"""Followed by the numbers of a state: a proposal of the Game of 24."""

VALUE = """\
Can these numbers still make 24 with + - * and /, each used exactly once? Try, then say sure, likely or impossible.
Numbers: 9 15
9 + 15 = 24
sure
Numbers: 3 4 12
4 * 12 = 48
(12 - 4) * 3 = 24
sure
Numbers: 2 3
2 + 3 = 5
2 * 3 = 6
impossible
Numbers: 5 7 8
5 + 7 + 8 = 20
7 * 5 - 8 = 27
(8 - 5) * 7 = 21
close to 24, and of a useful size
likely
Numbers: 1 1 9
1 + 1 + 9 = 11
(1 + 1) * 9 = 18
too small
impossible
"""
"""Followed by the numbers of a state: a judgement of the Game of 24."""

SOLVE = """\
Solve the word problem step by step. Write one calculation a line, and the result after "Answer:" in the last line.
Problem: A baker fills 6 trays with 12 rolls each. She burns 9 rolls and sells the others for 2 coins each. How many \
coins does she get?
6 * 12 = 72
72 - 9 = 63
63 * 2 = 126
Answer: 126
"""
"""Followed by a word problem."""

CHECK = """\
Here are a word problem and the first lines of a solution. Say whether the solution is on a right way: sure, likely or \
impossible.
Problem: A baker fills 6 trays with 12 rolls each. She burns 9 rolls. How many rolls are left?
6 * 12 = 72
Judgement: sure
Problem: A baker fills 6 trays with 12 rolls each. She burns 9 rolls. How many rolls are left?
6 + 12 = 18
Judgement: impossible
"""
"""Followed by a word problem and part of a solution: a judgement."""

PEOPLE = ("Ada", "Boris", "Chen", "Dalia", "Emeka", "Fiona", "Goran", "Hana", "Ines", "Jonas", "Keiko", "Luis")

STORIES = (
    ("{who} packs {a} boxes with {b} candles each and gives {c} candles to {other}. How many candles are left?", "*"),
    ("{who} reads {a} pages on each of {b} evenings, and {c} more pages on a Sunday. How many pages is that?", "*"),
    (
        "A bus leaves with {a} people. At the next stop {b} get on, at the one after it {c} get off. How many people "
        "does {who} count in the bus now?",
        "+",
    ),
    ("{who} plants {a} rows of {b} onions. {other} plants {c} times as many. How many onions does {other} plant?", "*"),
    (
        "{who} has {a} stamps and {other} has {b} more than that. {other} loses {c} stamps. How many has {other}?",
        "+",
    ),
    (
        "A workshop has {a} shelves with {b} tools each, and {c} tools on the bench of {who}. How many is that?",
        "*",
    ),
)
"""Templates of word problems, each with the sign that the first step of a solution puts between a and b."""

PLAN = """\
Write a short plan for a passage of four paragraphs, one line a paragraph, and then the passage. Paragraph by \
paragraph it must end with these sentences:
"""
"""Followed by four sentences: a proposal of creative writing."""

RATE = """\
Below are the four sentences that the paragraphs of a passage must end with, and the beginning of a plan. Say in a few \
words how well the plan hangs together, and then give a score from 1 to 10.
"""
"""Followed by four sentences and part of a plan: a judgement of creative writing."""

SENTENCES = (
    "The lamp in the harbour office was still burning.",
    "Nobody had asked the clockmaker for his opinion.",
    "She put the last of the maps into the stove.",
    "By morning the river had changed its course.",
    "He counted the steps twice and got two numbers.",
    "It was the smallest orchestra in the country.",
    "The parrot knew the password, but it would not say it.",
    "They agreed never to paint the door red again.",
    "Somewhere below them an engine started.",
    "The letter had been opened with great care.",
    "All winter the greenhouse smelled of oranges.",
    "Her grandfather had drawn the same bridge a hundred times.",
    "The train to the coast does not stop here any more.",
    "On the third day the snow began to sing.",
    "He left the chess game exactly as it was.",
    "The island was missing from every chart but one.",
    "There were more umbrellas than people.",
    "She had taught the fox to wait at the gate.",
    "Nothing in the contract mentioned the piano.",
    "The bread was warm, and that settled the matter.",
    "He recognised the voice before he understood the words.",
    "The lighthouse keeper kept a diary of other people's dreams.",
    "No two of the keys were alike.",
    "At last the cellar was quiet.",
)
"""Ends of paragraphs."""

OPENINGS = (
    "A stranger arrives with a question",
    "Two sisters sort an old house",
    "A night watch goes wrong",
    "A lesson is given on a boat",
    "A debt is paid in an odd coin",
    "A storm keeps five people in one room",
)
"""Beginnings of plans."""

STACK = """\
Coloured blocks lie on a table, some of them on top of each other. One hand moves them, and holds one block at most.
With an empty hand it can pick up a block from the table, or unstack one from the block below it, if it is free.
A block in the hand it can put down on the table, or stack on a free block. A block is free when no other lies on it.
Find the moves that lead from the state to the goal.
State: the green block is on the table, the red block is on the green block, the blue block is on the table. The red \
block and the blue block are free. The hand is empty.
Goal: the blue block is on the red block.
My plan is as follows:
pick up the blue block
stack the blue block on the red block
done
State: the yellow block is on the table, the black block is on the yellow block, the white block is on the black \
block, the red block is on the table. The white block and the red block are free. The hand is empty.
Goal: the white block is on the red block, the yellow block is on the white block.
My plan is as follows:
unstack the white block from the black block
stack the white block on the red block
unstack the black block from the yellow block
put down the black block
pick up the yellow block
stack the yellow block on the white block
done
"""
"""Followed by a state and a goal: Blocksworld, as SeeD's and RAP's searches set it."""

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")
"""Of blocks."""
