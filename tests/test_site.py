"""The documentation as a whole: its size, its links and its table of contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*PAGES, *sorted(ROOT.glob("*.md")), ROOT / "backends" / "mini" / "MODEL_CARD.md"]
GENERATED = re.compile(r"<!-- (?:table|options|names|picture): .*?<!-- end -->", re.DOTALL)
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?[^)]*\)")


def name(path: Path) -> str:
    """A document as a test's id."""
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", document.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings]
    return {re.sub(r"\s", "-", heading.strip().lower()) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_at_most_3000_words(page: Path) -> None:
    """Tables that a program writes aside."""
    assert len(GENERATED.sub("", page.read_text()).split()) <= 3000


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_resolves(document: Path) -> None:
    """Files exist, and headings too where a link names one."""
    for target, anchor in LINK.findall(CODE.sub("", document.read_text())):
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}#{anchor}"


def test_the_site_contains_every_page() -> None:
    """The table of contents names each page of the folder, and no page that is not there."""

    def pages(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        parts = nav.values() if isinstance(nav, dict) else nav
        return [page for part in parts for page in pages(part)]  # type: ignore[attr-defined]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(pages(config["nav"])) == sorted(str(page.relative_to(DOCS)) for page in PAGES)
