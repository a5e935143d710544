"""PrOntoQA: sentences, forward chaining and proofs."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import closure

from treeagent import InputError, Task
from treeagent.tasks.prontoqa import ProntoQA, read
from treeagent.tasks.prontoqa_rules import Fact, Proposition, Rule, follows, read_sentence, sentences, singular

CHECK = ProntoQA()
TASK = Task.load("prontoqa")
KINDS = ["wumpus", "frob", "blick", "dorfy cat", "nib", "sarn"]
TRAITS = ["loud", "furious", "bony", "spotless"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Every cat is a feline.", Rule("cat", Proposition("feline"))),
        ("Each cat is an animal", Rule("cat", Proposition("animal"))),
        ("Cats are felines.", Rule("cat", Proposition("feline"))),
        ("All cats are felines.", Rule("cat", Proposition("feline"))),
        ("A cat is a feline.", Rule("cat", Proposition("feline"))),
        ("Butterflies are not bony.", Rule("butterfly", Proposition("bony", False))),
        ("Wumpuses are carnivorous.", Rule("wumpus", Proposition("carnivorous"))),
        ("Every wumpus is not carnivorous.", Rule("wumpus", Proposition("carnivorous", False))),
        ("Mersenne primes are prime numbers.", Rule("mersenne prime", Proposition("prime number"))),
        ("Max is a cat.", Fact("max", Proposition("cat"))),
        ("Max is not bony", Fact("max", Proposition("bony", False))),
        ("3 is a natural number.", Fact("3", Proposition("natural number"))),
    ],
)
def test_sentences_are_read(text: str, meant: Fact | Rule) -> None:
    """Singular and plural, with and without article, affirmed and denied."""
    assert read_sentence(text) == meant


@pytest.mark.parametrize("text", ["", "Cats", "Cats purr.", "is a cat", "Max is"])
def test_other_sentences_are_refused(text: str) -> None:
    """What is not understood is not guessed."""
    with pytest.raises(ValueError, match="not of the form"):
        read_sentence(text)


@pytest.mark.parametrize(
    ("plural", "one"),
    [("cats", "cat"), ("butterflies", "butterfly"), ("wumpuses", "wumpus"), ("foxes", "fox"), ("finches", "finch"),
     ("classes", "class"), ("vertebrates", "vertebrate"), ("sheep", "sheep")],
)  # fmt: skip
def test_plurals_meet_their_singulars(plural: str, one: str) -> None:
    """Both forms of a noun are one name; a singular stays what it is."""
    assert singular(plural) == singular(one) == one


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[str], list[str], str]:
    """Sentences of rules and a fact; a chain of sentences that proves something; the label of the question."""
    kinds = draw(st.permutations(KINDS))[: draw(st.integers(2, 5))]
    chain, rules = [f"Max is a {kinds[0]}."], []
    for kind, above in itertools.pairwise(kinds):
        rules.append(f"Every {kind} is a {above}.")
        chain += [rules[-1], f"Max is a {above}."]
    holds, trait = draw(st.booleans()), draw(st.sampled_from(TRAITS))
    rules.append(f"Each {kinds[-1]} is {'' if holds else 'not '}{trait}.")
    chain += [rules[-1], f"Max is {'' if holds else 'not '}{trait}."]
    rules += [f"Every zimp is {other}." for other in draw(st.sets(st.sampled_from(TRAITS)))]
    asked = draw(st.booleans())
    query = f"True or false: Max is {'' if asked else 'not '}{trait}."
    return [*draw(st.permutations(rules)), chain[0], query], chain, str(holds == asked)


@given(worlds())
def test_a_chain_proves_its_label_and_no_other(world) -> None:
    """Sentence by sentence or at once; without its last sentence, or with a gap, it proves nothing."""
    text, chain, label = world
    input = TASK.read_input(" ".join(text))
    assert CHECK.verify(input, chain, label)
    assert CHECK.verify(input, [" ".join(chain)], label)
    assert CHECK.verify(input, [f"{' '.join(chain)}\nAnswer: {label}"], label)
    assert not CHECK.verify(input, chain, "True" if label == "False" else "False")
    assert not CHECK.verify(input, chain[:-1], None)
    assert not CHECK.verify(input, [], label)
    derived = chain[2::2]
    assert not CHECK.verify(input, derived[1:], label) or len(derived) == 1


@given(worlds())
def test_what_is_derived_is_what_follows(world) -> None:
    """A step from the known facts is legal exactly if the closure grows by it in one go; wrong ones are never legal."""
    text, _, _ = world
    problem = read(TASK.read_input(" ".join(text)))
    everything = closure(problem.rules, problem.facts)
    for name in [*KINDS, *TRAITS]:
        for claim in (Proposition(name), Proposition(name, False)):
            fact = Fact("max", claim)
            step = f"Max is {'' if claim.holds else 'not '}{name}."
            after = problem.transition(step)
            direct = follows(fact, problem.rules, problem.facts)
            assert (after is not None) == (direct or fact in problem.facts)
            if direct:
                assert fact in everything
                assert after is not None
                assert after.facts - problem.facts <= {fact}


@settings(max_examples=50)
@given(worlds(), st.randoms(use_true_random=False))
def test_any_legal_way_leads_to_the_closure_and_the_label(world, rng: random.Random) -> None:
    """Whatever is derived first: in the end every consequence is known, and the state says the answer."""
    text, _, label = world
    input = TASK.read_input(" ".join(text))
    thought, state = TASK.root(input), input
    for _ in range(12):
        problem = read(state)
        claims = [rule.claim for rule in sorted(problem.rules, key=str) if Fact("max", rule.claim) not in problem.facts]
        words = [f"Max is {'' if claim.holds else 'not '}{claim.name}." for claim in claims]
        steps = [text for text in words if problem.transition(text)]
        if not steps:
            break
        [piece] = TASK.read_thoughts("sample", rng.choice(steps), input, thought, [])
        assert piece.fault is None
        assert piece.key != thought.key
        state = piece.state
        thought = type(thought)(1, 0, piece.text, state, piece.key, 1)
    assert state.endswith(f" Answer: {label}")
    assert read(state).facts == closure(read(input).rules, read(input).facts)
    assert TASK.path_answer(input, thought, []) == label


def test_the_order_of_steps_does_not_make_another_state() -> None:
    """Two ways to the same facts are one state."""
    input = TASK.read_input("Cats are loud. Cats are bony. Max is a cat. True or false: Max is blue.")
    ways = (["Max is loud.", "Max is bony."], ["Max is bony.", "Cats are loud. Max is loud."])
    keys = set()
    for way in ways:
        state: str | None = input
        for step in way:
            state = CHECK.transition(state or "", step)
        keys.add(CHECK.key(state or ""))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Cats are felines. Max is a cat.", "True or false"),
        ("True or false: Max is a cat.", "True or false"),
        ("Cats are felines. True or false: Cats are bony.", "about one name"),
        ("Cats purr. True or false: Max is a cat.", "not of the form"),
        ("Max is a cat. True or false: Max is a cat. Max is bony.", "one sentence"),
    ],
)
def test_what_is_no_problem_is_refused(text: str, said: str) -> None:
    """One line says why."""
    with pytest.raises(InputError) as caught:
        TASK.read_input(text)
    assert said in str(caught.value)


def test_labels_grade_in_any_spelling() -> None:
    """True, TRUE and A are one; True and B are not."""
    assert CHECK.grade("true", "True")
    assert CHECK.grade("A", "True")
    assert CHECK.grade("False", "B")
    assert not CHECK.grade("True", "B")
    assert TASK.answer_key("TRUE") == TASK.answer_key("True")


def test_the_examples_in_the_prompts_are_true() -> None:
    """Every step that a few-shot prompt lists follows from the facts shown with it."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    for role in ("propose", "sample", "cot"):
        for shot in TASK.prompt(role, input, TASK.root(input), []).split("\n\n")[1:-1]:
            facts, _, *steps = shot.splitlines()
            start = TASK.read_input(facts.removeprefix("Facts: "))
            assert all(CHECK.transition(start, step) for step in steps) or role != "propose"
            assert CHECK.verify(start, steps, None) or role == "propose"


def test_full_stops_and_line_breaks_part_sentences() -> None:
    """A number with a point is no end of a sentence."""
    assert sentences("Max is a cat. 2.5 is a number.\nCats are loud") == [
        "Max is a cat",
        "2.5 is a number",
        "Cats are loud",
    ]
