"""``treeagent export --format preferences | steps``: what a trainer reads out of journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import ORACLE, call

TASK = """
name: notes
description: Notes on numbers.
metadata: {version: 1}
input:
  description: numbers
  pattern: '[\\d ]+'
  examples: ["4 5 6"]
depth: 2
thought: {pattern: '(?s).+', state: "{{ text }}"}
answer: {template: "{{ steps | join(' ') }}"}
evaluate: {labels: {sure: 20.0, likely: 1.0, impossible: 0.001}}
sampling:
  sample: {temperature: 1.0, max_tokens: 7, n: 3}
  value: {temperature: 1.0, max_tokens: 3, n: 2}
prompts:
  sample: "Numbers: {{ input }} {{ steps | join(' ') }}"
  value: "Can these numbers make 24? Say sure, likely or impossible.\\nNumbers: {{ state }}\\nAnswer:"
"""


def rows(*words: str) -> list[dict[str, Any]]:
    done = call("export", *words)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    call("solve", *ORACLE, "--journal", str(path))
    return path


def test_a_pair_has_the_better_sibling_first(journal: Path) -> None:
    """By the verdict on the answer's path, else by the greater value, and both steps have one parent."""
    whole = json.loads(call("export", str(journal), "-f", "json").stdout)
    by_id, solution = {each["id"]: each for each in whole["thoughts"]}, set(whole["solution"])
    pairs = rows(str(journal), "-f", "preferences")
    assert {pair["basis"] for pair in pairs} == {"verdict", "judgement"}
    for pair in pairs:
        chosen, rejected = by_id[pair["chosen_thought"]], by_id[pair["rejected_thought"]]
        assert (pair["chosen"], pair["rejected"]) == (chosen["text"], rejected["text"])
        assert chosen["parent"] == rejected["parent"] == pair["parent"]
        if pair["basis"] == "verdict":
            assert chosen["id"] in solution
            assert rejected["id"] not in solution
        else:
            assert pair["chosen_value"] > pair["rejected_value"]


def test_steps_are_labelled_by_the_verdict_or_by_a_threshold(journal: Path) -> None:
    """One path is right throughout; with a threshold other steps are right by their value."""
    paths = rows(str(journal), "-f", "steps")
    assert [path["completions"] for path in paths if all(path["labels"])] == [
        [each["text"] for each in json.loads(call("export", str(journal), "-f", "json").stdout)["thoughts"]
         if each["id"] in path["thoughts"]] for path in paths if all(path["verdicts"])
    ]  # fmt: skip
    judged = rows(str(journal), "-f", "steps", "--threshold", "1")
    assert any(path["labels"][0] and not path["verdicts"][0] for path in judged)
    for path in judged:
        for label, value, verdict in zip(path["labels"], path["values"], path["verdicts"], strict=True):
            assert label == (verdict is True or value >= 1)


def test_parquet_has_the_rows_of_the_lines(journal: Path, tmp_path: Path) -> None:
    """Of both formats."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for kind in ("preferences", "steps"):
        out = tmp_path / f"{kind}.parquet"
        assert call("export", str(journal), "-f", kind, "-o", str(out)).exit_code == 0
        assert parquet.read_table(out).to_pylist() == rows(str(journal), "-f", kind)


def test_a_folder_without_journals_is_named(tmp_path: Path) -> None:
    """In one line, with exit code 2."""
    done = call("export", str(tmp_path), "-f", "steps")
    assert done.exit_code == 2
    assert "holds no journals" in " ".join(done.output.split())


def test_log_probabilities_are_those_of_a_plain_forward(tmp_path: Path) -> None:
    """To 1e-4, recomputed from the prompt and the tokens of a row alone, for the chosen and the rejected step."""
    pytest.importorskip("torch")
    from seed_tools import Naive

    from treeagent.backends import mini
    from treeagent.request import Key, Request, Sampling

    (tmp_path / "notes.yaml").write_text(TASK)
    journal, task = tmp_path / "run.jsonl", str(tmp_path / "notes.yaml")
    done = call("solve", "--task", task, "--input", "4 5 6", "--search", "bfs", "--evaluator", "likelihood",
                "--backend", "seed",
                "--model", "mini",
                "--journal", str(journal))  # fmt: skip
    assert journal.exists(), done.output
    naive = Naive(str(Path(mini.__file__).parent / "target"), "float32")
    compared = 0
    for pair in rows(str(journal), "-f", "preferences"):
        asked = Request(pair["prompt"], Key(0, "sample", "root"), Sampling(max_tokens=7))
        for name in ("chosen", "rejected"):
            tokens = pair[f"{name}_tokens"]
            if tokens is not None and len(tokens) == 7:  # ended by its limit: all drawn tokens are there
                assert pair[f"{name}_logprob"] == pytest.approx(naive.logprob(asked, tokens), abs=1e-4)
                compared += 1
    assert compared
