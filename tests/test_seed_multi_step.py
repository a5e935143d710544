"""Several passes in one call: the texts are those of one pass at a time, and what is counted stays true."""

from __future__ import annotations

import asyncio
import ctypes
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from seed_tools import FAMILIES, LIMIT, MIX, FixedCost, Naive, ask, clean, idle, request, save_model, scheduler, told

from treeagent.backends.sampling.philox import gumbel
from treeagent.backends.sampling.sampler import choose_rows
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.executor import compiled_decoder, profiler
from treeagent.backends.seed.executor.compiled_steps import EndTokens, StepOutput, StepRow
from treeagent.backends.seed.executor.cost_table import CostTable
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.scheduler import multi_step
from treeagent.request import Request, Sampling

try:
    KERNELS = library.load().instructions() > 0
except library.NoKernels:
    KERNELS = False
pytestmark = pytest.mark.skipif(not KERNELS, reason="no compiled kernels on this machine")

PLAIN = [
    request(0, 0, 2, temperature=0.0, max_tokens=18),
    request(0, 1, 2, temperature=0.7, max_tokens=14),
    request(1, 2, 3, temperature=1.3, max_tokens=16),
    request(3, 5, 2, temperature=1.0, stop=tuple("abcdeost"), max_tokens=16),
    request(0, 6, max_tokens=1),
    request(3, 7, stop=("b", "é", "24"), max_tokens=12),
    request(2, 8, 2, temperature=0.7, max_tokens=5),
]
"""Prompts that are equal, share beginnings or have nothing in common, without cuts; stop strings of all kinds."""


class Made(NamedTuple):
    """An engine whose passes are said to be short, and its model decoded naively."""

    backend: SeedBackend
    naive: Naive


def open_engine(folder: str, **options: Any) -> SeedBackend:
    """One that makes several passes in a call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiler, "profile_cost", lambda runner, dtype: FixedCost(CostTable((1, 256), (1e-4, 1e-4))))
        backend = SeedBackend(folder, device="cpu", **{"dtype": "float32", "drafter": "none", **options})
        backend.load()
    return backend


@pytest.fixture(scope="module", params=["llama", "llama-mha", "qwen3"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of several families."""
    folder = save_model(tmp_path_factory.mktemp("steps"), FAMILIES[request.param])
    return Made(open_engine(folder), Naive(folder, "float32"))


@pytest.fixture(autouse=True)
def _mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most rounds make several passes, whatever they take."""
    chance = random.Random(5)
    monkeypatch.setattr(multi_step.StepChoice, "take", lambda self: chance.random() < 0.8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[StepOutput]:
    """What every call of several passes gave."""
    made: list[StepOutput] = []
    take = compiled_decoder.CompiledDecoder.take_steps

    def spy(self: compiled_decoder.CompiledDecoder, rows: Sequence[StepRow], pool: Any) -> StepOutput:
        made.append(take(self, rows, pool))
        return made[-1]

    monkeypatch.setattr(compiled_decoder.CompiledDecoder, "take_steps", spy)
    return made


def test_texts_are_those_of_naive_decoding(made: Made, calls: list[StepOutput]) -> None:
    """Greedy and sampled rows beside one another, stopped at strings that begin anywhere in a call."""
    backend, naive = made
    backend.reset()
    before, listener = scheduler(backend).counters.copy(), backend.rounds()
    assert told(ask(backend, *PLAIN)) == naive.expected(PLAIN)
    clean(backend)
    counters, rounds = scheduler(backend).counters.since(before), listener()
    raw = [naive.sample(asked, i).raw for asked in PLAIN for i in range(asked.n)]
    assert calls
    assert counters.tokens == sum(map(len, raw))
    assert counters.rounds == len(rounds) >= max(map(len, raw))
    assert counters.row_passes == sum(one.rows for one in rounds) >= counters.tokens
    assert counters.tokens == sum(one.tokens for one in rounds)
    assert sum(len(new.tokens) for call in calls for new in call.rows) <= counters.row_passes


def test_rows_with_cuts_take_one_token_a_pass(made: Made, calls: list[StepOutput]) -> None:
    """Their texts, and those beside them, are naive decoding's; what is left of others takes several."""
    backend, naive = made
    assert told(ask(backend, *MIX)) == naive.expected(MIX)
    clean(backend)


def test_log_probabilities_are_those_of_one_forward(made: Made) -> None:
    """The sums over all tokens drawn."""
    backend, naive = made
    for asked, reply in zip(PLAIN, ask(backend, *PLAIN), strict=True):
        for i, completion in enumerate(reply.completions):
            assert completion.logprob == pytest.approx(naive.logprob(asked, naive.sample(asked, i).raw), abs=1e-3)


def test_a_wrong_position_of_the_noise_is_seen(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison fails where a row's noise is that of the token after."""
    backend, naive = made
    take = compiled_decoder.CompiledDecoder.take_steps

    def late(self: compiled_decoder.CompiledDecoder, rows: Sequence[StepRow], pool: Any) -> StepOutput:
        wrong = [StepRow(r.tokens, r.context, r.slots, r.temperature, r.stream, r.position + 1, r.ends) for r in rows]
        return take(self, wrong, pool)

    monkeypatch.setattr(compiled_decoder.CompiledDecoder, "take_steps", late)
    assert told(ask(backend, *PLAIN)) != naive.expected(PLAIN)


def forest(seed: int) -> list[Request]:
    """Requests of all temperatures over the same prompts, with stop strings that occur in texts."""
    chance = random.Random(seed)
    stops = ["a", "b", "24", "\n", "1", " ", "é", "ab", "4 5", "step"]
    return [
        request(
            chance.randrange(4),
            1000 * seed + place,
            chance.randint(1, 3),
            temperature=chance.choice([0.0, 0.7, 1.3]),
            max_tokens=chance.randint(1, 24),
            stop=tuple(chance.sample(stops, chance.randrange(3))),
        )
        for place in range(6)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_random_forests(made: Made, seed: int) -> None:
    """Whatever stops them, texts are naive decoding's, and no slot is lost."""
    backend, naive = made
    asked = forest(seed)
    assert told(ask(backend, *asked)) == naive.expected(asked)
    clean(backend)


@pytest.fixture(scope="module")
def tight(made: Made) -> SeedBackend:
    """An engine with memory for a few texts."""
    return open_engine(made.naive.folder, kv_memory=0.06)


def test_tight_memory(made: Made, tight: SeedBackend, calls: list[StepOutput]) -> None:
    """Rows that are preempted, and calls that find no room, change no text."""
    for seed in range(4, 7):
        asked = forest(seed)
        assert told(ask(tight, *asked)) == made.naive.expected(asked)
        clean(tight)
    assert calls


@pytest.mark.parametrize("at", range(1, 7))
def test_requests_cancelled_at_any_round(made: Made, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The others' texts stay, and nothing of the cancelled ones does."""
    backend, naive = made
    backend.reset()
    asked = forest(7)
    sort, rounds = scheduler(backend).jobs.sort, []

    async def run() -> list[Any]:
        tasks = [asyncio.ensure_future(backend.generate(one)) for one in asked]
        loop = asyncio.get_running_loop()

        def counting() -> None:
            rounds.append(1)
            if len(rounds) == at:
                loop.call_soon_threadsafe(tasks[0].cancel)
            sort()

        monkeypatch.setattr(scheduler(backend).jobs, "sort", counting)
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LIMIT)

    gone, *kept = asyncio.run(run())
    idle(backend)
    clean(backend)
    assert isinstance(gone, asyncio.CancelledError) or told([gone]) == naive.expected(asked[:1])
    assert told(kept) == naive.expected(asked[1:])


def test_early_rows_beside_others(made: Made, calls: list[StepOutput]) -> None:
    """Requests that may not be wanted take part in calls, and their texts are the same."""
    backend, naive = made
    backend.reset()
    asked = forest(8)
    before = scheduler(backend).counters.copy()
    early = [replace(one, priority=0.9) for one in asked[:3]]
    assert told(ask(backend, *early, *asked[3:])) == naive.expected(asked)
    clean(backend)
    counters = scheduler(backend).counters.since(before)
    assert calls
    assert counters.row_passes >= counters.early_rows > 0


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_other_numbers(made: Made, calls: list[StepOutput], monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Where heads are integers, the texts are those of one pass at a time; embeddings in bfloat16 are not read."""
    if dtype == "int8" and library.load().instructions() < 2:
        pytest.skip("no 8-bit products on this machine")
    engine = open_engine(made.naive.folder, dtype=dtype)
    several = told(ask(engine, *PLAIN))
    assert bool(calls) == (dtype == "int8")
    engine.reset()
    monkeypatch.setattr(multi_step.StepChoice, "take", lambda self: False)
    assert told(ask(engine, *PLAIN)) == several


def drawn(logits: torch.Tensor, temperatures: Sequence[float], streams: Sequence[int], positions: Sequence[int]) -> Any:
    """What the kernel draws from each row of logits (R, V)."""
    pointer, count, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    types = (pointer, size, count, pointer, pointer, pointer, count, pointer)
    draw = library.function(library.load(), "draw_tokens", None, *types)
    arrays = np.array(temperatures), np.array(streams, dtype=np.uint64), np.array(positions, dtype=np.int32)
    found = np.empty(len(logits), dtype=np.int64)
    addresses = [array.ctypes.data for array in arrays]
    draw(logits.data_ptr(), logits.shape[1], len(logits), *addresses, 2, found.ctypes.data)
    return found.tolist()


@pytest.mark.parametrize("size", [1, 5, 64, 1290, 5003])
@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_draws_are_those_of_the_host(size: int, scale: float) -> None:
    """For flat and peaked rows of any length; another position gives other tokens."""
    rows, chance = 40, random.Random(size)
    logits = scale * torch.randn(rows, size, generator=torch.Generator().manual_seed(size))
    logits[::3, 1::7] = -torch.inf
    temperatures = [chance.choice([0.0, 0.3, 0.7, 1.3]) for _ in range(rows)]
    streams, positions = [chance.getrandbits(64) for _ in range(rows)], [chance.randrange(99) for _ in range(rows)]
    samplings = [Sampling(temperature=temperature) for temperature in temperatures]
    expected = choose_rows(logits.numpy(), samplings, streams, positions).tolist()
    assert drawn(logits, temperatures, streams, positions) == expected
    assert size < 64 or drawn(logits, temperatures, streams, [place + 1 for place in positions]) != expected


def test_close_draws_are_left_to_the_host() -> None:
    """Rows without finite logits have no token, and nor do ties that a logarithm's last bit may decide."""
    broken = torch.tensor([[0.0, torch.nan], [torch.inf, 0.0], [-torch.inf, -torch.inf], [1.0, 0.0]])
    assert drawn(broken, [0.7] * 3 + [0.0], [1] * 4, [0] * 4) == [-1, -1, -1, 0]
    noise = gumbel(5, 0, np.arange(2))
    low, high = sorted((0, 1), key=lambda token: noise[token])
    logits = torch.zeros(1, 2)
    logits[0, low] = 1.0  # over the temperature it is what the other's noise has more
    gap = noise[high] - noise[low]
    assert drawn(logits, [1 / gap], [5], [0]) == [-1]
    assert drawn(logits, [1 / (gap + 1e-6)], [5], [0]) == [low]
    assert drawn(logits, [1 / (gap - 1e-6)], [5], [0]) == [high]


def test_ends_are_kept_with_their_lengths() -> None:
    """One after another, and the longest is known."""
    ends = EndTokens([7, 9], [[1, 2, 3], []])
    assert list(ends.flat) in ([1, 7, 1, 9, 3, 1, 2, 3], [1, 9, 1, 7, 3, 1, 2, 3])
    assert ends.longest == 3
