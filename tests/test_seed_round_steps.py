"""Small steps of a round that are computed at once: the log-probabilities of its tokens, and greedy verification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treeagent.backends.local.detokenizer import IncrementalDetokenizer
from treeagent.backends.seed.executor.logits import Logits
from treeagent.backends.seed.kernels import library
from treeagent.backends.seed.kernels.log_probability import log_probabilities
from treeagent.backends.seed.records import Draft, SequenceState
from treeagent.backends.seed.verifiers.base import DraftCheck
from treeagent.backends.seed.verifiers.coupled import Coupled
from treeagent.request import Sampling


def exact(logits: torch.Tensor, rows: list[int], tokens: list[int]) -> list[float]:
    """In float64."""
    chosen = logits.double().log_softmax(dim=1)[rows]
    return chosen[range(len(rows)), tokens].tolist()


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 70), st.sampled_from([0.1, 5.0, 80.0]))
@settings(max_examples=60, deadline=None)
def test_log_probabilities_are_exact(seed, count, size, scale):
    """Any rows of any size, with tokens that a constraint forbids, compiled or not; a row does not feel the others."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, size, generator=generator)
    logits[:, 1:][torch.rand(count, size - 1, generator=generator) < 0.2] = -torch.inf
    rows = torch.randint(count, (2 * count,), generator=generator).tolist()
    tokens = [int(logits[row].argmax()) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        found = Logits(logits).log_probabilities(rows, tokens)
        alone = [Logits(logits).log_probabilities([row], [token])[0] for row, token in zip(rows, tokens, strict=True)]
        patch.setattr(library, "optional", lambda signature: None)
        plain = Logits(logits).log_probabilities(rows, tokens)
    assert found == alone
    assert found == pytest.approx(exact(logits, rows, tokens), abs=1e-5)
    assert found == pytest.approx(plain, abs=1e-4)


def test_rows_of_a_large_vocabulary_are_shared_between_threads(monkeypatch):
    """The numbers are those of one thread, whether a token is likely, unlikely or forbidden."""
    logits = torch.randn(3, 40_000, generator=torch.Generator().manual_seed(1))
    logits[:, 7] = -torch.inf
    rows, tokens, found = [2, 0, 1, 2, 0], [int(logits[2].argmax()), 7, 0, int(logits[2].argmin()), 39_999], []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(Logits(logits).log_probabilities(rows, tokens))
    assert found[0] == found[1]
    assert found[0][1] == -np.inf
    assert found[0] == pytest.approx(exact(logits, rows, tokens), abs=1e-5)


def test_what_the_kernel_does_not_take_is_left_to_torch():
    """Other types of numbers, and rows that do not lie side by side."""
    logits = torch.randn(4, 6)
    for other in (logits.double(), logits.bfloat16(), logits.T):
        assert log_probabilities(other, [0], [1]) is None
        assert Logits(other).log_probabilities([0], [1]) == pytest.approx(exact(other, [0], [1]), abs=1e-5)


@pytest.mark.skipif(log_probabilities(torch.zeros(1, 1), [0], [0]) is None, reason="no C compiler")
def test_rows_and_tokens_that_are_not_there_are_refused():
    """In one line with the range, before the kernel reads memory of others."""
    logits = torch.randn(4, 6)
    for rows, tokens, message in (
        ([0, 4], [1, 1], "rows from 0 to 3, not from 0 to 4"),
        ([-1], [1], "rows from 0 to 3, not from -1 to -1"),
        ([0, 1], [6, 2], "tokens from 0 to 5, not from 2 to 6"),
        ([0], [-1], "tokens from 0 to 5, not from -1 to -1"),
    ):
        with pytest.raises(IndexError, match=message):
            log_probabilities(logits, rows, tokens)
    with pytest.raises(ValueError, match="a token for each of 2 rows, not 1 tokens"):
        log_probabilities(logits, [0, 1], [1])


@st.composite
def trees(draw):
    """A draft over three tokens, siblings perhaps equal."""
    size = draw(st.integers(0, 12))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    return Draft([draw(st.integers(0, 2)) for _ in range(size)], parents, [0.5] * size)


@given(st.lists(trees(), min_size=1, max_size=4), st.integers(0, 2**32), st.booleans())
@settings(max_examples=80, deadline=None)
def test_greedy_rows_follow_the_likeliest_tokens(drafts, seed, broken):
    """Each verification is the path of likeliest tokens through its draft; one that meets a broken row has none."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(sum(1 + len(draft) for draft in drafts), 3)).astype(np.float32)
    if broken:
        logits[random.integers(len(logits))] = np.nan
    checks, first = [], 0
    for draft in drafts:
        checks.append(DraftCheck(SequenceState([0], 1, Sampling(temperature=0.0), 0, 99), draft, first))
        first += 1 + len(draft)
    for check, verification in zip(checks, Coupled().verify(checks, Logits(torch.from_numpy(logits))), strict=True):
        node, accepted, tokens = -1, [], []
        while node is not None and np.isfinite(logits[check.first + 1 + node]).all():
            tokens.append(int(logits[check.first + 1 + node].argmax()))
            links = list(zip(check.draft.parents, check.draft.tokens, strict=True))
            node = links.index((node, tokens[-1])) if (node, tokens[-1]) in links else None
            accepted += [] if node is None else [node]
        expected = None if node is not None else (tuple(accepted), tuple(tokens))
        if expected is not None and verification is not None and verification.logprobs is not None:
            rows = check.rows(verification)
            assert list(verification.logprobs) == Logits(torch.from_numpy(logits)).log_probabilities(rows, tokens)
        assert (verification and (verification.accepted, verification.tokens)) == expected


BYTES = [*range(ord("a"), ord("d")), *range(0xC2, 0xC4), *range(0x80, 0x83), 0xF0, 0xEF, 0xBF, 0xBD]


class Bytes(dict[int, "str | None"]):
    """Decodes tokens that are bytes, or pairs of them, with or without their pieces."""

    def __init__(self, *, pieces: bool) -> None:
        super().__init__()
        self.pieces = self if pieces else None

    def __call__(self, tokens: Sequence[int]) -> str:
        return b"".join(self.word(token) for token in tokens).decode(errors="replace")

    @staticmethod
    def word(token: int) -> bytes:
        first, second = divmod(token, len(BYTES) + 1)
        return bytes(BYTES[place - 1] for place in (first, second) if place)

    def __missing__(self, token: int) -> str | None:
        text = self.word(token).decode(errors="replace")
        return None if "\ufffd" in text else text


tokens = st.lists(st.integers(0, (len(BYTES) + 1) ** 2 - 1), max_size=40)
stops = st.lists(st.text("abc\u0081\u00c0\ufffd", min_size=1, max_size=3), max_size=3)


@given(tokens, tokens, stops)
@settings(max_examples=300, deadline=None)
def test_pieces_of_bytes_give_the_text_of_the_decoder(prompt, written, stop):
    """The same text, stop strings and ends of tokens after every token, whatever the bytes are."""
    slow, fast = (IncrementalDetokenizer(Bytes(pieces=pieces), prompt, stop) for pieces in (False, True))
    for token in written:
        assert fast.push(token) == slow.push(token)
        assert (fast.text, fast.cut) == (slow.text, slow.cut)
        if slow.cut is not None:
            break
    assert fast.finish() == slow.finish()
    assert fast.text == slow.text
    assert fast.ends(len(written)) == slow.ends(len(written))
    assert fast.before_cut(written) == slow.before_cut(written)
