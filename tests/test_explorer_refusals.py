"""What cannot be searched is refused before the first request, and what else a search may be."""

from __future__ import annotations

import pytest
from scripted_steps import TREE
from synthetic import CheckedTask, TreeBackend, task

from treeagent import (
    Agent,
    Backend,
    CapabilityError,
    Checker,
    ConfigError,
    Explorer,
    InputError,
    Result,
    Search,
    Thought,
    ranked,
)
from treeagent.strategies.bfs import BFS


def test_what_cannot_work_is_refused_before_the_first_request() -> None:
    """Capabilities, prompts, inputs and options are checked first; nothing has been asked by then."""

    class Mute(TreeBackend):
        capabilities = frozenset({"generate"})

    backend = Mute(TREE)
    with pytest.raises(CapabilityError, match=r"choice.*score"):
        Agent(task(), BFS(), backend=backend, evaluator="choice")
    with pytest.raises(ConfigError, match=r"prompts.sample"):
        Agent(
            task(**{"  sample: \"a child of {{ state }} after {{ steps | join(', ') }}\\n\"\n": ""}),
            BFS(by="sample"),
            backend=backend,
        )
    with pytest.raises(ConfigError, match="uses no evaluator"):
        Agent(task(), "io", backend=backend, options={"evaluator.samples": 3})
    with pytest.raises(ConfigError, match="before the dot"):
        Agent(task(), "bfs", backend=backend, options={"foo.bar": 3})
    with pytest.raises(ConfigError, match="Backend"):
        Agent(task(), "bfs", backend="json:JSONDecoder")
    with pytest.raises(ConfigError, match="cannot import"):
        Agent(task(), ":BFS", backend=backend)
    for wrong in ("", "  \n", "q", "r r"):
        with pytest.raises(InputError, match="name of the root"):
            solve_input(backend, wrong)
    assert not backend.requests


def solve_input(backend: Backend, text: str) -> Result:
    return Agent(task(), BFS(), backend=backend).solve(text)


def test_an_input_that_the_checker_cannot_read_is_an_input_error() -> None:
    """A pattern that lets too much pass leads to no traceback: the checker is asked before anything begins."""

    class Numbers(Checker):
        def key(self, state: str) -> str:
            return str(int(state))

    checked = CheckedTask(Numbers())
    with pytest.raises(InputError, match="synthetic"):
        Agent(checked, BFS(), backend=TreeBackend(TREE)).solve("r")


def test_ranked_puts_unknown_values_last_and_keeps_the_order_of_equals() -> None:
    """Best value first."""
    from treeagent import Judgement

    values = [None, 0.0, 2.0, None, -1.0, 2.0]
    thoughts = [Thought(i, 0, "", "", "", 1, judgement=Judgement(value)) for i, value in enumerate(values)]
    assert [thought.id for thought in ranked(thoughts)] == [2, 5, 1, 4, 0, 3]


class Plain(Search):
    """Not a dataclass, so it has no options."""

    async def run(self, explorer: Explorer) -> Thought | None:
        """As the test says."""
        return None


def test_a_third_partys_search_needs_no_dataclass() -> None:
    """It works by ``module:Class``, and says so when it is given options."""
    assert Agent(task(), f"{__name__}:Plain", backend=TreeBackend(TREE)).solve("r").answer is None
    with pytest.raises(ConfigError, match="no option 'b'"):
        Agent(task(), f"{__name__}:Plain", backend=TreeBackend(TREE), options={"b": 1})
