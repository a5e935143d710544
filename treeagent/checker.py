"""Exact checks of a YAML task, in Python."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from . import registry
from .errors import ConfigError
from .plugin_boundary import PluginBoundary


class Checker:
    """Override what the task needs; everything has a default. Registered in the group ``treeagent.checkers``.

    States, texts and answers are the strings that prompts show. No method sees a gold answer but :meth:`grade`.
    A method raises ValueError for a text that it cannot read, but :meth:`verify` returns False there.
    """

    brief: ClassVar[bool] = False
    """Whether :meth:`transition`, :meth:`legal` and :meth:`key` never take long, whatever the text: then the steps of a
    list that is being written are read without a thread for each."""
    row: Mapping[str, Any] = MappingProxyType({})
    """The fields of the input's data row that ``data.fields`` names, as templates see them; empty without a row, and in
    :meth:`read`, which is called before the row is known."""

    def for_row(self, row: Mapping[str, Any]) -> Checker:
        """A copy that has another :attr:`row`."""
        if not row:
            return self
        copied = copy.copy(self)
        copied.row = MappingProxyType(dict(row))
        return copied

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

    async def observe(self, parent: str, text: str) -> str | None:
        """What comes of the step ``text`` at the state ``parent``, as a tool or an environment shows it.

        None where the step needs no observation. Called once for each state and step that is legal, within the limits
        of the task's key ``observe``; see :meth:`treeagent.World.observe` for what it may do.
        """
        return None

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
    def observes(self) -> bool:
        """Whether :meth:`observe` is there."""
        return type(self).observe is not Checker.observe

    @property
    def grades(self) -> bool:
        """Whether :meth:`grade` is another than the comparison of texts."""
        return type(self).grade is not Checker.grade

    @property
    def verifies(self) -> bool:
        """Whether :meth:`verify` is there."""
        return type(self).verify is not Checker.verify


_METHODS = ("read", "start", "transition", "legal", "key", "verify", "grade", "is_promising")


def guarded(cls: type[Checker], name: str) -> type[Checker]:
    """A subclass whose methods run inside the plug-in boundary: what the contract does not allow is a PluginError.

    Methods that the class does not override stay those of :class:`Checker`.
    """
    reading, verifying = PluginBoundary("checker", name, passing=[ValueError]), PluginBoundary("checker", name)
    methods: dict[str, Callable[..., Any]] = {
        method: _inside(getattr(cls, method), verifying if method == "verify" else reading)
        for method in _METHODS
        if getattr(cls, method) is not getattr(Checker, method)
    }
    if cls.observe is not Checker.observe:
        if not inspect.iscoroutinefunction(cls.observe):
            raise ConfigError(f"the checker {name!r} has an 'observe' that is no coroutine; write 'async def observe'")
        methods["observe"] = _awaited_inside(cls.observe, verifying)
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**names, **methods})


def _inside(method: Callable[..., Any], boundary: PluginBoundary) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*words: Any, **more: Any) -> Any:
        with boundary:
            return method(*words, **more)

    return call


def _awaited_inside(method: Callable[..., Any], boundary: PluginBoundary) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*words: Any, **more: Any) -> Any:
        with boundary:
            return await method(*words, **more)

    return call


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
        return guarded(checker, name)()
