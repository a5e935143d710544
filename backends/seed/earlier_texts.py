"""Texts of earlier runs, from the journals in a folder, for token tables that learn from texts.

A journal holds prompts as texts, and completions as texts and, where the backend knew them, as tokens. Tokens are used
where this tokenizer reads the same text in them; other completions, of other models, are tokenised anew.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from treeagent import trust
from treeagent.errors import BackendError, ConfigError

from ..models.tokenizer import ChatTokenizer

MOST_TOKENS = 1 << 16
"""Tokens that are read, of the latest journals, without what a text shares with the one before it."""
MOST_SECONDS = 10.0
"""Time after which no further text is read."""
LONGEST_LINE = 1 << 24
"""Bytes of a line; a longer one is damaged."""


@dataclass(slots=True)
class _Counts:
    """What a folder held."""

    unreadable: list[str] = field(default_factory=list)
    """Files that could not be opened, with the reason."""
    damaged: int = 0
    """Lines that are no JSON or lack what a completion has."""
    foreign: int = 0
    """Completions in the tokens of another tokenizer."""


def journals_in(folder: str) -> list[Path]:
    """The files of a folder, at any depth, that may be journals, the latest first. Raises ConfigError without any."""
    path = Path(folder).expanduser()
    try:
        if not path.is_dir():
            raise ConfigError(
                f"drafts_from={folder}: there is no such folder. Name one with journals, such as --out of 'eval'."
            )
        dated = [(file.stat().st_mtime, file) for file in path.rglob("*.jsonl")]
    except OSError as error:
        raise ConfigError(f"drafts_from={folder}: the folder cannot be read: {error.strerror}") from error
    if not dated:
        raise ConfigError(
            f"drafts_from={folder}: no file there ends in .jsonl. Name a folder with journals, such as --out of 'eval'."
        )
    return [file for _, file in sorted(dated, reverse=True)]


def read_earlier_texts(folder: str, tokenizer: ChatTokenizer, vocabulary: int) -> list[list[int]]:
    """Prompts with completions as tokens, the latest last. Raises ConfigError where nothing is of use.

    What is damaged or in foreign tokens is said in one warning.
    """
    texts: list[list[int]] = []
    counts, room, end = _Counts(), MOST_TOKENS, time.monotonic() + MOST_SECONDS
    for file in journals_in(folder):
        own: list[list[int]] = []
        before: list[int] = []
        for prompt, completion in _completions(file, counts):
            tokens = _tokens(prompt, completion, tokenizer, vocabulary, counts)
            new = len(tokens) - _common(before, tokens)  # what is shared is held once
            if not tokens or new > room or time.monotonic() > end:
                continue
            own.append(tokens)
            before, room = tokens, room - new
        texts = own + texts
        if room <= 0 or time.monotonic() > end:
            break
    notes = [f"cannot read {name}" for name in counts.unreadable[:1]]
    if counts.damaged:
        notes.append(f"{counts.damaged} damaged lines were left out")
    if not texts:
        reason = "; ".join(notes) or "no journal there holds a completion"
        raise ConfigError(f"drafts_from={folder}: there is nothing to learn from: {reason}. Name another folder.")
    if counts.foreign:
        notes.append(f"{counts.foreign} completions of other tokenizers were tokenised anew")
    if notes:
        warnings.warn(f"drafts_from={folder}: {'; '.join(notes)}", RuntimeWarning, stacklevel=2)
    return texts


def _completions(file: Path, counts: _Counts) -> Iterator[tuple[str, dict[str, Any]]]:
    """Prompt and completion of each sample of a journal; none of a file that is not one."""
    try:
        with trust.open_regular(file) as lines:
            first = True
            while line := lines.readline(LONGEST_LINE):
                record = _record(line)
                if first and record.get("type") != "run":
                    counts.damaged += not record
                    return
                first = False
                if record.get("type") != "completion":
                    counts.damaged += not record
                    continue
                samples = record.get("completions")
                prompt = record.get("prompt")
                if not isinstance(samples, list) or not isinstance(prompt, str):
                    counts.damaged += 1
                    continue
                for sample in samples:
                    if isinstance(sample, dict) and isinstance(sample.get("text"), str):
                        yield prompt, {"text": sample["text"], "tokens": _whole(sample.get("tokens"))}
                    else:
                        counts.damaged += 1
    except OSError as error:
        counts.unreadable.append(f"{file}: {error.strerror}")


def _record(line: bytes) -> dict[str, Any]:
    """A line's object; empty where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _whole(tokens: object) -> list[int] | None:
    """Tokens, where they are a list of whole numbers."""
    if isinstance(tokens, list) and tokens and all(type(token) is int and token >= 0 for token in tokens):
        return tokens
    return None


def _tokens(
    prompt: str, completion: dict[str, Any], tokenizer: ChatTokenizer, vocabulary: int, counts: _Counts
) -> list[int]:
    """A prompt and its completion; empty where they cannot be tokenised."""
    text, tokens = completion["text"], completion["tokens"]
    try:
        given = tokenizer.prompt(prompt)
        if tokens is not None and _are_of(tokens, text, tokenizer, vocabulary):
            return [*given, *tokens]
        counts.foreign += tokens is not None
        [(begun, rest)] = tokenizer.scored(prompt, [text])
    except (BackendError, OverflowError):
        return []
    return [*begun, *rest]


def _are_of(tokens: Sequence[int], text: str, tokenizer: ChatTokenizer, vocabulary: int) -> bool:
    """Whether a text was written in these tokens by a model with this tokenizer."""
    if max(tokens) >= vocabulary:
        return False
    said, read = _bare(text), _bare(tokenizer.decode(tokens))
    return said in read or (bool(read) and said.startswith(read))  # a stop string cuts either inside a token


def _bare(text: str) -> str:
    """The ASCII part of a text: a decoder shows bytes of broken characters otherwise at the beginning of a text."""
    return "".join(filter(str.isascii, text)).strip()


def _common(before: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, tokens, strict=False)))
