"""The blocks world: the simulator's laws, and the words around it."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import blocks, show_action

from treeagent import Agent, InputError, Task
from treeagent.backends.scripted import ScriptedBackend
from treeagent.tasks.blocksworld import Blocksworld, read, read_action, show
from treeagent.tasks.blocksworld_rules import TABLE, Action, Goal, State, actions, apply, shortest_plan

CHECK = Blocksworld()
TASK = Task.load("blocksworld")
ORDERS = {"pick up", "put down", "stack", "unstack"}


@st.composite
def states(draw: st.DrawFn, most: int = 5) -> State:
    """Towers of up to ``most`` blocks, one of them in the hand or none."""
    blocks = draw(st.permutations("abcde"[: draw(st.integers(1, most))]))
    held = draw(st.sampled_from([None, *blocks]))
    below: dict[str, str] = {}
    top = TABLE
    for block in blocks:
        if block != held:
            below[block] = top if draw(st.booleans()) else TABLE
            top = block
    return State.of(below, held)


@st.composite
def problems(draw: st.DrawFn, most: int = 4) -> tuple[State, Goal]:
    """A state and some of the facts of another one with the same blocks."""
    state = draw(states(most))
    below: dict[str, str] = {}
    top = TABLE
    for block in draw(st.permutations(sorted(state.blocks))):
        below[block] = top if draw(st.booleans()) else TABLE
        top = block
    return state, frozenset(draw(st.sets(st.sampled_from(sorted(below.items())), min_size=1)))


@given(states())
def test_every_legal_action_can_be_undone(state: State) -> None:
    """Its reverse is legal where it leads to, and leads back; the blocks stay the same ones."""
    assert actions(state)
    for action in actions(state):
        following = apply(state, action)
        assert following is not None
        assert following != state
        assert following.blocks == state.blocks
        assert apply(following, action.reverse) == state


@given(states(), st.sampled_from(sorted(ORDERS)), st.sampled_from("abcdef"), st.sampled_from(["", *"abcdef"]))
def test_an_action_is_legal_exactly_where_its_preconditions_hold(state: State, name, block: str, other: str) -> None:
    """The four operators' preconditions, written out independently of the simulator."""
    below, standing = dict(state.on), {support for _, support in state.on}
    clear = block in below and block not in standing
    legal = {
        "pick up": other == TABLE and clear and below.get(block) == TABLE and state.held is None,
        "put down": other == TABLE and state.held == block,
        "stack": state.held == block and other in below and other not in standing,
        "unstack": other != TABLE and clear and below.get(block) == other and state.held is None,
    }[name]
    assert (apply(state, Action(name, block, other)) is not None) == legal


def distance(state: State, goal: Goal) -> int | None:
    """The least number of actions, by an independent breadth-first search over sets of facts."""

    def facts(now: State) -> frozenset[tuple[str, ...]]:
        held = () if now.held is None else (("held", now.held),)
        return frozenset([*(("on", *pair) for pair in now.on), *held])

    def moves(now: frozenset[tuple[str, ...]]):
        held = next((fact for fact in now if fact[0] == "held"), None)
        under = {fact[2] for fact in now if fact[0] == "on"}
        tops = [fact for fact in now if fact[0] == "on" and fact[1] not in under]
        if held:
            for place in [TABLE, *(fact[1] for fact in tops)]:
                yield now - {held} | {("on", held[1], place)}
        else:
            for fact in tops:
                yield now - {fact} | {("held", fact[1])}

    start, wanted = facts(state), {("on", *pair) for pair in goal}
    seen, waiting = {start}, deque([(start, 0)])
    while waiting:
        now, steps = waiting.popleft()
        if wanted <= now:
            return steps
        for following in moves(now):
            if following not in seen:
                seen.add(following)
                waiting.append((following, steps + 1))
    return None


@settings(max_examples=60, deadline=None)
@given(problems())
def test_a_shortest_plan_is_a_plan_and_as_short_as_any(problem: tuple[State, Goal]) -> None:
    """Its actions lead to the goal at the last one, and an independent search finds no shorter way."""
    state, goal = problem
    plan = shortest_plan(state, goal)
    assert plan is not None
    assert len(plan) == distance(state, goal)
    for action in plan:
        assert not state.meets(goal)
        following = apply(state, action)
        assert following is not None
        state = following
    assert state.meets(goal)


@given(problems())
def test_a_plan_verifies_as_steps_and_as_an_answer_and_nothing_shorter_does(problem: tuple[State, Goal]) -> None:
    """In words, in lines or between commas, numbered or not."""
    text = show(*problem)
    words = [show_action(action) for action in shortest_plan(*problem) or []]
    assert CHECK.verify(text, words, None)
    for joint in (", ", "\n", "; ", ",\n"):
        assert CHECK.verify(text, [], joint.join(words))
    assert CHECK.verify(
        text, [], "\n".join(f"{number}. {step.upper()[0]}{step[1:]}." for number, step in enumerate(words, 1))
    )
    for cut in range(len(words)):
        assert not CHECK.verify(text, words[:cut], None)
        assert not CHECK.verify(text, [*words[:cut], "dance", *words[cut:]], None)


@given(problems())
def test_words_and_states_are_the_same_thing(problem: tuple[State, Goal]) -> None:
    """What is shown is read as what it was; sentences in another order are the same problem."""
    text = show(*problem)
    assert read(text) == problem
    assert TASK.read_input(text) == text == show(*read(text))
    now, _, wanted = text.removesuffix(" The goal is reached.").partition(" Goal: ")
    turned = " ".join(f"{part.strip()}." for part in now.split(".")[::-1] if part.strip())
    assert TASK.read_input(f"{turned} Goal: {wanted}") == text
    assert ("The goal is reached." in text) == problem[0].meets(problem[1])


@given(states())
def test_actions_in_words_are_read_back(state: State) -> None:
    """With a bullet, a number or a full stop as well; what is no action is none."""
    for action in actions(state):
        words = show_action(action)
        for text in (words, f"- {words}", f"3. {words}.", words.replace(" ", "  "), words.capitalize()):
            assert read_action(text) == action
        assert read_action(f"{words} and go home") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a is on the table.", "no 'Goal:'"),
        ("a is on the table. Goal: ", "goal is empty"),
        ("a is on the table. Goal: b is on a.", "'b', which is nowhere"),
        ("a is on b. Goal: a is on b.", "no ground under 'a'"),
        ("a is on b. b is on a. Goal: a is on b.", "no ground"),
        ("a is on a. Goal: a is on the table.", "no ground"),
        ("a is on c. b is on c. c is on the table. Goal: a is on b.", "two blocks stand on the same block"),
        ("a is on the table. a is on b. b is on the table. Goal: a is on b.", "in two places"),
        ("a is on the table. The hand holds a. Goal: a is on the table.", "in two places"),
        ("a is under b. Goal: a is on b.", "not of the form"),
        ("a is on the table. Goal: be good.", "not of the form"),
        ("(define (problem x) (:init (ontable a)))", "a PDDL problem needs"),
        ("(:init (ontable a) (red a)) (:goal (and (ontable a)))", "(red a) is not a fact"),
        ("(:init (ontable a)) (:goal (and (clear a)))", "a goal is made of"),
    ],
)
def test_what_cannot_be_built_is_refused(text: str, said: str) -> None:
    """One line says what is wrong with the problem."""
    with pytest.raises(InputError) as caught:
        TASK.read_input(text)
    assert said in str(caught.value)


PDDL = """(define (problem mine) (:domain blocksworld-4ops) (:objects a b c)
(:init (handempty) (ontable a) (on b a) (ontable c) (clear b) (clear c))
(:goal (and (on c a) (ontable b))))"""


def test_a_pddl_problem_is_read_as_its_words() -> None:
    """Facts that others imply, such as clear, are left out."""
    words = "a is on the table. b is on a. c is on the table. The hand is empty. Goal: b is on the table. c is on a."
    assert TASK.read_input(PDDL) == words


@pytest.mark.parametrize(
    ("text", "fault", "terminal"),
    [
        ("unstack c from a", None, False),
        ("pick up b", None, False),
        ("pick up a", "illegal", False),  # c stands on it
        ("stack c on b", "illegal", False),  # nothing is held
        ("unstack c from b", "illegal", False),  # it does not stand there
        ("pick up d", "illegal", False),  # there is no such block
        ("put down", "unparsed", False),
        ("look around", "unparsed", False),
    ],
)
def test_a_step_is_read_simulated_and_checked(text: str, fault: str | None, terminal: bool) -> None:
    """Unparsed is what has no form of an action; illegal is what the world does not allow."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    [piece] = TASK.read_thoughts("sample", text, input, TASK.root(input), [])
    assert (piece.fault, piece.terminal) == (fault, terminal)


def test_a_breadth_first_search_ends_where_the_goal_is_reached() -> None:
    """A verified plan of two actions is not searched past, though sixteen are allowed."""
    problem = "a is on the table. b is on the table. The hand is empty. Goal: a is on b."
    result = Agent("blocksworld", "bfs", backend=ScriptedBackend(blocks)).solve(problem)
    assert (result.answer, result.solved) == ("pick up a, stack a on b", True)
    assert max(thought.depth for thought in result.tree) == 2


def test_the_examples_in_the_prompts_are_true() -> None:
    """Every action listed in a few-shot prompt is legal where it is listed, and the plans reach their goals."""
    input = TASK.read_input(TASK.spec.input.examples[0])
    for block in TASK.prompt("propose", input, TASK.root(input), []).split("\n\n")[1:-1]:
        state, *listed = [line for line in block.splitlines() if line != "Next actions:"]
        assert all(CHECK.transition(state.removeprefix("Now: "), action) for action in listed)
    for role in ("sample", "io", "cot"):
        for shot in TASK.prompt(role, input, TASK.root(input), []).split("\n\n")[1:-1]:
            start, _, plan = shot.removeprefix("Start: ").partition("\n")
            assert CHECK.verify(start, [], plan.rpartition(":\n")[2]), role
