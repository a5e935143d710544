"""What the site needs beyond its files: the package as it is installed, and no links to files outside ``docs``."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[1]
FOLDERS = ("strategies", "tasks", "backends", "prompts")
"""Folders of the checkout that are installed inside the package."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)([^)#\s]+)[^)]*\)")


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """Show the package to mkdocstrings as it is installed: the checkout keeps four of its folders outside it."""
    installed = Path(tempfile.mkdtemp()) / "treeagent"
    installed.mkdir()
    for path in [*(ROOT / "treeagent").iterdir(), *(ROOT / folder for folder in FOLDERS)]:
        (installed / path.name).symlink_to(path)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(installed.parent)]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside ``docs``, which the site does not contain, by their text."""
    docs, folder = Path(config.docs_dir).resolve(), Path(page.file.abs_src_path).parent

    def text_only(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        return link[0] if target.is_relative_to(docs) or not target.exists() else link[1]

    return LINK.sub(text_only, markdown)
