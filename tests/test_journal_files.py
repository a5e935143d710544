"""Files that are no journal, damaged ones and full disks: one clear error, and nothing is destroyed."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from resumed_runs import TREE, _parts
from synthetic import TreeBackend, solve

from treeagent import (
    Agent,
    Journal,
    JournalError,
)
from treeagent.runtime.journal import read
from treeagent.strategies.bfs import BFS


def test_an_existing_journal_is_never_overwritten(tmp_path: Path) -> None:
    """The error says how to continue it; the file stays as it is. An empty file is free."""
    path = tmp_path / "run.jsonl"
    path.touch()
    solve(TreeBackend(TREE), BFS(), journal=path)
    content = path.read_bytes()
    with pytest.raises(JournalError, match="treeagent resume"):
        solve(TreeBackend(TREE), BFS(), journal=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"dear diary\ntoday was a good day\n",
        b'{"a": 1}\n{"b": 2}\n',
        b"[1, 2]\n[3]\n",
        b"17\n18\n",
        b'"text"\n"more"\n',
        b"\xff\xfe\n\xff\n",
        b'{"type": "thought", "id": 1}\n{"type": "run", "format": 1}\n',
        b'{"type": "run", "format": 99}\n',
        b"[" * 100_000 + b"\n{}\n",
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    """One clear error, whether read or resumed, and not a byte changed."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"journal"):
        read(path)
    with pytest.raises(JournalError, match=r"journal"):
        Journal(path, resume=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"type": "run", "format": 1', b"what?"])
def test_a_journal_without_a_whole_line_cannot_be_resumed(content: bytes, tmp_path: Path) -> None:
    """Torn within its first line there is nothing to go on from, and nothing is destroyed."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="nothing to resume"):
        Journal(path, resume=True)
    with pytest.raises(JournalError, match="nothing to resume"):
        Agent.from_journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "completion", "id": "x"}',
        '{"type": "completion", "id": "x", "completions": [{}], "usage": {}}',
        '{"type": "scores"}',
        '{"type": "completion", "id": "x", "completions": [], "usage": {"calls": 1, "what": 2}}',
    ],
)
def test_a_damaged_line_in_the_middle_is_a_clear_error(line: str, tmp_path: Path) -> None:
    """A line that lacks what resume needs is named, not a traceback."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "run", "format": 1}\n' + line + "\n")
    with pytest.raises(JournalError, match="damaged"):
        Journal(path, resume=True)


def test_a_first_line_without_settings_is_a_clear_error(tmp_path: Path) -> None:
    """An agent cannot be made from it."""
    path = tmp_path / "run.jsonl"
    path.write_text('{"type": "run", "format": 1}\n')
    with pytest.raises(JournalError, match="damaged"):
        Agent.from_journal(path)


@pytest.mark.parametrize("place", ["missing/run.jsonl", ".", "x" * 300, "file/run.jsonl"])
def test_an_unwritable_journal_is_an_error_before_the_first_request(place: str, tmp_path: Path) -> None:
    """A missing folder, a folder, a name too long, a file in place of a folder: one error, and nothing was asked."""
    (tmp_path / "file").touch()
    backend = TreeBackend(TREE)
    with pytest.raises(JournalError, match="cannot write the journal"):
        solve(backend, BFS(), journal=tmp_path / place)
    assert not backend.requests


def test_a_journal_that_is_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(JournalError, match=r"gone\.jsonl"):
        Journal(tmp_path / "gone.jsonl", resume=True)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's refusal ends the run with JournalError; closing the file afterwards raises nothing more."""
    path = tmp_path / "run.jsonl"
    agent = Agent(*_parts(), backend=TreeBackend(TREE))
    run = agent.run("r", journal=path)
    assert run._journal is not None
    file = run._journal._file

    class Full:
        closed = 0

        def write(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            Full.closed += 1
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run._journal, "_file", Full())
    with pytest.raises(JournalError, match="No space left"):
        asyncio.run(run.result())
    assert Full.closed == 1
