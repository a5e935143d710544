"""Whatever is drafted, batched, shared or evicted, a text is the one that naive decoding gives, token for token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from draft_bench import Bench, draft_with_the_target
from draft_trees import Trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seed_tools import FAMILIES, FEW, MIX, PROMPTS, ask, idle, request, told

from treeagent.backends.seed.executor import forward_batch as forest
from treeagent.backends.seed.executor import model_runner as runner
from treeagent.backends.seed.kv_cache import radix_tree as prefixes
from treeagent.backends.seed.speculation import gate

POLICIES = ("rounds", "fcfs", "serial")
DRAFTERS = (
    *(
        "none",
        "ngram",
        "recycling",
        "stand",
        "suffix",
        "merged",
        "model",
        "ngram+model",
        "merged+model",
        "rsd-c:2x2",
        "rsd-s:3x2",
        "ngram+dynamic",
    ),
    *("stand+dynamic", "trees"),
)

Open = Callable[..., Bench]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Engines by family and dtype, each loaded once."""
    known: dict[tuple[str, str], Bench] = {}

    def open_bench(family: str, dtype: str = "float64") -> Bench:
        if (family, dtype) not in known:
            known[family, dtype] = Bench.of(tmp_path_factory.mktemp(f"{family}-{dtype}"), family, dtype)
        return known[family, dtype]

    return open_bench


def drafter(bench: Bench, how: str, **options: float) -> str | Trees:
    """The name of a registered drafter, or random trees around the right tokens."""
    return Trees(bench.naive.truth([*MIX, *FEW]), **{"hit": 0.7, **options}) if how == "trees" else how  # type: ignore[arg-type]


@pytest.mark.sampled(11)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", DRAFTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_those_of_naive_decoding(bench: Open, family: str, how: str, policy: str) -> None:
    """In float64, for every family, drafter and policy, in one mixed batch."""
    one = bench(family)
    mixed = MIX if policy == "rounds" else FEW
    backend = one.set_up(drafter(one, how), policy, draft_tokens=8)
    before = one.scheduler.counters.copy()
    for _ in range(2 if how in ("recycling", "stand") else 1):  # these learn nothing from prompts
        assert told(ask(backend, *mixed)) == one.naive.expected(mixed)
    one.settle()
    counters = one.scheduler.counters.since(before)
    assert (counters.drafted > 0) == (how != "none")
    if how in ("model", "rsd-c:2x2", "rsd-s:3x2", "trees"):
        assert 0 < counters.accepted < counters.drafted


@pytest.mark.sampled(11)
@pytest.mark.parametrize("how", DRAFTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_those_of_naive_decoding_in_float32(bench: Open, family: str, how: str) -> None:
    """In float32 too, where weights are packed."""
    one = bench(family, "float32")
    backend = one.set_up(drafter(one, how))
    assert told(ask(backend, *MIX)) == one.naive.expected(MIX)
    one.settle()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", DRAFTERS)
def test_drafts_by_measured_times(bench: Open, monkeypatch: pytest.MonkeyPatch, how: str, policy: str) -> None:
    """The engine's own choice of draft sizes changes no text."""
    monkeypatch.setattr(gate.Gate, "learn", lambda *args: None)  # it goes by the clock
    one = bench("llama")
    mixed = MIX if policy == "rounds" else FEW
    backend = one.set_up(drafter(one, how), policy, draft_tokens=None)
    before = one.scheduler.counters.copy()
    for _ in range(2):  # what was seen once is drafted by tables too
        assert told(ask(backend, *mixed)) == one.naive.expected(mixed)
    one.settle()
    assert (one.scheduler.counters.since(before).accepted > 0) == (how != "none")


@pytest.fixture
def evicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many slots each eviction freed."""
    freed: list[int] = []
    evict = prefixes.RadixCache.evict

    def spy(self: prefixes.RadixCache, count: int) -> int:
        freed.append(evict(self, count))
        return freed[-1]

    monkeypatch.setattr(prefixes.RadixCache, "evict", spy)
    return freed


@pytest.mark.sampled(11)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", DRAFTERS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_too_little_memory_changes_no_text(bench: Open, evicted: list[int], family: str, how: str, policy: str) -> None:
    """With room for little more than the longest text, branches are preempted, evicted and computed again."""
    one = bench(family)
    mixed = MIX if policy == "rounds" else FEW
    longest = max(len(one.naive.text.prompt(asked.prompt)) + asked.sampling.max_tokens for asked in mixed)
    backend = one.set_up(drafter(one, how), policy, slots=longest + 3, chunk=7)
    before = one.scheduler.counters.copy()
    assert told(ask(backend, *mixed)) == one.naive.expected(mixed)
    one.settle()
    assert sum(evicted) > 0
    assert (one.scheduler.counters.since(before).preempted > 0) == (policy != "serial")
    assert one.scheduler.runner.forest.pool.peak <= longest + 3


def test_the_smallest_memory_that_a_request_fits_in_suffices(bench: Open) -> None:
    """Not a slot more than prompt and text is needed, whatever is drafted."""
    one = bench("llama")
    asked = request(0, 1, 2, temperature=0.2, max_tokens=14)
    need = len(one.naive.text.prompt(asked.prompt)) + 14
    for how in DRAFTERS:
        backend = one.set_up(drafter(one, how), slots=need)
        assert told(ask(backend, asked)) == one.naive.expected([asked])
        one.settle()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["trees", "none"])
def test_attending_to_a_shared_prefix_once_changes_no_text(
    bench: Open, monkeypatch: pytest.MonkeyPatch, family: str, how: str
) -> None:
    """With cascade attention wherever two branches share anything."""
    shared: list[int] = []
    make_plan = runner.make_forward_batch

    def spy(*args: object) -> forest.ForwardBatch:
        plan = make_plan(*args)  # type: ignore[arg-type]
        shared.append(len(plan.shared))
        return plan

    monkeypatch.setattr(runner, "make_forward_batch", spy)
    monkeypatch.setattr(forest, "SHARED_LEAST", 1)
    one = bench(family)
    for slots in (10_000, 200):
        backend = one.set_up(drafter(one, how), slots=slots, chunk=11)
        assert told(ask(backend, *MIX)) == one.naive.expected(MIX)
        one.settle()
    assert max(shared) > (how == "none")  # with random drafts it depends on who finishes when


@pytest.mark.sampled(5)
@pytest.mark.parametrize("how", DRAFTERS)
def test_company_and_order_change_no_text(bench: Open, how: str) -> None:
    """Requests one by one, backwards, a few at a time or with few rows: always the same texts."""
    one = bench("qwen3")
    backend = one.set_up(drafter(one, how))
    expected = one.naive.expected(MIX)
    assert [told(ask(backend, asked))[0] for asked in MIX] == expected
    one.set_up(drafter(one, how, seed=1))
    assert told(ask(backend, *MIX[::-1]))[::-1] == expected
    one.set_up(drafter(one, how, seed=2))
    assert told(ask(backend, *MIX[::2])) == expected[::2]  # what these leave in the forest serves the next
    assert told(ask(backend, *MIX)) == expected
    one.set_up(drafter(one, how, seed=3))
    few = pytest.MonkeyPatch()
    few.setattr(one.scheduler.jobs, "max_rows", 3)
    try:
        assert told(ask(backend, *MIX)) == expected
        idle(backend)
    finally:
        few.undo()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_that_drafts_for_itself_is_always_right(bench: Open, dtype: str) -> None:
    """Every draft is accepted whole, at any temperature: no hole in what the draft model has read, no other noise."""
    one = bench("llama", dtype)
    requests = [request(place % 3, place, 2, temperature=place / 3, max_tokens=25) for place in range(4)]
    backend = one.set_up("model", draft_tokens=4)
    draft_with_the_target(one)
    before = one.scheduler.counters.copy()
    assert told(ask(backend, *requests)) == one.naive.expected(requests)
    idle(backend)
    figures = one.scheduler.counters.since(before).figures()
    assert figures["acceptance"] > 0.95  # but for what lies behind an end of text
    assert figures["block_efficiency"] > 4


@pytest.mark.parametrize("policy", POLICIES)
def test_a_drafter_that_is_never_right_costs_no_token(bench: Open, policy: str) -> None:
    """Nothing is accepted and nothing is wrong."""
    one = bench("llama")
    backend = one.set_up(drafter(one, "trees", hit=0.0), policy, draft_tokens=12)
    before = one.scheduler.counters.copy()
    assert told(ask(backend, *MIX)) == one.naive.expected(MIX)
    one.settle()
    counters = one.scheduler.counters.since(before)
    assert counters.accepted == 0 < counters.drafted


@pytest.mark.parametrize("policy", POLICIES)
def test_texts_end_inside_drafts(bench: Open, policy: str) -> None:
    """An end of text, a stop string or the token limit inside an accepted draft cuts the text exactly there."""
    one = bench("llama")
    requests = [
        request(place % 3, place, n, temperature=1.0, max_tokens=limit, stop=stop)
        for place, (limit, n, stop) in enumerate([(1, 1, ()), (2, 2, ()), (24, 6, ()), (24, 4, tuple("abcdeost"))])
    ]
    truth = one.naive.truth(requests)
    backend = one.set_up(Trees(truth, hit=1.0, over=3), policy, draft_tokens=20)
    assert told(ask(backend, *requests)) == one.naive.expected(requests)
    one.settle()
    assert {tokens[-1] == 0 for tokens in truth.values()} == {True, False}
    assert {finish for reply in one.naive.expected(requests[3:]) for _, finish in reply} >= {"stop"}


@pytest.fixture(scope="module")
def free(bench: Open) -> Bench:
    return bench("llama")


SETTINGS = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 12)},
    optional={
        "temperature": st.sampled_from([0.2, 0.7, 1.0, 2.0]),
        "top_k": st.integers(1, 30),
        "top_p": st.floats(0.1, 1.0),
        "min_p": st.floats(0.0, 0.3),
        "stop": st.lists(st.sampled_from(["a", "e", "the", "\n", "4"]), max_size=2).map(tuple),
    },
)
ASKED = st.builds(
    lambda prompt, place, n, chosen: request(prompt, place, n, **chosen),
    st.integers(0, len(PROMPTS) - 1),
    st.integers(0, 3),
    st.integers(1, 3),
    SETTINGS,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.lists(ASKED, min_size=1, max_size=5),
    policy=st.sampled_from(POLICIES),
    how=st.sampled_from(DRAFTERS),
    seed=st.integers(0, 99),
    nodes=st.one_of(st.none(), st.integers(1, 15)),
    slots=st.integers(70, 200),
    chunk=st.integers(1, 60),
)
def test_any_mixture(
    free: Bench, asked: list, policy: str, how: str, seed: int, nodes: int | None, slots: int, chunk: int
) -> None:
    """Any requests under any options give the naive texts, and leave nothing behind."""
    trees = Trees(free.naive.truth(asked), hit=0.8, seed=seed)
    backend = free.set_up(trees if how == "trees" else how, policy, draft_tokens=nodes, slots=slots, chunk=chunk)
    assert told(ask(backend, *asked)) == free.naive.expected(asked)
    free.settle()
