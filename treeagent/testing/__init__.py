"""The contract kit: test classes that a plug-in has to pass, for the tests of plug-in packages.

A contract is a class of pytest tests. Subclass it under a name that begins with ``Test`` and say what is tested::

    from treeagent.testing import SearchContract

    class TestMySearch(SearchContract):
        def search(self):
            return MySearch(width=3)

Every test's docstring is one clause of the contract. :mod:`treeagent.testing.synthetic` has small trees with a known
optimum, a task over them and a backend that answers its prompts, for tests of your own. For a backend whose replies
are written down in the test there is :class:`treeagent.backends.scripted.ScriptedBackend`.
"""

import sys

if pytest := sys.modules.get("pytest"):  # under pytest a failing assert of the kit shows its values
    pytest.register_assert_rewrite(f"{__name__}.backend", f"{__name__}.search", f"{__name__}.evaluator")
    pytest.register_assert_rewrite(f"{__name__}.checker", f"{__name__}.task")

from .backend import BackendContract as BackendContract
from .checker import CheckerContract as CheckerContract
from .checker import Solution as Solution
from .evaluator import EvaluatorContract as EvaluatorContract
from .search import SearchContract as SearchContract
from .task import TaskContract as TaskContract

__all__ = ["BackendContract", "CheckerContract", "EvaluatorContract", "SearchContract", "Solution", "TaskContract"]
