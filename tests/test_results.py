"""The documents quote measurements from committed files, not from memory."""

import json
import re
from pathlib import Path

import pytest

from treeagent.backends.mini.evaluate import markdown

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"<!-- table: (\S+) -->\n\n(.*?)\n<!-- end -->", re.DOTALL)


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "backends" / "mini" / "MODEL_CARD.md"]


def _quotes() -> list[tuple[str, str, str]]:
    return [(file.name, name, table) for file in DOCUMENTS for name, table in QUOTE.findall(file.read_text())]


@pytest.mark.parametrize(("document", "name", "table"), _quotes())
def test_a_quoted_table_is_the_one_made_from_its_file(document: str, name: str, table: str) -> None:
    """Whoever changes a number by hand changes it in the file that the script wrote."""
    assert table.strip() == markdown(json.loads((ROOT / name).read_text())).strip(), document


def test_every_marked_place_quotes_its_table() -> None:
    """No marker is left empty, in the README least of all."""
    quoted = sorted((document, name) for document, name, _ in _quotes())
    marked = sorted(
        (file.name, name) for file in DOCUMENTS for name in re.findall("<!-- table: (.+?) -->", file.read_text())
    )
    assert quoted == marked
    assert any(document == "README.md" for document, _ in quoted)


def fill() -> None:
    """Write every table anew; run this file as a program after a measurement."""
    for file in DOCUMENTS:

        def table(match: re.Match[str]) -> str:
            made = markdown(json.loads((ROOT / match[1]).read_text()))
            return f"<!-- table: {match[1]} -->\n\n{made}\n<!-- end -->"

        file.write_text(re.sub(r"<!-- table: (\S+) -->.*?<!-- end -->", table, file.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    fill()
