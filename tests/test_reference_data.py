"""The checkers against the public data sets: every reference plan, proof and answer. Skipped without them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from oracles import closure
from shared_data import rows, shared

from treeagent import Task
from treeagent.backends.training.mini_data import solution
from treeagent.taskfile import dataset as data
from treeagent.tasks import blocksworld, crosswords
from treeagent.tasks.blocksworld_rules import shortest_plan
from treeagent.tasks.creative_writing import readings
from treeagent.tasks.game24_rules import solvable, steps
from treeagent.tasks.gsm8k import equations, number
from treeagent.tasks.prontoqa import read

WORDS = {"pick-up": "pick up {}", "put-down": "put down {}", "stack": "stack {} on {}", "unstack": "unstack {} from {}"}


def in_words(plan: str) -> list[str]:
    """A PDDL plan, ``(unstack b c)`` a line, in the words of the task."""
    lines = [line.strip("()").split() for line in plan.split("\n") if line.strip()]
    return [WORDS[name].format(*blocks) for name, *blocks in lines]


@pytest.mark.exhaustive
def test_blocksworld_agrees_with_all_602_reference_plans() -> None:
    """Each plan is legal step by step, reaches the goal at its last step and not before, and is of optimal length."""
    task = Task.load("blocksworld")
    seen = 0
    for file in sorted(shared("blocksworld/llm-reasoners/full_data").glob("*.json")):
        for path, plan, length in json.loads(file.read_text()):
            input = task.read_input(shared(f"blocksworld/plan-bench/{path.partition('/blocksworld/')[2]}").read_text())
            words = in_words(plan)
            assert task.verify(input, words, None), path
            assert task.verify(input, [], ", ".join(words)), path
            assert not any(task.verify(input, words[:cut], None) for cut in range(len(words))), path
            thought = task.root(input)
            for done, text in enumerate(words, 1):
                [piece] = task.read_thoughts("sample", text, input, thought, [])
                assert piece.fault is None
                assert piece.terminal == (done == len(words))
                thought = type(thought)(done, done - 1, text, piece.state, piece.key, done)
            assert len(shortest_plan(*blocksworld.read(input)) or []) == length == len(words)
            seen += 1
    assert seen == 602


@pytest.mark.exhaustive
def test_game24_agrees_with_all_1362_puzzles() -> None:
    """Each is an input that can be solved; a solution verifies by its expression and by its steps."""
    import random

    task = Task.load("game24")
    with shared("game24/24.csv").open(newline="") as file:
        puzzles = [row["Puzzles"] for row in csv.DictReader(file)]
    assert len(set(puzzles)) == 1362
    for puzzle in puzzles:
        input = task.read_input(puzzle)
        state = tuple(map(Fraction, input.split()))
        assert solvable(state), puzzle
        way, expression = solution(state, random.Random(0))
        assert task.verify(input, [], expression), puzzle
        assert task.verify(input, [step.text for step in way], None), puzzle
        assert not task.verify(input, [], expression + " + 1 - 1"), puzzle
        dead = next((step for step in steps(state) if not solvable(step.state)), None)
        assert dead is None or not task.verify(input, [dead.text], None)


def chains() -> list[tuple[str, list[str], str]]:
    """Input, chain and label of each of the 500 test items."""
    items = json.loads(shared("prontoqa/345hop_random_true.json").read_text()).values()
    items = [item["test_example"] for item in items]
    return [(f"{item['question']} {item['query']}", item["chain_of_thought"], item["answer"]) for item in items]


def test_prontoqa_agrees_with_all_500_chains() -> None:
    """Each chain is a proof of its label, of no other, and of none without its last sentence; nothing else follows."""
    task = Task.load("prontoqa")
    found = chains()
    for text, chain, label in found:
        input = task.read_input(text)
        assert task.verify(input, chain, label), text
        assert task.verify(input, [" ".join(chain)], None), text
        assert not task.verify(input, chain, {"True": "False", "False": "True"}[label]), text
        assert not task.verify(input, chain[:-1], None), text
        assert not task.verify(input, [], label), text
        problem = read(input)
        everything = closure(problem.rules, problem.facts)
        assert (problem.query in everything, problem.query.denied in everything) == (label == "True", label == "False")
    assert len(found) == 500


def test_prontoqa_refuses_every_chain_with_a_gap() -> None:
    """A derived fact taken out of the middle leaves the next one without a ground."""
    task = Task.load("prontoqa")
    for text, chain, label in chains():
        derived = chain[2::2]
        if len(derived) > 1:
            assert not task.verify(task.read_input(text), [chain[0], *derived[1:]], label), text


def test_prontoqa_reads_the_multiple_choice_form_as_well() -> None:
    """The 500 items of Logic-LLM: question in other words, labels A and B, explanations as chains."""
    task = Task.load("prontoqa")
    items = json.loads(shared("prontoqa/logic-llm_dev.json").read_text())
    for item in items:
        input = task.read_input(f"{item['context']} {item['question']}")
        label = {"A": "True", "B": "False"}[item["answer"]]
        assert task.verify(input, item["explanation"], label), item["id"]
        assert task.checker.grade(label, item["answer"])
    assert len(items) == 500


def test_gsm8k_reads_all_8792_gold_answers() -> None:
    """The answer pattern finds each, it is a whole number, grades as itself and not as its neighbour."""
    task = Task.load("gsm8k")
    found = [*rows("gsm8k/train.jsonl"), *rows("gsm8k/test.jsonl")]
    assert len(found) == 8792
    for row in found:
        gold = row["answer"].rpartition("####")[2].strip()
        answer = task.read_answer(row["answer"])
        assert answer is not None
        value = number(answer)
        assert value == int(gold.replace(",", ""))
        assert task.read_answer(f"So it is done.\nAnswer: {gold}.\n") == answer
        assert task.checker.grade(answer, gold)
        assert not task.checker.grade(str(value + 1), gold)


def test_gsm8ks_arithmetic_agrees_with_the_gold_calculations() -> None:
    """All plain ``<<calculation=value>>`` notes are right; of the sentences' own, two in a thousand are not."""
    notes: Counter[bool] = Counter()
    lines: Counter[bool] = Counter()
    for row in [*rows("gsm8k/train.jsonl"), *rows("gsm8k/test.jsonl")]:
        for note in re.findall(r"<<(.*?)>>", row["answer"]):
            notes.update(right for _, right in equations(note))
        for line in re.sub(r"<<.*?>>", "", row["answer"]).split("\n")[:-1]:
            lines.update(right for _, right in equations(line))
    assert notes[True] > 27_000
    assert not notes[False]
    assert lines[True] > 23_000
    assert lines[False] < 0.002 * lines[True]


def test_the_crosswords_data_is_consistent() -> None:
    """All 156 puzzles read, by the task's own templates; filling in the gold words across fills those down as well."""
    task = Task.load("crosswords")
    loaded = data.load(task, source=str(shared("crosswords/mini0505.json")))
    assert len(loaded.rows) == 156
    puzzles = json.loads(shared("crosswords/mini0505.json").read_text())
    for row, (_, letters) in zip(loaded.rows, puzzles, strict=True):
        gold = "".join(letters)
        board = crosswords.read(task.root(row.input).state)
        for row_number in range(5):
            word = gold[5 * row_number : 5 * row_number + 5]
            filled = board.filled(f"h{row_number + 1}", word.upper())
            assert filled is not None
            board = filled
        assert crosswords.read(board.text) == board
        assert [board.word(f"v{column + 1}") for column in range(5)] == [gold[column::5].upper() for column in range(5)]
        assert loaded.gold.grade(row, gold) is True


@pytest.mark.parametrize("name", ["gsm8k/test.jsonl", "prontoqa/345hop_random_true.json"])
def test_the_public_files_load_by_the_tasks_own_templates(name: str) -> None:
    """``--data`` takes them as they are."""
    task = Task.load(Path(name).parts[0])
    loaded = data.load(task, 0, 25, source=str(shared(name)))
    assert len(loaded.rows) == len(loaded.gold) == 25


def test_creative_writing_reads_all_100_inputs() -> None:
    """Each can be read as four sentences, 99 of them in one way; a passage that ends with them verifies."""
    task = Task.load("creative_writing")
    loaded = data.load(task, source=str(shared("creative_writing/data_100_random_text.txt")))
    ways = [readings(row.input) for row in loaded.rows]
    assert Counter(map(len, ways))[1] == 99
    assert min(map(len, ways)) == 1
    for row, found in zip(loaded.rows, ways, strict=True):
        ends = found[0]
        passage = "\n\n".join(f"It began. {end}" for end in ends)
        assert task.verify(row.input, [], passage)
        assert not task.verify(row.input, [], passage + " And so on.")
        assert not task.verify(row.input, [], "\n\n".join(passage.split("\n\n")[::-1]))
