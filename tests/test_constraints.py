"""Constraints of completions: the record, what contradicts it, and who refuses it."""

from __future__ import annotations

import asyncio

import pytest

from treeagent.backends.seed.backend import SeedBackend
from treeagent.constraint import Constraint
from treeagent.errors import BackendError, ConfigError
from treeagent.request import Key, Request, Sampling

YES_NO = Constraint.of_choices(["yes", "no"])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("grammar", "a"), ("choices", "[]"), ("choices", '["a", ""]'), ("choices", "yes"), ("json_schema", "[1]")],
)
def test_a_constraint_that_is_none_is_refused(kind: str, text: str) -> None:
    """A kind or a text that says nothing is one clear error."""
    with pytest.raises(ConfigError):
        Constraint(kind, text)  # type: ignore[arg-type]


def test_what_contradicts_a_constraint_is_named() -> None:
    """Beams, and a stop string that every choice contains, contradict a constraint; a stop string of some does not."""
    assert Sampling(constraint=YES_NO).contradiction() is None
    assert Sampling(constraint=YES_NO, stop=("es",)).contradiction() is None
    assert Sampling(constraint=Constraint.of_choices(["a.", "b."]), stop=(".",)).contradiction() is not None
    assert Sampling(constraint=YES_NO, num_beams=2).contradiction() is not None


def test_a_constraint_is_part_of_the_id() -> None:
    """Requests with and without a constraint have different ids, and so have two constraints."""
    samplings = (Sampling(), Sampling(constraint=YES_NO), Sampling(constraint=Constraint("regex", "yes|no")))
    assert len({Request("p", Key(0, "value", "0"), sampling).id for sampling in samplings}) == 3


def test_the_engine_refuses_a_constraint() -> None:
    """A backend without the capability refuses a constrained request and does not sample freely."""
    backend = SeedBackend("mini")
    request = Request("Input: 1 2 3 4\n", Key(0, "value", "0"), Sampling(max_tokens=2, constraint=YES_NO))

    async def ask() -> None:
        try:
            await backend.generate(request)
        finally:
            await backend.aclose()

    assert "constraints" not in backend.capabilities
    with pytest.raises(BackendError, match="constraint"):
        asyncio.run(ask())
