"""The documents quote measurements from committed files, not from memory."""

import json
import re
from pathlib import Path

import pytest

from treeagent.backends.mini.evaluate import markdown

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"<!-- table: (\S+) -->\n\n(.*?)\n<!-- end -->", re.DOTALL)


def _quotes() -> list[tuple[str, str, str]]:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "backends" / "mini" / "MODEL_CARD.md"]
    return [(file.name, name, table) for file in files for name, table in QUOTE.findall(file.read_text())]


@pytest.mark.parametrize(("document", "name", "table"), _quotes())
def test_a_quoted_table_is_the_one_made_from_its_file(document: str, name: str, table: str) -> None:
    """Whoever changes a number by hand changes it in the file that the script wrote."""
    assert table.strip() == markdown(json.loads((ROOT / name).read_text())).strip(), document


def test_tables_are_quoted_at_all() -> None:
    """The README shows measured results."""
    assert any(document == "README.md" for document, _, _ in _quotes())
