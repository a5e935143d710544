"""Exact checks of a YAML task, in Python."""

from __future__ import annotations

from collections.abc import Sequence

from . import registry
from .errors import ConfigError
from .plugin_boundary import PluginBoundary


class Checker:
    """Override what the task needs; everything has a default. Registered in the group ``treeagent.checkers``.

    States, texts and answers are the strings that prompts show. No method sees a gold answer but :meth:`grade`.
    A method raises ValueError for a text that it cannot read, but :meth:`verify` returns False there.
    """

    def read(self, input: str) -> str:
        """The input in normal form. Raises ValueError, saying what is wrong, where it is no input of the task."""
        return input

    def start(self, input: str) -> str:
        """The state before the first step."""
        return input

    def transition(self, parent: str, text: str) -> str | None:
        """The state after a step; None where the step is illegal.

        A checker that overrides this is a simulator, as the world model of RAP is (Hao et al. 2023, arXiv:2305.14992),
        but exact: it computes the states, and the task file must not have the key ``thought.state``.
        """
        raise TypeError(f"{type(self).__name__} does not simulate")

    def legal(self, parent: str, text: str, state: str) -> bool:
        """Whether the step ``text`` really leads from the state ``parent`` to ``state``."""
        return True

    def key(self, state: str) -> str:
        """Equal keys are the same state, however it is written."""
        return state

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Whether the answer solves the input; the steps alone are checked when there is no answer yet.

        Only the input is known here. A task whose checker does not override this cannot be verified.
        """
        raise TypeError(f"{type(self).__name__} cannot verify")

    def grade(self, answer: str, gold: str) -> bool:
        """Whether an answer agrees with the gold answer; only evaluation calls this, never a search."""
        return answer.strip() == gold.strip()

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """Whether a solution can still be reached from here (in a puzzle of fewest moves: by a shortest plan).

        None where that cannot be told. Evaluations measure evaluators against it; no search calls it.
        """
        return None

    @property
    def simulates(self) -> bool:
        """Whether :meth:`transition` is there."""
        return type(self).transition is not Checker.transition

    @property
    def verifies(self) -> bool:
        """Whether :meth:`verify` is there."""
        return type(self).verify is not Checker.verify


class GuardedChecker(Checker):
    """A checker inside the plug-in boundary: an exception that its contract does not name becomes a PluginError."""

    def __init__(self, checker: Checker, name: str) -> None:
        self._checker = checker
        self._reading = PluginBoundary("checker", name, passing=[ValueError])
        self._verifying = PluginBoundary("checker", name)

    def read(self, input: str) -> str:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.read(input)

    def start(self, input: str) -> str:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.start(input)

    def transition(self, parent: str, text: str) -> str | None:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.transition(parent, text)

    def legal(self, parent: str, text: str, state: str) -> bool:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.legal(parent, text, state)

    def key(self, state: str) -> str:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.key(state)

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """See :class:`Checker`."""
        with self._verifying:
            return self._checker.verify(input, steps, answer)

    def grade(self, answer: str, gold: str) -> bool:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.grade(answer, gold)

    def is_promising(self, input: str, steps: Sequence[str], state: str) -> bool | None:
        """See :class:`Checker`."""
        with self._reading:
            return self._checker.is_promising(input, steps, state)

    @property
    def simulates(self) -> bool:
        """See :class:`Checker`."""
        return self._checker.simulates

    @property
    def verifies(self) -> bool:
        """See :class:`Checker`."""
        return self._checker.verifies


def load_checker(name: str | None, *, allow_code: bool) -> Checker:
    """A registered checker, or the class at ``package.module:Name``; one that checks nothing for None.

    Raises ConfigError, for code outside the registry without ``allow_code`` as well.
    """
    if name is None:
        return Checker()
    checker = registry.load("checker", name, allow_code=allow_code)
    if not (isinstance(checker, type) and issubclass(checker, Checker)):
        raise ConfigError(f"{name!r} is not a treeagent.Checker")
    with PluginBoundary("checker", name, "its construction"):
        return GuardedChecker(checker(), name)
