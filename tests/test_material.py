"""What the bundled model may see: nothing that it is measured on, in no order and no format."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from fractions import Fraction
from importlib import resources
from typing import Any

import pytest

from treeagent import Task
from treeagent.backends.training import mini_data as material
from treeagent.backends.training.mini_data import Example
from treeagent.tasks.game24 import STEP, Game24
from treeagent.tasks.game24_rules import read, show, solvable, steps

TASK = Task.load("game24")
CHECK = Game24()
FRACTION = re.compile(r"[0-9]+(?:/[0-9]+)?")

# Every kind is made in full, but with fewer tries at a solution and fewer votes than in training, for time.


@pytest.fixture(scope="module")
def kinds() -> dict[str, list[Example]]:
    with pytest.MonkeyPatch.context() as patch:
        solutions, vote = material.solutions, material.vote
        patch.setattr(material, "solutions", lambda hands, tries, rng: solutions(hands, 4, rng))
        patch.setattr(material, "vote", lambda render, states, count, rng: vote(render, states, 1000, rng))
        return material.material(material.renderer(TASK))


def held_out() -> set[tuple[Fraction, ...]]:
    return set(material.test_hands()) | set(material.dev_hands())


def hands_in(text: str) -> list[tuple[Fraction, ...]]:
    """Every line's, and every neighbouring four numbers', sorted multiset."""
    found = []
    for line in text.splitlines():
        numbers = [
            Fraction(word) for word in FRACTION.findall(re.sub(r"^\d+: ", "", line))
        ]  # a choice's number is none
        found += [tuple(sorted(numbers[at : at + 4])) for at in range(len(numbers) - 3)]
    return found


def test_the_test_rows_are_one_hundred_distinct_solvable_hands() -> None:
    """Rows 900-999 of the public list, each in ascending order, no multiset twice."""
    text = resources.files("treeagent.prompts").joinpath("data/game24_test.txt").read_text()
    rows = text.splitlines()
    assert len(rows) == len(set(rows)) == 100
    assert hashlib.sha256(text.encode()).hexdigest() == ROWS
    for row in rows:
        assert TASK.read_input(row) == show(read(row))
        assert solvable(read(row))


ROWS = "158391d40d85760ebe981dc83c4a7a1d24689ebced8b87cb6e51623389fd2658"
"""Digest of the file when it was compared with rows 900-999 of the public list."""


@pytest.mark.exhaustive
def test_the_held_out_fifth_is_chosen_by_hash_alone() -> None:
    """About a fifth of the solvable hands, none of them a test row; training has all the other hands."""
    dev, test, train = material.dev_hands(), material.test_hands(), material.training_hands()
    assert 0.15 < len(dev) / 1362 < 0.25
    assert not set(dev) & set(test)
    assert not (set(dev) | set(test)) & set(train)
    assert set(dev) | set(test) | set(train) == set(material.all_hands())
    assert all(solvable(hand) for hand in dev)
    assert all(not solvable(hand) or not material.in_dev(hand) for hand in train)


@pytest.mark.exhaustive
def test_no_example_shows_a_held_out_hand(kinds: dict[str, list[Example]]) -> None:
    """No prompt has a held-out hand, in any order; no written step, answer or list spells one out as a hand."""
    forbidden = held_out()
    for kind, examples in kinds.items():
        for example in examples:
            shown = [line for line in example.prompt.splitlines() if line.startswith("Numbers:")]
            for line in shown:
                assert tuple(sorted(read(line.removeprefix("Numbers:")))) not in forbidden, kind
            if kind in ("io", "cot"):
                used = [Fraction(word) for word in FRACTION.findall(example.completion.splitlines()[-1])][:4]
                assert tuple(sorted(used)) not in forbidden
            elif kind.startswith(("value", "vote")):
                assert not set(hands_in(example.prompt)) & forbidden, kind


@pytest.mark.exhaustive
def test_no_list_of_four_numbers_is_a_held_out_hand(kinds: dict[str, list[Example]]) -> None:
    """Numbers left after a step are three at most, so that no completion lists a held-out hand."""
    forbidden = held_out()
    for kind, examples in kinds.items():
        for example in examples:
            for rest in re.findall(r"\(left: ([^)]*)\)", example.prompt + example.completion):
                assert len(read(rest)) <= 3, kind
            for line in (example.prompt + example.completion).splitlines():
                if "=" not in line and "Numbers" not in line:
                    assert not set(hands_in(line)) & forbidden, (kind, line)


@pytest.mark.exhaustive
def test_every_training_hand_is_proposed_and_smaller_states_are_complete(kinds: dict[str, list[Example]]) -> None:
    """Held out are hands of four; every state of three numbers and fewer that can be met is judged."""
    numbers = [TASK.prompt("propose", "", TASK.root(show(hand)), []) for hand in material.training_hands()]
    assert [example.prompt for example in kinds["propose-4"]] == numbers
    three = material.reachable(material.all_hands())
    judged = {example.prompt for kind in ("value-3-good", "value-3-bad") for example in kinds[kind]}
    assert len(judged) == len(three) == len(kinds["propose-3"])
    assert max(map(len, three)) == 3


@pytest.mark.exhaustive
def test_labels_are_right(kinds: dict[str, list[Example]]) -> None:
    """``sure`` where 24 can be made, ``impossible`` where not; a vote names the one that can."""
    for kind in ("value-3-good", "value-3-bad", "value-2-good", "value-2-bad", "value-1"):
        for example in kinds[kind]:
            [line] = [line for line in example.prompt.splitlines() if line.startswith("Numbers:")]
            assert example.completion == (" sure" if solvable(read(line.removeprefix("Numbers:"))) else " impossible")
            assert kind == "value-1" or kind.endswith("good") is (example.completion == " sure")
    for example in kinds["vote"]:
        choices = [read(state) for state in re.findall(r"(?m)^\d+: (.*)$", example.prompt)]
        assert [solvable(state) for state in choices].index(True) == int(example.completion) - 1
        assert sum(map(solvable, choices)) == 1


@pytest.mark.exhaustive
def test_proposals_are_legal_with_the_good_ones_first(kinds: dict[str, list[Example]]) -> None:
    """Every proposed line passes the checker, and no hopeless step stands before one that keeps 24 in reach."""
    rng = random.Random(0)
    for kind in ("propose-4", "propose-3", "propose-2"):
        for example in rng.sample(kinds[kind], 150):
            [line] = [line for line in example.prompt.splitlines() if line.startswith("Numbers:")]
            good = []
            for text in example.completion.splitlines():
                match = STEP.fullmatch(text)
                assert match is not None
                assert CHECK.legal(line.removeprefix("Numbers:").strip(), text, match[5])
                good.append(solvable(read(match[5])))
            assert good == sorted(good, reverse=True)


@pytest.mark.exhaustive
def test_io_and_cot_are_right_and_distinct(kinds: dict[str, list[Example]]) -> None:
    """Each answer verifies for its hand, each chain is legal to the end, and no example is there twice."""
    for kind in ("io", "cot"):
        assert max(Counter((example.prompt, example.completion) for example in kinds[kind]).values()) == 1
        for example in kinds[kind]:
            [hand] = re.findall(r"(?m)^Numbers: (.*)$", example.prompt)
            assert CHECK.verify(hand, [], TASK.read_answer(example.completion))
            if kind == "cot":
                assert CHECK.verify(hand, example.completion.splitlines()[:-1], None)


@pytest.mark.exhaustive
def test_prompts_are_the_tasks_own(kinds: dict[str, list[Example]]) -> None:
    """What the model learns to answer is, byte for byte, what a search asks."""
    for kind, role in {"io": "io", "cot": "cot", "propose-4": "propose"}.items():
        [hand] = re.findall(r"(?m)^Numbers: (.*)$", kinds[kind][7].prompt)
        assert kinds[kind][7].prompt == TASK.prompt(role, hand, TASK.root(hand), [])


def test_the_baselines_get_as_many_tokens_as_the_tree() -> None:
    """In every phase of training io and cot have at least half of the tokens, and the shares are whole."""
    train: Any = pytest.importorskip("treeagent.backends.training.train_mini")
    for shares in (train.ENUMERATE, train.JUDGE):
        assert sum(shares.values()) == pytest.approx(1)
        tree = sum(share for kind, share in shares.items() if kind not in ("io", "cot"))
        assert shares["io"] + shares["cot"] >= tree - 1e-9


def test_the_same_seed_gives_the_same_material() -> None:
    """Random solutions and votes come from the seed alone."""
    hands = material.training_hands()[500:520]
    three = material.reachable(hands)
    for make in (
        lambda seed: list(material.solutions(hands, 5, random.Random(seed))),
        lambda seed: material.vote(material.renderer(TASK), three, 20, random.Random(seed)),
    ):
        assert make(1) == make(1) != make(2)


def test_steps_of_a_state_never_change() -> None:
    """Steps are remembered between calls, so they must not be open to change."""
    state = read("4 9 10 13")
    assert steps(state) is steps(state)
    assert isinstance(steps(state), tuple)
    before = list(material.listed(state))
    material.listed(state).clear()
    assert material.listed(state) == before
