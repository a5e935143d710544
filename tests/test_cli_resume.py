"""The command line: interruption, kill and resume."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest
from cli_tools import ORACLE, blocked, call, same


def test_resuming_a_finished_run_prints_its_result_again_without_a_request(tmp_path):
    """All replies are in the journal, so the backend is never asked."""
    journal, log = tmp_path / "run.jsonl", tmp_path / "log"
    words = ["--journal", str(journal), "--set", f"backend.log={log}"]
    first = json.loads(call("solve", *ORACLE, "--json", *words).stdout)
    log.unlink()
    again = call("resume", str(journal), "--allow-code", "--json")
    assert again.exit_code == 0
    assert same(json.loads(again.stdout)) == same(first)
    assert not log.exists()


def test_a_torn_journal_resumes_to_the_undisturbed_result(tmp_path):
    """Wherever the file is cut, resume gives the answer of a run that nothing disturbed."""
    journal = tmp_path / "run.jsonl"
    whole = json.loads(call("solve", *ORACLE, "--json", "--journal", str(journal)).stdout)
    content = journal.read_bytes()
    for cut in (len(content) // 3, len(content) // 2, len(content) - 5):
        journal.write_bytes(content[:cut])
        assert same(json.loads(call("resume", str(journal), "--allow-code", "--json").stdout)) == same(whole)


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    """Resume says what is wrong, and leaves the file alone."""
    for text in ("", "{}\n", "puzzle\npuzzle\n", '{"type": "run", "format": 99}\n', '{"type": "run", "format": 1}\n'):
        path = tmp_path / "file.jsonl"
        path.write_text(text)
        result = call("resume", str(path), "--allow-code")
        assert result.exit_code == 2
        assert "journal" in result.stderr
        assert path.read_text() == text


def test_resume_can_raise_a_limit_that_the_run_hit(tmp_path):
    """A run that stopped at its limit of calls continues with a higher limit."""
    journal = tmp_path / "run.jsonl"
    assert call("solve", *ORACLE, "--max-calls", "10", "--journal", str(journal)).exit_code == 1
    again = call("resume", str(journal), "--allow-code", "--max-calls", "1000")
    assert again.exit_code == 0
    assert "(solved)" in again.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO and SIGKILL")
def test_kill_9_then_resume_equals_an_undisturbed_run_and_repeats_no_journalled_request(tmp_path):
    """The journal is flushed with every event, so a killed run loses the request it was waiting for and no other."""
    whole = json.loads(call("solve", *ORACLE, "--json").stdout)
    process, journal, end = blocked(tmp_path, at=30)
    process.kill()
    process.communicate()
    os.close(end)
    done = (tmp_path / "log").read_text().splitlines()
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    journalled = sum(event["type"] == "completion" for event in events)
    assert len(done) == 30
    (tmp_path / "log").unlink()
    resumed = call("resume", str(journal), "--allow-code", "--json")
    assert same(json.loads(resumed.stdout)) == same(whole)
    asked = (tmp_path / "log").read_text().splitlines()
    assert len(asked) == whole["usage"]["calls"] - journalled


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO and SIGINT")
def test_ctrl_c_ends_the_search_and_prints_the_best_attempt(tmp_path):
    """SIGINT ends the search at its next await; the exit code is 130."""
    process, _, end = blocked(tmp_path, at=30)
    process.send_signal(signal.SIGINT)
    os.close(end)  # lets the request go on, into the stop
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["ended"] == "interrupted"
    assert json.loads(out)["path"]
    assert "press Ctrl-C again" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO and SIGINT")
def test_a_second_ctrl_c_does_not_wait_for_a_request_that_hangs(tmp_path):
    """The request never returns; the process ends all the same."""
    process, journal, end = blocked(tmp_path, at=30)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:  # a signal sent before the first has been handled merges with it
        process.send_signal(signal.SIGINT)
    process.communicate()
    os.close(end)
    assert process.returncode == 130
    assert call("resume", str(journal), "--allow-code").exit_code == 0
