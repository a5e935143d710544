"""Six kinds of public reasoning tasks as task files without Python, on invented rows, with answers to grade."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from treeagent import Task

_HEAD = """
name: {name}
description: Answer a question.
metadata: {{version: 1}}
depth: 1
"""


@dataclass(frozen=True)
class Kind:
    """One kind of task."""

    name: str
    body: str
    rows: list[dict[str, object]]
    right: list[list[str]]
    """For each row texts of a model that answer it."""
    wrong: list[list[str]]

    def load(self, folder: Path) -> Task:
        """The task, written to a folder with its rows."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        (folder / f"{self.name}.jsonl").write_text(lines)
        path = folder / f"{self.name}.yaml"
        path.write_text(_HEAD.format(name=self.name) + self.body)
        return Task.load(path)


MATH = Kind(
    "math",
    """
input: {description: a problem, examples: ["What is 1 + 1?"]}
answer: {pattern: '(?s)(?P<answer>.+)', grade: math}
prompts: {io: "{{ input }}"}
data: {file: math.jsonl, input: "{{ problem }}", gold: "{{ answer }}", group: "{{ subject }}"}
""",
    [
        {"problem": "Half of one?", "answer": r"\frac{1}{2}", "subject": "Algebra"},
        {"problem": "Expand the square.", "answer": "x^2+2x+1", "subject": "Algebra"},
        {"problem": "Polar coordinates?", "answer": r"\left( 3, \frac{\pi}{2} \right)", "subject": "Precalculus"},
        {"problem": "Who ran fastest?", "answer": r"\text{Evelyn}", "subject": "Algebra"},
    ],
    [
        ["0.5", r"$\frac{1}{2}$", r"The answer is $\boxed{\dfrac12}$.", r"\frac{2}{4}"],
        ["(x+1)^2", "$1 + 2x + x^2$", r"\boxed{x^2 + 2x + 1}"],
        [r"(3, \pi/2)", r"$\left(3,\frac{\pi}{2}\right)$"],
        ["Evelyn", r"\text{evelyn}", r"$\text{Evelyn}$"],
    ],
    [["0.25"], ["x^2+1"], [r"(3, \pi)"], ["Carla"]],
)
AQUA = Kind(
    "aqua",
    """
input:
  description: a question
  examples: ["What is 1 + 1?"]
  rows: [{options: ["A)1", "B)2"]}]
answer: {grade: choice}
prompts: {io: "{{ input }} {{ row.options | join(' ') }}"}
data: {file: aqua.jsonl, input: "{{ question }}", gold: "{{ correct }}", fields: [options]}
""",
    [
        {"question": "Five pens?", "options": ["A)8", "B)10", "C)12 coins", "D)None of these"], "correct": "B"},
        {"question": "Six pens?", "options": ["A)8", "B)10", "C)12 coins", "D)None of these"], "correct": "C"},
        {"question": "No pens?", "options": ["A)8", "B)10", "C)12 coins", "D)None of these"], "correct": "D"},
    ],
    [
        ["B", "(B)", "B.", "b", "The answer is B", "So the answer is (B).", "10", "B) 10", "Answer: B)10"],
        ["C", "12 coins", "The correct option is C) 12 coins", "the answer is 12 Coins."],
        ["D", "none of these", "The answer is D because nothing fits"],
    ],
    [["A", "8", "E", "B) 8", "A or B"], ["B", "12"], ["None"]],
)
STRATEGY = Kind(
    "strategy",
    """
input: {description: a question, examples: ["Is water wet?"]}
answer:
  grade: {by: ignore_case, filters: [{last: '(?i)\\b(?P<answer>yes|no|true|false)\\b'}]}
  same: "{{ answer | lower | trim }}"
prompts: {io: "{{ input }}"}
data: {file: strategy.jsonl, input: "{{ question }}", gold: "{{ 'yes' if answer else 'no' }}"}
""",
    [{"question": "Can a hen swim?", "answer": True}, {"question": "Is iron a plant?", "answer": False}],
    [["Yes", "yes.", "YES", "So the answer is yes.", "No wonder: **Yes**"], ["No", "no.", "The answer is No!"]],
    [["No", "maybe", "yesterday"], ["Yes", ""]],
)
PROSQA = Kind(
    "prosqa",
    """
input:
  description: a question about a graph
  examples: ["Is Alex a bompus or a lempus?"]
  rows: [{edges: [["Alex", "zumpus"], ["zumpus", "bompus"]], names: ["Alex", "zumpus", "bompus", "lempus"]}]
thought:
  pattern: '(?P<one>\\w+) is a (?P<other>\\w+)'
  legal: "[one, other] in row.edges"
answer: {grade: ignore_case}
prompts:
  io: "{{ input }}"
  sample: "{{ row.edges | join(', ') }} {{ input }} {{ steps | join('. ') }}"
  value: "{{ input }} {{ steps | join('. ') }}"
data: {file: prosqa.jsonl, input: "{{ question }}", gold: "{{ answer }}", fields: [edges, names]}
""",
    [
        {
            "question": "Is Bo a rempus or a terpus?", "answer": "Bo is a terpus.",
            "edges": [["Bo", "gorpus"], ["gorpus", "terpus"]], "names": ["Bo", "gorpus", "terpus", "rempus"],
        },
    ],
    [["Bo is a terpus.", "Bo is a terpus", "bo is a Terpus."]],
    [["Bo is a rempus.", "terpus is a Bo"]],
)  # fmt: skip
DEDUCTION = Kind(
    "deduction",
    """
input:
  description: statements and options
  examples: ["The van is older than the bus."]
  rows: [{input: "(A) The van is the oldest"}]
answer: {grade: {by: choice, options: row.input}}
prompts: {io: "{{ input }}"}
data: {file: deduction.jsonl, input: "{{ row.input }}", gold: "{{ target }}", fields: [input]}
""",
    [
        {
            "input": "The van is older than the bus. The bus is older than a truck.\nOptions:\n"
            "(A) The van is the oldest\n(B) The bus is the oldest\n(C) A truck is the oldest",
            "target": "(A)",
        },
    ],
    [
        [
            "(A)",
            "A",
            "A.",
            "The answer is (A).",
            "The van is the oldest.",
            "(A) The van is the oldest",
            "the answer is A",
        ]
    ],
    [["(B)", "A truck is the oldest", "The bus is the oldest", "a truck", "(A) The bus is the oldest"]],
)
SORTING = Kind(
    "sorting",
    """
input: {description: numbers, examples: ["3 1 2"]}
answer: {grade: list}
prompts: {io: "{{ input }}"}
data: {file: sorting.jsonl, input: "{{ numbers | join(' ') }}", gold: "{{ sorted | join(', ') }}"}
""",
    [{"numbers": [5, 3, 3, 9], "sorted": [3, 3, 5, 9]}],
    [["3, 3, 5, 9", "[3, 3, 5, 9]", "3 3 5 9", "3,3,5,9", "3, 3, 5 and 9", "3\n3\n5\n9", "3 < 3 < 5 < 9"]],
    [["3, 5, 9", "3, 5, 3, 9", "9 5 3 3", ""]],
)
KINDS = (MATH, AQUA, STRATEGY, PROSQA, DEDUCTION, SORTING)
