"""What every checker must do, by inputs of its task and solutions of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from ..checker import Checker
from ..errors import ToolError

T = TypeVar("T")

NONSENSE = ("", "?", "%%% what?", "\x00", "0" * 500, "(" * 50)
"""Texts that make little sense in any task."""


_SOON = 1.0
"""Seconds that a cancelled observation may take."""


@dataclass(frozen=True, slots=True)
class Solution:
    """An input with steps that solve it."""

    input: str
    steps: tuple[str, ...] = ()
    answer: str | None = None
    """The answer that the steps lead to; None where the steps are the answer."""
    states: tuple[str, ...] | None = None
    """The state after each step; None where the checker computes states or knows nothing of them."""


class CheckerContract:
    """Tests of a checker; subclass it, override :meth:`checker` and give ``solutions``."""

    solutions: ClassVar[Sequence[Solution]] = ()
    """At least one. The answer, or the steps where there is no answer, solve the input."""
    wrong_inputs: ClassVar[Sequence[str]] = ()
    """Texts that are no inputs of the task."""

    def checker(self) -> Checker:
        """The checker under test."""
        raise NotImplementedError("override checker() to return the checker under test")

    def test_an_input_has_one_normal_form(self) -> None:
        """Reading what was read changes nothing, and the first state has the same key each time."""
        checker = self.checker()
        assert self.solutions
        for solution in self.solutions:
            text = checker.read(solution.input)
            assert checker.read(text) == text
            assert checker.start(text) == checker.start(text)
            assert checker.key(checker.start(text)) == checker.key(checker.start(text))

    def test_a_wrong_input_is_refused(self) -> None:
        """With a ValueError whose text says what is wrong."""
        for text in self.wrong_inputs:
            message = ""
            try:
                self.checker().read(text)
            except ValueError as error:
                message = str(error)
            assert message, f"an input of another form was accepted, or refused without a word: {text!r}"

    def test_every_step_of_a_solution_is_legal(self) -> None:
        """A checker that simulates has a state after each; others accept the states that are given."""
        for solution in self.solutions:
            for parent, text, state in self._steps(solution):
                assert self.checker().legal(parent, text, state)
                assert self.checker().key(state) == self.checker().key(state)

    def test_a_solution_is_verified(self) -> None:
        """The answer solves its input, and agrees with itself as a gold answer."""
        checker = self.checker()
        for solution in self.solutions:
            if checker.verifies:
                assert checker.verify(checker.read(solution.input), solution.steps, solution.answer)
            if solution.answer is not None:
                assert checker.grade(solution.answer, solution.answer)

    def test_no_state_of_a_solution_is_called_hopeless(self) -> None:
        """From each of them a solution can be reached, as far as the checker can tell."""
        checker = self.checker()
        for solution in self.solutions:
            text = checker.read(solution.input)
            for depth, (_, _, state) in enumerate(self._steps(solution), 1):
                assert checker.is_promising(text, solution.steps[:depth], state) is not False

    def test_nonsense_solves_nothing(self) -> None:
        """It is not verified, and no method raises another error than ValueError for it."""
        checker = self.checker()
        for solution in self.solutions:
            text = checker.read(solution.input)
            for nonsense in NONSENSE:
                if checker.verifies:
                    assert not _attempt(checker.verify, text, (nonsense,), nonsense)
                if checker.simulates:  # what a step looks like may be left to the task's pattern
                    state = _attempt(checker.transition, checker.start(text), nonsense)
                    assert state is None or isinstance(state, str)

    def test_what_a_step_shows_is_a_text(self) -> None:
        """Or None, at each state of a solution; for nonsense it may raise ToolError and nothing else."""
        checker = self.checker()
        for parent, text in self._acts():
            observation = asyncio.run(checker.observe(parent, text))
            assert observation is None or isinstance(observation, str)
            for nonsense in NONSENSE:
                try:
                    observation = asyncio.run(checker.observe(parent, nonsense))
                except ToolError:
                    continue
                assert observation is None or isinstance(observation, str)

    def test_an_observation_can_be_ended(self) -> None:
        """One that is cancelled ends soon, so that time limits and Ctrl-C hold."""

        async def end(parent: str, text: str) -> bool:
            call = asyncio.ensure_future(self.checker().observe(parent, text))
            await asyncio.sleep(0)  # it has begun
            call.cancel()
            await asyncio.wait({call}, timeout=_SOON)
            return call.done()

        for parent, text in self._acts():
            assert asyncio.run(end(parent, text)), f"the step {text!r} goes on after it was cancelled"

    def _acts(self) -> list[tuple[str, str]]:
        """States and steps of the solutions, for a checker that observes; else none."""
        if not self.checker().observes:
            return []
        return [(parent, text) for solution in self.solutions for parent, text, _ in self._steps(solution)]

    def _steps(self, solution: Solution) -> list[tuple[str, str, str]]:
        """State before, text and state after of each step; empty where the states are not known."""
        checker = self.checker()
        states = [checker.start(checker.read(solution.input))]
        if checker.simulates:
            for step in solution.steps:
                state = checker.transition(states[-1], step)
                assert state is not None, f"the step {step!r} of a solution is illegal"
                states.append(state)
        elif solution.states is not None:
            states.extend(solution.states)
        else:
            return []
        return list(zip(states, solution.steps, states[1:], strict=False))


def _attempt(method: Callable[..., T], *arguments: object) -> T | None:
    """What the method returns; None where it raises ValueError."""
    try:
        return method(*arguments)
    except ValueError:
        return None
