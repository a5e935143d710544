"""The pages about the engine, and what their tables name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OPTIONS, FIGURES = DOCS / "reference" / "engine-options.md", DOCS / "reference" / "figures.md"
GUIDE, ENGINE = DOCS / "guides" / "benchmark.md", DOCS / "explanation" / "engine.md"
OUTPUT, ERRORS = DOCS / "explanation" / "output.md", DOCS / "reference" / "engine-errors.md"
RESULTS = sorted((DOCS / "results").glob("*.md"))
PAGES = [
    OPTIONS,
    DOCS / "reference" / "engine-errors.md",
    FIGURES,
    GUIDE,
    ENGINE,
    OUTPUT,
    DOCS / "guides" / "gpu.md",
    *RESULTS,
]


def part(name: str, page: Path) -> str:
    """The text of a page between the marker of that name and its end; empty where there is no such marker."""
    _, _, rest = page.read_text().partition(f"<!-- {name} -->\n")
    return rest.split("<!-- end -->")[0]


def names(name: str, page: Path) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r"^\| `([\w.+-]+)` \|", part(f"names: {name}", page), re.MULTILINE)
