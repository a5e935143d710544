"""The documents quote measurements from committed files, not from memory.

``python tests/test_results.py`` writes every table anew, after a measurement.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import bench_tables
import pytest

from treeagent.backends.mini import evaluate

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"<!-- table: (\S+)(?: only (\S+))? -->\n\n(.*?)\n<!-- end -->", re.DOTALL)
PICTURE = re.compile(r"<!-- picture: (\S+) -->\n\n(.*?)\n<!-- end -->", re.DOTALL)

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "backends" / "mini" / "MODEL_CARD.md"]


def table(name: str, only: str = "") -> str:
    """What stands after a marker: the table of a file, or that there is no such file yet."""
    if not (ROOT / name).exists():
        return f"Not measured yet: there is no `{name}`.\n"
    report = json.loads((ROOT / name).read_text())
    if "split" in report:
        return evaluate.markdown(report)
    return bench_tables.markdown(report, only.split(",") if only else ())


def picture(name: str, document: Path) -> str:
    """The same for a picture, as seen from a document."""
    if not (ROOT / name).exists():
        return f"Not drawn yet: there is no `{name}`.\n"
    return f"![Measured speeds]({Path(name).relative_to(document.parent.relative_to(ROOT))})\n"


def rewritten(text: str, document: Path) -> str:
    """A document with all that it quotes as it should be."""

    def quote(found: re.Match[str]) -> str:
        only = f" only {found[2]}" if found[2] else ""
        return f"<!-- table: {found[1]}{only} -->\n\n{table(found[1], found[2] or '')}\n<!-- end -->"

    text = QUOTE.sub(quote, text)
    return PICTURE.sub(
        lambda found: f"<!-- picture: {found[1]} -->\n\n{picture(found[1], document)}\n<!-- end -->", text
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_quoted_table_is_the_one_made_from_its_file(document: Path) -> None:
    """Whoever changes a number by hand changes it in the file that the script wrote."""
    assert document.read_text() == rewritten(document.read_text(), document)


def test_every_marked_place_quotes_something() -> None:
    """No marker is left empty or misspelt, in the README least of all."""
    quoted = {document.name: len(QUOTE.findall(document.read_text())) for document in DOCUMENTS}
    for document in DOCUMENTS:
        text = document.read_text()
        assert len(re.findall("<!-- table", text)) == quoted[document.name], document
        assert len(re.findall("<!-- picture", text)) == len(PICTURE.findall(text)), document
    assert quoted["README.md"]


if __name__ == "__main__":
    for each in DOCUMENTS:
        each.write_text(rewritten(each.read_text(), each))
