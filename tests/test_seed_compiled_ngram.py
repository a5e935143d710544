"""The n-gram drafter in C: what the one in Python drafts, whatever it reads."""

from __future__ import annotations

import gc
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.seed.drafters.tables.compiled_ngram import CompiledNgramDrafter, ngram_drafter
from treeagent.backends.seed.drafters.tables.ngram import NgramDrafter
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.records import SequenceState
from treeagent.request import Sampling

try:
    KERNELS = library.load()
except library.NoKernels as error:
    pytest.skip(str(error), allow_module_level=True)


class Twins:
    """Both drafters, which are told the same and are to draft the same."""

    def __init__(self, contexts: int = 1 << 17) -> None:
        self.drafters = NgramDrafter(contexts), CompiledNgramDrafter(KERNELS, contexts)

    def join(self, prompt: list[int], temperature: float = 0.0, stream: int = 0, limit: int = 100_000) -> SequenceState:
        """A row whose prompt both have read."""
        row = SequenceState(list(prompt), len(prompt), Sampling(temperature=temperature), stream, limit)
        for drafter in self.drafters:
            drafter.observe(row, 0)
        return row

    def commit(self, row: SequenceState, tokens: list[int]) -> None:
        """Tokens of one pass."""
        start = len(row.tokens)
        row.tokens += tokens
        for drafter in self.drafters:
            drafter.observe(row, start)

    def forget(self, row: SequenceState) -> None:
        """The row has ended."""
        for drafter in self.drafters:
            drafter.forget(row)

    def compare(self, rows: list[SequenceState], floor: float, depth: int) -> int:
        """Nodes of the drafts, which are equal in every bit."""
        reference, compiled = (drafter.propose(rows, floor, depth) for drafter in self.drafters)
        assert list(compiled) == list(reference)
        assert len(self.drafters[0]) == len(self.drafters[1])
        return sum(map(len, reference))


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=12)
steps = st.lists(st.tuples(st.integers(0, 3), tokens, st.booleans()), max_size=25)


@given(
    st.lists(st.tuples(tokens, st.sampled_from([0.0, 0.8])), min_size=1, max_size=4),
    steps,
    st.floats(0, 1.05),
    st.integers(0, 20),
    st.sampled_from([7, 60, 1 << 17]),
)
@settings(max_examples=60, deadline=None)
def test_drafts_are_those_of_the_reference(prompts, steps, floor, depth, contexts):
    """Rows that join, get tokens with and without drafts, end and join again: every draft is equal, bit for bit."""
    twins = Twins(contexts)
    rows = [twins.join(prompt, temperature, stream=i << 33) for i, (prompt, temperature) in enumerate(prompts)]
    for number, new, again in steps:
        which = number % len(rows)
        twins.compare(rows, floor, depth)
        twins.commit(rows[which], new)
        if again:
            old = rows[which]
            twins.forget(old)
            rows[which] = twins.join(old.tokens, old.sampling.temperature, old.stream, limit=len(new))
    twins.compare(rows, floor, depth)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_long_texts_are_drafted_alike(temperature):
    """Thousands of tokens, of which many come as drafted, teach both the same weights and frequencies."""
    twins, source, nodes = Twins(contexts=3000), random.Random(5), 0
    words = [[source.randrange(200) for _ in range(source.randrange(2, 9))] for _ in range(40)]
    for stream in range(12):
        row = twins.join(source.choice(words) * 3, temperature, stream)
        for _ in range(40):
            nodes += twins.compare([row], source.choice([0.02, 0.2, 0.5]), source.choice([1, 4, 16]))
            word = source.choice(words)
            twins.commit(row, word[: source.randrange(1, len(word) + 1)])
        twins.forget(row)
    assert nodes > 1000


def test_texts_of_earlier_runs_are_learned_alike():
    """Both are warmed by the same text, which later ones may begin with."""
    twins, text = Twins(), [3, 1, 4, 1, 5, 9, 2, 6] * 3
    for drafter in twins.drafters:
        assert drafter.warm(text)
    assert twins.compare([twins.join(text[:9])], 0.02, 8) > 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_closed_drafters_begin_alike(temperature):
    """What the weights and frequencies have learned is dropped with the tables."""
    twins, text = Twins(), [3, 1, 4, 1, 5, 9, 2, 6]
    row = twins.join(text * 3, temperature)
    for _ in range(20):
        twins.commit(row, text)
    for drafter in twins.drafters:
        drafter.close()
    assert twins.compare([twins.join(text * 3, temperature)], 0.02, 8) > 0


def test_a_changed_reference_is_noticed(monkeypatch):
    """The comparison fails where the reference learns at another rate."""
    monkeypatch.setattr("treeagent.backends.seed.drafters.tables.ngram_mixture.RATE", 0.016)
    with pytest.raises(AssertionError):
        test_long_texts_are_drafted_alike(0.0)


def test_closing_forgets_everything_and_memory_is_given_back():
    """A closed table drafts nothing and can be used again; dropped tables do not keep their memory."""
    drafter = CompiledNgramDrafter(KERNELS)
    row = SequenceState([1, 2, 3] * 5, 3, Sampling(temperature=0.0), 0, 100)
    drafter.observe(row, 0)
    assert drafter.propose([row], 0.02, 4)[0]
    drafter.close()
    assert (len(drafter), len(drafter.propose([row], 0.02, 4)[0])) == (0, 0)
    drafter.observe(row, 0)
    assert len(drafter) > 0
    freed = drafter._free
    del drafter
    gc.collect()
    assert not freed.alive


def test_without_kernels_the_reference_drafts(monkeypatch):
    """The switch that turns the kernels off also chooses the drafter in Python."""
    assert isinstance(ngram_drafter(), CompiledNgramDrafter)
    monkeypatch.setenv(library.SWITCH, "off")
    assert isinstance(ngram_drafter(), NgramDrafter)
