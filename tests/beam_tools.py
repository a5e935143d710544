"""What the tests of beams share: the law by brute force, and beams decoded naively."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from seed_tools import Naive, request
from toy_laws import TARGET

from treeagent.backends.local import beam_search as beams
from treeagent.backends.local.beam_search import WHICH, stream_of
from treeagent.backends.local.detokenizer import decode_after
from treeagent.backends.local.sample import Sample
from treeagent.backends.sampling.philox import RESIDUAL, TEXT, gumbel, gumbel_rows, uniforms
from treeagent.backends.sampling.sampler import choose_rows, warp
from treeagent.reply import Completion, Reply
from treeagent.request import Request, Sampling

BEAMS = [
    request(0, 30, 2, num_beams=3, max_tokens=12),
    request(1, 31, 2, num_beams=4, temperature=0.7, max_tokens=12),
    request(2, 32, num_beams=2, temperature=1.0, top_k=5, max_tokens=9),
    request(2, 33, 2, num_beams=3, temperature=1.0, top_k=30, top_p=0.9, min_p=0.01, max_tokens=10),
    request(3, 34, 2, num_beams=3, temperature=0.7, stop=tuple("abcdeost"), max_tokens=14),
    request(3, 35, num_beams=4, stop=("b", "é", "4"), max_tokens=12),
    request(0, 36, num_beams=5, temperature=0.7, max_tokens=1),
    request(1, 37, 2, num_beams=4, temperature=2.0, max_tokens=12),
]
"""Search and sampling, with warpers, stop strings, ends of text and limits."""


@contextmanager
def tabulated_beams(count: int, width: int) -> Iterator[None]:
    """Noise of the streams 0 .. count - 1, each with so many draws, made at once: the same values in less time."""
    streams = np.array([stream_of(stream, draw) for stream in range(count) for draw in range(width)], dtype=np.uint64)
    place = {int(stream): i for i, stream in enumerate(streams)}
    known: dict[tuple[int, int, int, int], NDArray[np.float64]] = {}

    def table(position: int, block: int, purpose: int, draw: int) -> NDArray[np.float64]:
        """Of all streams (streams, 4)."""
        if (position, block, purpose, draw) not in known:
            where = (np.full(len(streams), number, dtype=np.uint32) for number in (position, block))
            known[position, block, purpose, draw] = -np.log(-np.log(uniforms(streams, *where, purpose, draw)))
        return known[position, block, purpose, draw]

    def some(
        stream: int, position: int, ids: NDArray[np.int64], purpose: int = TEXT, draw: int = 0
    ) -> NDArray[np.float64]:
        blocks = range(int(ids.max()) // 4 + 1)
        rows = [table(position, block, purpose, draw)[place[stream]] for block in blocks]
        return np.concatenate(rows)[ids]

    def chosen(
        rows: NDArray[np.float64],
        samplings: Sequence[Sampling],
        streams: Sequence[int],
        positions: Sequence[int],
        purpose: int = TEXT,
    ) -> NDArray[np.int64]:
        ids = np.arange(rows.shape[1])
        noise = np.stack([some(stream, positions[0], ids, purpose) for stream in streams])
        return (rows / samplings[0].temperature + noise).argmax(axis=1)

    def several(streams: Sequence[int], position: int, count: int, purpose: int, draw: int) -> NDArray[np.float64]:
        return np.stack([some(stream, position, np.arange(count), purpose, draw) for stream in streams])

    rows, setting = np.random.default_rng(0).normal(size=(3, 6)), [Sampling(temperature=0.7)] * 3
    arguments = rows, setting, [int(stream) for stream in streams[:3]], [2, 2, 2], RESIDUAL
    assert np.array_equal(chosen(*arguments), choose_rows(*arguments))
    asked = [int(stream) for stream in streams[:3]], 2, 6, TEXT, WHICH
    assert np.array_equal(several(*asked), gumbel_rows(*asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beams, "gumbel_rows", several)
        patch.setattr(beams, "choose_rows", chosen)
        yield


@dataclass(frozen=True)
class Path:
    """A beam of the naive decoder."""

    ids: tuple[int, ...] = ()
    score: float = 0.0
    end: tuple[str, str] | None = None
    """Text and finish of a finished one."""


def naive_beams(naive: Naive, asked: Request, i: int) -> Completion:
    """One completion by beams that are decoded one by one, texts read again whole, all noise made at once."""
    prompt, settings, stream = naive.text.prompt(asked.prompt), asked.sampling, asked.key.stream(i)
    paths, position = [Path()], 0
    while any(path.end is None for path in paths):
        rows = [_row(naive, prompt, path) for path in paths]
        paths = [
            paths[b] if paths[b].end else _grown(naive, prompt, paths[b], settings, v, float(rows[b][v]))
            for b, v in picks(rows, settings, stream, position)
        ]
        position += 1
    best = max(paths, key=lambda beam: beam.score)
    assert best.end is not None
    return Completion(best.end[0], None, best.end[1], best.score)


def _row(naive: Naive, prompt: Sequence[int], beam: Path) -> NDArray[np.float64]:
    """Joint scores of a beam's extensions."""
    if beam.end:
        return np.array([beam.score])
    logs = naive.logits([*prompt, *beam.ids])[-1].double().log_softmax(0).numpy()
    return np.asarray(beam.score + logs)


def picks(rows: Sequence[NDArray[np.float64]], settings: Sampling, stream: int, position: int) -> list[tuple[int, int]]:
    """(beam, token) of one step."""
    flat = np.concatenate(rows)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    token = np.concatenate([np.arange(len(row)) for row in rows])
    if settings.temperature == 0:
        order = sorted(range(len(flat)), key=lambda n: (-flat[n], n))[: settings.num_beams]
        return [(int(owner[n]), int(token[n])) for n in order]
    scores = warp(flat, settings)
    masses = np.array([np.logaddexp.reduce(scores[owner == b]) for b in range(len(rows))])
    found = []
    for draw in range(settings.num_beams):
        own = stream_of(stream, draw)
        beam = int((masses + gumbel(own, position, np.arange(len(rows)), TEXT, WHICH)).argmax())
        row = scores[owner == beam]
        found.append((beam, int((row + gumbel(own, position, np.arange(len(row)))).argmax())))
    return found


def _grown(naive: Naive, prompt: list[int], beam: Path, settings: Sampling, token: int, score: float) -> Path:
    if token in naive.model.eos:
        return Path((*beam.ids, token), score, (decode_after(naive.text.decode, prompt[-4:], beam.ids), "stop"))
    ids = (*beam.ids, token)
    text = decode_after(naive.text.decode, prompt[-4:], ids)
    end = None
    if cuts := [text.find(stop) for stop in settings.stop if stop in text]:
        end = text[: min(cuts)], "stop"
    elif len(ids) == settings.max_tokens:
        end = text, "length"
    return Path(ids, score, end)


def expected(naive: Naive, requests: Sequence[Request]) -> list[list[Completion]]:
    """Of every sample of every request with beams."""
    return [[_known(naive, asked, i) for i in range(asked.n)] for asked in requests]


_cache: dict[tuple[str, str, str, int], Completion] = {}


def _known(naive: Naive, asked: Request, i: int) -> Completion:
    key = (naive.digest, naive.dtype, asked.id, i)
    if key not in _cache:
        if asked.sampling.num_beams > 1:
            _cache[key] = naive_beams(naive, asked, i)
        else:
            sample = naive.sample(asked, i)
            _cache[key] = Completion(sample.text, None, sample.finish, naive.logprob(asked, sample.raw))
    return _cache[key]


def same(replies: Sequence[Reply], wanted: Sequence[Sequence[Completion]]) -> bool:
    """Texts and ends are equal and scores are near."""
    for reply, truths in zip(replies, wanted, strict=True):
        for made, truth in zip(reply.completions, truths, strict=True):
            if (made.text, made.finish) != (truth.text, truth.finish):
                return False
            if made.logprob is None or truth.logprob is None or abs(made.logprob - truth.logprob) > 1e-3:
                return False
    return True


def sample(setting: Sampling, stream: int = 0, limit: int = 4) -> Sample:
    return Sample((0,), setting, stream, limit, lambda tokens: "".join(map(str, tokens)))


def enumerated(setting: Sampling, steps: int, eos: int, limit: int) -> dict[tuple, float]:
    """The exact law of the beams after some steps, by hand: every pair of draws of every step."""
    laws: dict[tuple, float] = {((),): 1.0}
    scores: dict[tuple, float] = {(): 0.0}

    def finished(raw: tuple) -> bool:
        return bool(raw) and (raw[-1] == eos or len(raw) == limit)

    for position in range(steps):
        after: dict[tuple, float] = {}
        for state, chance in laws.items():
            if all(map(finished, state)):
                after[state] = after.get(state, 0.0) + chance
                continue
            flat: list[tuple[tuple, float]] = []
            for raw in state:
                if finished(raw):
                    flat.append((raw, scores[raw]))
                    continue
                row = TARGET[position, raw[-1] if raw else 0]
                logs = row - np.logaddexp.reduce(row)
                for token, log in enumerate(logs):
                    scores[(*raw, token)] = scores[raw] + log
                    flat.append(((*raw, token), scores[raw] + log))
            law = np.array([score for _, score in flat])
            law = np.where(cut(law, setting), law / setting.temperature, -np.inf)
            law = np.exp(law - np.logaddexp.reduce(law))
            single: dict[tuple, float] = {}
            for (raw, _), p in zip(flat, law, strict=True):
                single[raw] = single.get(raw, 0.0) + p
            for a, p in single.items():
                for b, q in single.items():
                    if p * q:
                        after[a, b] = after.get((a, b), 0.0) + chance * p * q
        laws = after
    return laws


def cut(scores: np.ndarray, setting: Sampling) -> np.ndarray:
    """What top-k and top-p leave, by sorting."""
    order = np.argsort(-scores, kind="stable")
    keep = np.zeros(len(scores), dtype=bool)
    keep[order[: setting.top_k or len(scores)]] = True
    mass = np.where(keep, np.exp((scores - scores.max()) / setting.temperature), 0.0)
    before = np.cumsum(mass[order]) - mass[order]
    keep[order[before >= (setting.top_p or 1.0) * mass.sum()]] = False
    return keep
