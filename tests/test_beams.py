"""Hypothesis sampling and beam search: the joint law by enumeration, and plain decoding against the naive way."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from beam_tools import BEAMS, enumerated, expected, picks, same, sample, tabulated_beams
from device import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from seed_tools import Naive, ask, request
from toy_laws import CUT, GUESSED, NUCLEUS, SCALE, TARGET, WARM, p_value

from treeagent.backends.local.beam_search import BeamSearch, Hypothesis, Joint, Pick, best
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import BackendError
from treeagent.reply import Completion, Reply, Usage
from treeagent.request import Key, Request, Sampling
from treeagent.runtime.journal import completion_event, reply_from


@pytest.fixture(scope="module")
def plain(pair: Path) -> TransformersBackend:
    return TransformersBackend(str(pair / "model"), device=DEVICE, dtype="float64")


def test_plain_beams_are_the_naive_ones(plain: TransformersBackend, naive: Naive) -> None:
    """Batched with reordered caches or in small batches, with ordinary requests between; several ways of ending."""
    mixed = [*BEAMS[:4], request(0, 1, 2, temperature=0.2, max_tokens=14), *BEAMS[4:]]
    wanted = expected(naive, mixed)
    assert same(ask(plain, *mixed), wanted)
    small = TransformersBackend(plain.model, device=DEVICE, dtype="float64", max_batch=4)
    assert same(ask(small, *BEAMS), expected(naive, BEAMS))
    assert {made.finish for reply in wanted for made in reply} == {"stop", "length"}


@pytest.mark.exhaustive
def test_plain_beams_in_float32(pair: Path) -> None:
    """As in float64."""
    backend = TransformersBackend(str(pair / "model"), device=DEVICE, dtype="float32")
    assert same(ask(backend, *BEAMS), expected(Naive(str(pair / "model"), "float32"), BEAMS))


def test_one_beam_is_plain_sampling(plain: TransformersBackend) -> None:
    """``num_beams=1`` gives the texts of requests without beams, drawn token by token, with their log-probability."""
    asked = request(0, 1, 2, temperature=0.7, max_tokens=8)
    assert asked.sampling.num_beams == 1
    [reply] = ask(plain, asked)
    assert all(made.logprob is not None and made.logprob < 0 for made in reply.completions)


def test_tokens_of_all_beams_are_counted(plain: TransformersBackend) -> None:
    """Every distinct beam of a step that got a token counts: at least the chosen text's, at most those of all."""
    [reply] = ask(plain, request(1, 31, num_beams=4, max_tokens=6))
    assert reply.completions[0].tokens is not None
    assert len(reply.completions[0].tokens) < reply.usage.completion_tokens <= 4 * 6


def test_the_id_of_a_request_without_beams_is_what_it_was() -> None:
    """Journals written before there were beams replay; the number of beams is part of other ids."""
    asked = Request("a", Key(1, "propose", "0"), Sampling(temperature=0.5))
    assert asked.id == "d7057f93bf333d52f73846de"
    ids = {replace(asked, sampling=replace(asked.sampling, num_beams=n)).id for n in (1, 2, 3)}
    assert len(ids) == 3


def test_a_score_is_kept_by_a_journal_and_not_compared() -> None:
    """It comes back from the event; where there is none, none is written; rounding makes no two answers differ."""
    plain, scored = Completion("a", (1,)), Completion("a", (1,), "stop", -1.5)
    assert plain == scored
    event = completion_event("x", "propose", "p", Reply((plain, scored), Usage()))
    assert ["logprob" in item for item in event.data["completions"]] == [False, True]
    assert [made.logprob for made in reply_from(event.data).completions] == [None, -1.5]


@pytest.mark.parametrize("number", [0, -1, 65])
def test_a_senseless_number_of_beams_is_refused(plain: TransformersBackend, number: int) -> None:
    """With what was expected."""
    [error] = ask(plain, request(0, 1, num_beams=number, max_tokens=3), errors=True)
    assert isinstance(error, BackendError)
    assert f"num_beams must be between 1 and 64, not {number}" in str(error)


RUNS = 5000 * SCALE
"""Of a test of a law."""


@settings(deadline=None)
@given(
    beams=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=4),
    setting=st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
        top_k=st.none() | st.integers(1, 9),
        top_p=st.none() | st.floats(0.1, 1.0),
        min_p=st.none() | st.floats(0.0, 0.3),
        num_beams=st.integers(2, 6),
    ),
    size=st.integers(2, 40),
    seed=st.integers(0, 99),
)
def test_a_step_is_what_brute_force_gives(
    beams: list[tuple[int, bool]], setting: Sampling, size: int, seed: int
) -> None:
    """For any beams, equal and finished ones among them, and any warpers; ties go to the first beam, then token."""
    random = np.random.default_rng(seed)
    made, rows, logits = [], [], []
    for name, finished in beams:
        score, row = -float(name), np.random.default_rng(name).integers(-4, 4, size) / 2.0
        beam = Hypothesis(sample(setting), (name, int(finished)), score)
        if finished:
            beam.sample.completion = Completion("")
        made.append(beam)
        logits.append(None if finished else row)
        rows.append(np.array([score]) if finished else score + row - np.logaddexp.reduce(row))
    stream = int(random.integers(0, 2**63))
    found = Joint(made, logits, setting).next(stream, seed, setting.num_beams)
    assert [(b, v or 0) for b, v in found] == picks(rows, setting, stream, seed)
    assert all((v is None) == made[b].finished for b, v in found)


def walk(setting: Sampling, stream: int, steps: int, eos: int, limit: int) -> tuple:
    """The beams of a run after some steps."""
    run = BeamSearch(sample(replace(setting, num_beams=2), stream, limit), frozenset({eos}))
    for position in range(steps):
        if run.sample.completion is not None:
            break
        logits = [None if beam.finished else TARGET[position, beam.raw[-1] if beam.raw else 0] for beam in run.beams]
        joint = Joint(run.beams, logits, run.sample.sampling)
        run.advance(joint.extended(joint.next(stream, run.position, run.width), run.eos))
    return tuple(beam.raw for beam in run.beams)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("setting", [WARM, CUT, NUCLEUS], ids=["warm", "cut", "nucleus"])
@pytest.mark.parametrize("limit", [2, 4], ids=["limit", "no limit"])
def test_the_beams_of_a_run_follow_their_joint_law(setting: Sampling, limit: int) -> None:
    """Both beams after three steps, with ends of text: a chi-square test against enumeration."""
    law = enumerated(setting, 3, 4, limit)
    names = {state: i for i, state in enumerate(law)}
    with tabulated_beams(RUNS, 2):
        drawn = [names[walk(setting, stream, 3, 4, limit)] for stream in range(RUNS)]
    assert sum(law.values()) == pytest.approx(1.0)
    assert p_value(np.array(drawn)[:, None], np.array(list(law.values()))) > 1e-3


def test_a_wrong_law_is_found_out() -> None:
    """The same test against the law of another temperature."""
    law = enumerated(replace(WARM, temperature=0.8), 2, 4, 4)
    names = {state: i for i, state in enumerate(law)}
    with tabulated_beams(RUNS, 2):
        drawn = [names[walk(WARM, stream, 2, 4, 4)] for stream in range(RUNS)]
    assert p_value(np.array(drawn)[:, None], np.array(list(law.values()))) < 1e-6


def test_the_best_beam_is_the_answer_and_the_first_of_equals() -> None:
    """By summed log-probability."""
    setting = Sampling(num_beams=3)
    beams = [Hypothesis(sample(setting), (i,), score) for i, score in enumerate([-2.0, -1.0, -1.0])]
    assert best(beams).raw == (1,)


def test_equal_beams_are_one_object() -> None:
    """A beam that is drawn twice is worked out once."""
    start = Hypothesis(sample(WARM))
    joint = Joint([start], [GUESSED[0, 0]], WARM)
    first, second, third = joint.extended([Pick(0, 1), Pick(0, 1), Pick(0, 2)], frozenset())
    assert first is second
    assert first is not third
    assert first.score == joint.score(Pick(0, 1))


def test_a_task_with_beams_needs_a_backend_that_has_them(tmp_path: Path) -> None:
    """Told before the first request, not ignored."""
    from helpers import Oracle

    from treeagent import Agent, Task
    from treeagent.errors import CapabilityError

    source = Task.load("game24").path
    assert source is not None
    text = source.read_text()
    assert "sampling:\n" in text
    changed = tmp_path / "beams.yaml"
    changed.write_text(re.sub(r"(?m)^(  propose: \{)", r"\1num_beams: 3, ", text, count=1))
    assert Task.load(changed).sampling("propose")[0].num_beams == 3
    with pytest.raises(CapabilityError, match=r"num_beams of the task .* needs beams"):
        Agent(changed, backend=Oracle())
    Agent(changed, model="mini")  # has them
