"""Token tables that begin with the texts of earlier runs: same tokens, fewer passes, and folders of little use."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from seed_tools import MIX, Naive, Open, ask, idle, told

from treeagent.backends.seed import earlier_texts
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.seed.earlier_texts import read_earlier_texts
from treeagent.errors import ConfigError
from treeagent.reply import Reply
from treeagent.runtime.journal import completion_event

RUN = {"type": "run", "t": 0.0, "format": 1, "input": "", "seed": 0, "budget": {}, "settings": {}}


def line(prompt: str, reply: Reply) -> dict[str, Any]:
    """A reply as a journal has it."""
    event = completion_event("id", "propose", prompt, reply)
    return {"type": event.type, "t": 0.0, **event.data}


def write(folder: Path, *records: dict[str, Any] | str, name: str = "journals/000000.jsonl") -> str:
    """A journal with these lines; the folder."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return str(folder)


@pytest.fixture(scope="module")
def replies(opened: Open) -> list[Reply]:
    """Replies to the mixed requests."""
    return ask(opened(drafter="none"), *MIX)


@pytest.fixture
def folder(tmp_path: Path, replies: Sequence[Reply]) -> str:
    """With the journal of a run that had these replies."""
    return write(tmp_path, RUN, *(line(asked.prompt, reply) for asked, reply in zip(MIX, replies, strict=True)))


@pytest.mark.parametrize("drafter", ["ngram", "suffix", "merged"])
def test_known_texts_are_drafted_at_once_and_change_no_token(
    opened: Open, naive: Naive, folder: str, drafter: str
) -> None:
    """From the first request on, and again after a reset; journals do not hold the option."""
    accepted = []
    for options in ({}, {"drafts_from": folder}):
        backend = opened(drafter=drafter, draft_tokens=8, **options)
        for _ in range(2):
            backend.reset()
            meter = backend.meter()
            assert told(ask(backend, *MIX)) == naive.expected(MIX)
            idle(backend)
            accepted.append(meter()["accepted"])
        assert "drafts_from" not in backend.describe()["options"]
        assert backend.with_model(backend.model).config.drafts_from == options.get("drafts_from")
    cold, cold_again, warm, warm_again = accepted
    assert cold == cold_again < warm == warm_again


def test_prompts_and_tokens_are_those_of_the_run(opened: Open, naive: Naive, folder: str) -> None:
    """Each text is the prompt as this tokenizer reads it with the tokens of the completion, and warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = read_earlier_texts(folder, naive.text, 10_000)
    begun = [naive.text.prompt(asked.prompt) for asked in MIX for _ in range(asked.n)]
    assert [text[: len(prompt)] for text, prompt in zip(texts, begun, strict=True)] == begun
    raw = [naive.sample(asked, i).raw for asked in MIX for i in range(asked.n)]
    for text, prompt, tokens in zip(texts, begun, raw, strict=True):
        assert tuple(text[len(prompt) :]) == tokens[: len(text) - len(prompt)]
        assert len(text) - len(prompt) >= len(tokens) - 1


def test_foreign_tokens_and_texts_alone_are_tokenised_anew(tmp_path: Path, naive: Naive) -> None:
    """Tokens that read otherwise here, or that the vocabulary lacks, are not believed; one line says so."""
    samples = [
        {"text": "Numbers", "tokens": [1, 2, 3]},
        {"text": "Numbers", "tokens": [10**9]},
        {"text": "Numbers", "tokens": None},
        {"text": "Numbers"},
    ]
    folder = write(tmp_path, RUN, {"type": "completion", "prompt": "Use", "completions": samples})
    with pytest.warns(RuntimeWarning, match="2 completions of other tokenizers were tokenised anew"):
        texts = read_earlier_texts(folder, naive.text, 10_000)
    assert [naive.text.decode(text) for text in texts] == ["UseNumbers"] * 4


def test_damaged_lines_and_other_files_are_left_out(tmp_path: Path, naive: Naive) -> None:
    """What is sound is learnt, and one warning counts the rest; files that are no journals go without saying."""
    good = {"type": "completion", "prompt": "Use", "completions": [{"text": "the", "tokens": None}]}
    bad: list[dict[str, Any] | str] = [
        '{"type": "completion", "pro',
        "[" * 100_000,
        "[]",
        {"type": "completion", "prompt": 5, "completions": []},
        {"type": "completion", "prompt": "Use", "completions": [None, {"text": 3}]},
    ]
    folder = write(tmp_path, RUN, good, *bad, good)
    write(tmp_path, {"input": "1 2 3"}, good, name="outcomes.jsonl")
    (tmp_path / "pipe.jsonl").mkdir()
    with pytest.warns(RuntimeWarning, match="cannot read .*pipe.jsonl.*; 6 damaged lines were left out"):
        texts = read_earlier_texts(folder, naive.text, 10_000)
    assert [naive.text.decode(text) for text in texts] == ["Usethe"] * 2


def test_time_and_memory_are_bounded(tmp_path: Path, naive: Naive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest journal is read first; a prompt that texts share counts once."""
    monkeypatch.setattr(earlier_texts, "MOST_TOKENS", 40)
    for i in range(3):
        samples = [{"text": f"{i} the numbers", "tokens": None}] * 200
        folder = write(
            tmp_path, RUN, {"type": "completion", "prompt": "Use", "completions": samples}, name=f"{i}.jsonl"
        )
    texts = read_earlier_texts(folder, naive.text, 10_000)
    assert 200 <= len(texts) <= 600
    monkeypatch.setattr(earlier_texts, "MOST_SECONDS", -1.0)
    with pytest.raises(ConfigError, match="nothing to learn from"):
        read_earlier_texts(folder, naive.text, 10_000)


def test_a_folder_of_no_use_is_one_clear_line(tmp_path: Path, opened: Open) -> None:
    """Before anything is loaded where the folder shows it, else at load."""
    with pytest.raises(ConfigError, match=r"drafts_from=.*missing: there is no such folder\. Name one with journals"):
        SeedBackend("mini", drafts_from=str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"no file there ends in \.jsonl"):
        SeedBackend("mini", drafts_from=str(tmp_path))
    folder = write(tmp_path, RUN)
    for drafter in ("none", "stand"):
        with pytest.raises(ConfigError, match="drafts_from is for the tables ngram, suffix, merged"):
            SeedBackend("mini", drafts_from=folder, drafter=drafter)
    with pytest.raises(ConfigError, match="nothing to learn from: no journal there holds a completion"):
        opened(drafts_from=folder)
    write(tmp_path, "no JSON")
    with pytest.raises(ConfigError, match="nothing to learn from: 1 damaged lines were left out"):
        opened(drafts_from=folder)
