"""``treeagent eval --shard`` and ``treeagent merge``: the parts of an evaluation are the whole one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_eval_growth import evaluate as run_whole
from test_eval_growth import folder as folder  # noqa: PLC0414  the fixture
from typer.testing import CliRunner

from treeagent.cli import app
from treeagent.errors import ConfigError
from treeagent.evaluation.outcomes import Outcome, read
from treeagent.evaluation.shards import Shard, absent

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "shards.md"


def evaluate(folder: Path, out: str, *words: str) -> Any:
    """An evaluation of the eight questions in a folder ``out``."""
    done = run_whole(folder, *words, "--out", str(folder / out))
    assert done.exit_code == 0, done.output
    return done


def shards(folder: Path, count: int, *words: str) -> list[str]:
    """All shards of the eight questions; their folders."""
    for index in range(count):
        evaluate(folder, f"s{index}", "--shard", f"{index}/{count}", *words)
    return [str(folder / f"s{index}") for index in range(count)]


def merge(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["merge", *map(str, words)])


def timeless(folder: Path) -> dict[int, Outcome]:
    """The outcomes of a folder without their times."""
    return {number: replace(outcome, seconds=0.0) for number, outcome in read(folder / "outcomes.jsonl")[1].items()}


def figures(output: str) -> list[str]:
    """The lines of a report but those on time and on the process."""
    return [re.sub(r", [\d.]+ s this time", "", line) for line in output.splitlines()
            if not re.search(r"a problem took|^engine|rows have no gold answer$|wrote", line)]  # fmt: skip


def test_merged_shards_are_the_evaluation_of_one_process(folder: Path) -> None:
    """Settings, outcomes, journals and the report are those of an unsharded run, which also continues the folder."""
    whole = evaluate(folder, "out")
    parts = shards(folder, 3)
    assert [sorted(timeless(Path(part))) for part in parts] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert "shard 1/3: 3 of 8 problems" in evaluate(folder, "s1", "--shard", "1/3").output
    done = merge(*reversed(parts), "--out", folder / "all")
    assert done.exit_code == 0, done.output
    assert timeless(folder / "all") == timeless(folder / "out")
    assert read(folder / "all" / "outcomes.jsonl")[0] == read(folder / "out" / "outcomes.jsonl")[0]
    assert figures(done.output) == figures(whole.output)
    assert "(8 of 8 problems run)" in evaluate(folder, "all").output
    journals = sorted(path.name for path in (folder / "all" / "journals").iterdir())
    assert journals == sorted(path.name for path in (folder / "out" / "journals").iterdir())
    page = CliRunner().invoke(app, ["view", str(folder / "all" / "journals" / "000005.jsonl")])
    assert page.exit_code == 0, page.output


def test_missing_shards_are_named_and_may_come_later(folder: Path) -> None:
    """The merged folder has what there is; the same command adds the rest, and so does an unsharded evaluation."""
    parts = shards(folder, 4)
    before = (Path(parts[0]) / "outcomes.jsonl").read_bytes()
    some = merge(*parts[:2], "--out", folder / "all")
    assert some.exit_code == 3
    assert "missing: 2 shard(s), 2/4, 3/4, with 4 of 8 problems" in some.output
    assert "(4 of 8 problems run)" in some.output
    shutil.copytree(folder / "all", folder / "rest")
    assert merge(*parts, "--out", folder / "all").exit_code == 0
    assert "(8 of 8 problems run)" in evaluate(folder, "rest").output
    assert timeless(folder / "all") == timeless(folder / "rest")
    assert (Path(parts[0]) / "outcomes.jsonl").read_bytes() == before


def test_an_unfinished_shard_is_named_and_its_journals_are_copies(folder: Path) -> None:
    """What continues in the merged folder does not change the shard's journal."""
    parts = shards(folder, 2)
    path = Path(parts[0]) / "outcomes.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"number": 4,' not in line))
    done = merge(*parts, "--out", folder / "all")
    assert done.exit_code == 3
    assert f"{parts[0]} is not finished: 1 of its problems have no outcome yet" in done.output.replace("\n", "")
    journal = Path("journals", "000004.jsonl")
    assert (folder / "all" / journal).read_bytes() == (Path(parts[0]) / journal).read_bytes()
    assert not (folder / "all" / journal).samefile(Path(parts[0]) / journal)
    shutil.copytree(folder / "all", folder / "later")
    assert "(8 of 8 problems run)" in evaluate(folder, "all").output
    evaluate(folder, "s0", "--shard", "0/2")
    with (Path(parts[0]) / journal).open("a") as file:
        file.write("\n")  # what the shard has written since
    assert merge(*parts, "--out", folder / "later").exit_code == 0
    assert (folder / "later" / journal).read_bytes() == (Path(parts[0]) / journal).read_bytes()


def test_shards_of_other_settings_are_refused(folder: Path) -> None:
    """The line names the setting and both folders, and nothing is written."""
    parts = shards(folder, 2)
    evaluate(folder, "other", "--shard", "1/2", "--seed", "5")
    evaluate(folder, "fewer", "--shard", "1/2", "--limit", "4")
    for name, key in (("other", "seed is 0 in the first and 5"), ("fewer", "data.rows is [0, 1, 2, 3, 4, 5, 6, 7]")):
        refused = merge(parts[0], folder / name, "--out", folder / "all")
        text = refused.output.replace("\n", "")
        assert refused.exit_code == 2
        assert key in text
        assert parts[0] in text
        assert str(folder / name) in text
        assert not (folder / "all").exists()
    assert merge(*parts, "--out", folder / "all").exit_code == 0
    assert merge(folder / "other", "--out", folder / "all").exit_code == 2


def test_a_problem_in_two_folders_has_one_answer(folder: Path) -> None:
    """Equal ones join, with a line for a shard that is there twice; a difference names the problem."""
    parts = shards(folder, 2)
    evaluate(folder, "quarter", "--shard", "1/4")
    evaluate(folder, "again", "--shard", "1/2")
    twice = merge(*parts, folder / "quarter", folder / "again", "--out", folder / "all")
    assert twice.exit_code == 0, twice.output
    assert "shard 1/2 is in" in twice.output
    path = folder / "quarter" / "outcomes.jsonl"
    path.write_text(path.read_text().replace('"answer": "5"', '"answer": "6"'))
    differs = merge(*parts, folder / "quarter", "--out", folder / "new")
    assert differs.exit_code == 2
    assert "problem 5 (q5?) has two outcomes: its answer is '5' in" in differs.output
    assert not (folder / "new").exists()


def test_a_verdict_goes_before_a_failure(folder: Path) -> None:
    """Whichever folder comes first; a failure that is merged alone is replaced when the verdict comes."""
    parts = shards(folder, 2)
    shutil.copytree(parts[1], folder / "failed")
    path = folder / "failed" / "outcomes.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[1])
    lines[1] = json.dumps({"type": "outcome", "number": row["number"], "input": row["input"], "error": "down"})
    path.write_text("\n".join(lines) + "\n")
    first = merge(parts[0], folder / "failed", "--out", folder / "all")
    assert first.exit_code == 3
    assert "1 problem(s) FAILED" in first.output
    assert merge(parts[0], folder / "failed", parts[1], "--out", folder / "all").exit_code == 0
    assert merge(*parts, "--out", folder / "new").exit_code == 0
    assert timeless(folder / "all") == timeless(folder / "new")


def test_repeats_are_merged_each(folder: Path) -> None:
    """Each repeat is an evaluation of its own, also in the merged folder; a shard may lack one."""
    parts = shards(folder, 2, "--repeats", "2")
    evaluate(folder, "out", "--repeats", "2")
    done = merge(*parts, "--out", folder / "all")
    assert done.exit_code == 0, done.output
    assert "repeat 2, seed 1: accuracy" in done.output
    second = Path("repeats", "2")
    assert timeless(folder / "all" / second) == timeless(folder / "out" / second)
    assert "pass@k" in evaluate(folder, "all", "--repeats", "2").output
    shutil.rmtree(Path(parts[1]) / "repeats")
    lacking = merge(*parts, "--out", folder / "new")
    assert lacking.exit_code == 3
    assert "repeat 2: missing: 1 shard(s), 1/2" in lacking.output


def test_a_shard_grows_and_stays_a_shard(folder: Path) -> None:
    """More problems are added to a shard; another shard, or none, is refused in its folder."""
    shards(folder, 2, "--limit", "3")
    parts = shards(folder, 2)
    for words in (["--shard", "1/2"], []):
        refused = run_whole(folder, *words, "--out", parts[0])
        assert refused.exit_code == 2
        assert "its shard is '0/2'" in refused.output
    evaluate(folder, "out")
    assert merge(*parts, "--out", folder / "all").exit_code == 0
    assert timeless(folder / "all") == timeless(folder / "out")


def test_a_shard_without_a_problem_is_whole(folder: Path) -> None:
    """More shards than problems do no harm."""
    parts = shards(folder, 4, "--limit", "2")
    assert "(0 of 0 problems run)" in evaluate(folder, "s3", "--shard", "3/4", "--limit", "2").output
    assert merge(*parts, "--out", folder / "all").exit_code == 0


@pytest.mark.parametrize("text", ["4/4", "1/1", "0/0", "-1/4", "1", "a/b", "1/2/3", "", "1.0/2"])
def test_nonsense_is_no_shard(text: str, folder: Path) -> None:
    """One line with code 2 before anything is read."""
    refused = run_whole(folder, f"--shard={text}")
    assert refused.exit_code == 2
    assert refused.output.startswith("Error: --shard: ")
    assert refused.output.count("\n") == 1
    with pytest.raises(ConfigError):
        Shard.parse(text)


def test_shards_of_several_numbers() -> None:
    """What is missing has a name only where all shards have one number."""
    assert absent(range(6), [Shard.parse("0/3")]) == ([Shard(3, 1), Shard(3, 2)], {1, 2, 4, 5})
    assert absent(range(6), [Shard.parse("0/2"), Shard.parse("1/4")]) == ([], {3})
    assert absent(range(6), [None, Shard.parse("0/2")]) == ([], set())
    assert str(Shard.parse("03/16")) == "3/16"


def test_bad_folders_are_one_line(folder: Path) -> None:
    """No folder, an empty file, a damaged line, a folder twice, the result among the folders: nothing is written."""
    parts = shards(folder, 2)
    for name in ("empty", "broken", "foreign"):
        shutil.copytree(parts[1], folder / name)
    (folder / "empty" / "outcomes.jsonl").write_text("")
    content = (folder / "broken" / "outcomes.jsonl").read_text()
    (folder / "broken" / "outcomes.jsonl").write_text(content.replace('"answer": "3"', '"answer": 3'))
    (folder / "foreign" / "outcomes.jsonl").write_text(content.replace('"number": 3', '"number": 99'))
    out = folder / "all"
    for given, words in {
        ("none",): "none is no folder of an evaluation",
        ("empty",): "there is no evaluation in it",
        ("broken",): "answer: Input should be a valid string",
        ("foreign",): "problem 99 is none of the evaluation's",
        ("s0",): "is given twice",
    }.items():
        refused = merge(parts[0], *(folder / name for name in given), "--out", out)
        assert refused.exit_code == 2, refused.output
        assert words in refused.output.replace("\n", " ")
        assert "Traceback" not in refused.output
        assert not out.exists()
    assert merge(*parts, "--out", parts[0]).exit_code == 2


def test_merge_prints_json(folder: Path) -> None:
    """The figures of eval, the settings of the whole, and what is missing."""
    parts = shards(folder, 2)
    done = CliRunner().invoke(app, ["merge", parts[0], "--out", str(folder / "all"), "--json"])
    report = json.loads(done.stdout)
    assert (report["run"], report["wanted"], done.exit_code) == (4, 8, 3)
    assert "shard" not in report["settings"]
    assert report["notes"] == ["missing: 1 shard(s), 1/2, with 4 of 8 problems"]


def test_the_recipe_for_make_runs(folder: Path) -> None:
    """The guide's own text, with another evaluation in it; a second call does nothing."""
    text = re.search(r"```make\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert text is not None
    words = f"--task {folder}/task.yaml --search io --backend scripted --model {folder}/rules.yaml --quiet"
    treeagent = f"{sys.executable} -m treeagent"
    recipe = re.sub(r"^EVAL := .*$", f"EVAL := {treeagent} eval {words}", text[1], flags=re.MULTILINE)
    (folder / "shards.mk").write_text(recipe.replace("\ttreeagent merge", f"\t{treeagent} merge"))
    command = ["make", "-j", "2", "-f", "shards.mk"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(8 of 8 problems run)" in done.stdout
    assert "up to date" in subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    evaluate(folder, "out")
    assert timeless(folder / "runs" / "all") == timeless(folder / "out")


@pytest.mark.parametrize("puzzles", [4, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_puzzles_on_four_shards_are_those_of_one_process(puzzles: int, tmp_path: Path) -> None:
    """The bundled model samples; outcomes are equal bit for bit but for times, whatever ran beside a problem."""
    how = ["--task", "game24", "--search", "bfs", "--set", "b=2", "--backend", "seed", "--model", "mini"]
    how += ["--limit", str(puzzles), "--quiet", "--set", "backend.threads=1"]
    parts = []
    for words, name in [([], "one"), *((["--shard", f"{index}/4"], f"s{index}") for index in range(4))]:
        done = CliRunner().invoke(app, ["eval", *how, *words, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        parts += [tmp_path / name] if words else []
    assert merge(*parts, "--out", tmp_path / "all").exit_code == 0
    merged, whole = timeless(tmp_path / "all"), timeless(tmp_path / "one")
    assert len(merged) == puzzles
    assert {repr(outcome) for outcome in merged.values()} == {repr(outcome) for outcome in whole.values()}
    assert any(outcome.answer for outcome in whole.values())
