"""Constraints of completions: the record, what contradicts it, and who refuses it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.constraint import Constraint
from treeagent.errors import BackendError, ConfigError
from treeagent.reply import Reply
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


def _replies(*samplings: Sampling, n: int = 8) -> list[Reply]:
    """The replies of backend transformers to a prompt, one for each sampling, awaited together."""
    backend = TransformersBackend("mini")

    async def ask() -> list[Reply]:
        requests = [Request("Input: 1 2 3 4\n", Key(0, "value", "0"), sampling, n) for sampling in samplings]
        try:
            return list(await asyncio.gather(*map(backend.generate, requests)))
        finally:
            await backend.aclose()

    return asyncio.run(ask())


def test_constrained_texts_are_whole_and_others_stay() -> None:
    """Each text is one that its constraint allows, and a free request of the same batch keeps its tokens."""
    regex, choices = r"\d+ [-+*/] \d+ = \d{1,2}\n", ["a", "ab", "c/d \n.", "\u00e9*"]
    schema = json.dumps({"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]})
    free = Sampling(temperature=1.0, max_tokens=12)
    constraints = (Constraint("regex", regex), Constraint.of_choices(choices), Constraint("json_schema", schema))
    samplings = [Sampling(temperature=2.0, max_tokens=60, constraint=each) for each in constraints]
    (alone,) = _replies(free)
    together, lines, words, objects = _replies(free, *samplings)
    assert [each.tokens for each in together.completions] == [each.tokens for each in alone.completions]
    ended = [each for each in lines.completions if each.finish == "stop"]
    assert ended
    assert all(re.fullmatch(regex, each.text) for each in ended)
    assert all(each.text in choices for each in words.completions)
    assert all(json.loads(e.text)["x"] in (1, 2) for e in objects.completions if e.finish == "stop")


@pytest.mark.parametrize("regex", [r"[^\s\S]", "(a", "a(?=b)"])
def test_a_constraint_without_texts_is_refused_alone(regex: str) -> None:
    """A regular expression that matches nothing or is not understood fails its request in one line."""
    with pytest.raises(BackendError, match="constraint") as error:
        _replies(Sampling(constraint=Constraint("regex", regex)))
    assert "\n" not in str(error.value)
