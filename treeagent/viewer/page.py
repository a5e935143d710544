"""The HTML page: markup, style and script in one file, with the runs as inert data.

The output of a model remains data. It is stored as JSON in which every character that could end a script element or
start markup is escaped, and the script inserts it as text only. The content security policy of the page allows this
script and this style by their digests and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from ..display.text import printable
from ..jsonl import strict
from .diff import diff
from .run_data import RunData

SCRIPTS = (
    "text.js", "data.js", "layout.js", "camera.js", "drawing.js", "replies.js", "details.js", "timeline.js", "main.js",
)  # fmt: skip
"""Parts of the script, in the order of their concatenation."""
FOLLOW = "follow.js"
"""The part that follows a run in progress."""
_CONNECT = "connect-src 'self'; "
GENERATOR = '<meta name="generator" content="treeagent view">'
"""Marks a page of this command, which may be overwritten."""


def page(runs: Sequence[RunData], *, follow: bool = False) -> str:
    """The page of one run, or of two side by side; ASCII only.

    With ``follow`` the page of a run in progress asks for its data at its own address, ``/data`` appended.
    """
    data = [data_block(f"tree-{number}", run.tree) for number, run in enumerate(runs)]
    data += [data_block(f"replies-{number}", run.replies) for number, run in enumerate(runs)]
    if len(runs) == 2:
        data.append(data_block("diff", diff(*runs)))
    names = " | ".join(printable(run.name, keep="") for run in runs)
    scripts = (*SCRIPTS, *([FOLLOW] if follow else ()))
    return assembled("page.html", ("colours.css", "page.css"), scripts, names, data, connect=_CONNECT if follow else "")


def assembled(
    markup: str, styles: Sequence[str], scripts: Sequence[str], title: str, data: Sequence[str], *, connect: str = ""
) -> str:
    """One HTML file of parts of this folder and of blocks of :func:`data_block`; ASCII only."""
    style = "".join(map(_part, styles))
    script = f'"use strict";\n(() => {{\n{"".join(map(_part, scripts))}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        f"{connect}base-uri 'none'; form-action 'none'"
    )
    parts = {
        "<!-- generator -->": GENERATOR,
        "<!-- policy -->": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<!-- title -->": f"<title>{escape(title)} - treeagent</title>",
        "<!-- style -->": f"<style>{style}</style>",
        "<!-- script -->": f"<script>{script}</script>",
        "<!-- data -->": "\n".join(data),
    }
    text = _part(markup)
    for mark, part in parts.items():
        before, after = text.split(mark, 1)
        text = before + part + after
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="ascii")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_block(id: str, value: Any) -> str:
    """A value as inert data, which the script reads by its id."""
    return f'<script type="application/json" id="{id}">{inert(value)}</script>'


def inert(value: Any) -> str:
    """JSON that is safe inside HTML: ASCII, without ``<``, ``>`` and ``&``; infinities and NaN are unknown."""
    text = strict(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
