"""Two processes on one journal: one of them writes, the other is told so, and the journal stays readable."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import ORACLE, call
from helpers import Oracle
from processes import CONTEXT, start

from treeagent import Agent, Journal, JournalError
from treeagent.evaluation.outcomes import Outcomes
from treeagent.evaluation.outcomes import read as read_outcomes
from treeagent.file_lock import open_to_write
from treeagent.runtime.journal import read
from treeagent.runtime.journal_tree import rebuild

MANY = int(os.environ.get("TREEAGENT_TRIALS", "12"))
"""Cases of an exhaustive run."""

REFUSED = ("another process is writing the journal", "exists already", "nothing to resume", "cannot read the journal",
           "cannot write the journal")  # fmt: skip


@pytest.mark.parametrize("count", [2, pytest.param(MANY, marks=pytest.mark.exhaustive)])
def test_two_processes_on_one_journal_leave_it_readable(count: int, tmp_path: Path) -> None:
    """Two that solve, two that resume from a random byte, and one that resumes while the other solves."""
    whole = tmp_path / "whole.jsonl"
    answer = json.loads(call("solve", *ORACLE, "--json", "--journal", str(whole)).stdout)["answer"]
    content = whole.read_bytes()
    met = 0
    for number in range(count):
        chance, journal = random.Random(number), tmp_path / f"{number}.jsonl"
        solve, resume = (
            ["solve", *ORACLE, "--json", "--journal", str(journal)],
            ["resume", str(journal), "--json", "--allow-code"],
        )
        pair = ([solve, solve], [resume, resume], [solve, resume])[number % 3]
        if number % 3 == 1:
            journal.write_bytes(content[: chance.randrange(content.index(b"\n") + 1, len(content))])
        barrier = CONTEXT.Barrier(2)
        reports = [tmp_path / f"{number}.{place}" for place in (0, 1)]
        processes = [start(words, barrier, report) for words, report in zip(pair, reports, strict=True)]
        for process in processes:
            process.join(120)
        results = [report.read_text().split("\n", 1) for report in reports]
        assert "0" in {code for code, _ in results}, results
        for code, text in results:
            if code == "0":
                assert json.loads(text.strip().splitlines()[-1])["answer"] == answer
            else:
                assert code == "2", text
                assert any(reason in text for reason in REFUSED), text
                met += "another process" in text
        assert all(json.loads(line) for line in journal.read_bytes().splitlines())
        assert rebuild(read(journal)).end is not None
        assert call("resume", str(journal), "--allow-code").exit_code == 0
    assert met or count < 10  # they did meet


def test_a_journal_that_is_being_written_has_one_writer_and_any_readers(tmp_path: Path) -> None:
    """The error names the file and what to do; reading goes on; when the writer has ended, the next may write."""
    path = tmp_path / "run.jsonl"
    agent = Agent("game24", "bfs", backend=Oracle())
    run = agent.run("4 9 10 13", journal=path)
    with pytest.raises(JournalError, match=rf"another process is writing the journal {path}\. Wait until it has ended"):
        agent.run("4 9 10 13", journal=path)
    assert run._journal is not None
    run._journal.close()
    path.unlink()
    agent.solve("4 9 10 13", journal=path)
    content = path.read_bytes()
    first = Journal(path, resume=True)
    for words in (["resume", str(path), "--allow-code"], ["solve", *ORACLE, "--journal", str(path)]):
        result = call(*words)
        assert result.exit_code == 2
        assert "another process is writing" in result.stderr
    assert call("export", str(path), "-f", "json").exit_code == 0
    assert call("view", str(path), "-o", str(tmp_path / "page.html")).exit_code == 0
    replayed = call("solve", "--task", "game24", "--backend", "replay", "--model", str(path), "--input", "4 9 10 13")
    assert replayed.exit_code == 0
    assert path.read_bytes() == content
    first.close()
    Journal(path, resume=True).close()


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    """A killed writer leaves no lock behind."""
    path = tmp_path / "run.jsonl"
    code = (
        "import os, sys; from pathlib import Path; from treeagent.file_lock import open_to_write\n"
        "file = open_to_write(Path(sys.argv[1]), 'journal', create=True); print('locked', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(JournalError, match="another process is writing the journal"):
            open_to_write(path, "journal", create=False)
        process.kill()
    open_to_write(path, "journal", create=False).close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are POSIX's")
def test_a_journal_is_a_regular_file(tmp_path: Path) -> None:
    """A pipe is not waited for, and a device not written."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null"), Path("/dev/zero")):
        for resume in (True, False):
            with pytest.raises(JournalError, match="not a regular file"):
                Journal(path, resume=resume)
        with pytest.raises(JournalError, match="not a regular file"):
            read(path)


def test_an_evaluation_is_read_only_when_it_is_locked(tmp_path: Path) -> None:
    """Else what another process adds between the reading and the lock would be cut off."""
    path = tmp_path / "outcomes.jsonl"
    first = Outcomes(path, {"seed": 1})
    with pytest.raises(JournalError, match="another process is writing the evaluation"):
        Outcomes(path, {"seed": 2})  # the settings, which differ, are not even looked at
    first.close()
    Outcomes(path, {"seed": 1}).close()
    assert read_outcomes(path)[0] == {"seed": 1}


def test_fsync_reaches_the_disk_for_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line and the folder's entry; without the option nothing waits."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    call("solve", *ORACLE, "--journal", str(tmp_path / "plain.jsonl"))
    assert not synced
    path = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path), "--fsync")
    assert len(synced) == len(read(path)) + 2
    synced.clear()
    call("resume", str(path), "--allow-code", "--fsync")
    assert len(synced) > 2


def test_an_evaluation_of_before_goes_on_though_its_options_are_texts(tmp_path: Path) -> None:
    """``threads`` was the text "2" there, and is the number 2 now; another number is another evaluation."""
    path = tmp_path / "outcomes.jsonl"
    Outcomes(path, {"backend": {"options": {"threads": "2", "chat": "false"}}}).close()
    Outcomes(path, {"backend": {"options": {"threads": 2, "chat": False}}}).close()
    with pytest.raises(JournalError, match=r"its backend\.options\.threads is '2', this one's is 3"):
        Outcomes(path, {"backend": {"options": {"threads": 3, "chat": False}}})
