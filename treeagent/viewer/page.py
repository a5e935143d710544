"""The page itself: markup, style and script in one file, with the runs as inert data.

What a model said is data and stays data: it travels as JSON in which every character that could end a script element
or start markup is escaped, and the script shows it as text only. The policy in the page's head allows this one script
and this one style by their digests, and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from .diff import parting
from .run_data import RunData

SCRIPTS = (
    "text.js", "data.js", "layout.js", "camera.js", "drawing.js", "replies.js", "details.js", "timeline.js", "main.js",
)  # fmt: skip
"""Parts of the script, in the order in which they are joined."""
GENERATOR = '<meta name="generator" content="treeagent view">'
"""By this a page is known as ours, and may be written anew."""


def page(stories: Sequence[RunData]) -> str:
    """The page of one run, or of two side by side; ASCII only."""
    style, script = _part("page.css"), "".join(map(_part, SCRIPTS))
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    data = [_data(f"tree-{number}", story.tree) for number, story in enumerate(stories)]
    data += [_data(f"replies-{number}", story.replies) for number, story in enumerate(stories)]
    if len(stories) == 2:
        data.append(_data("parting", parting(*stories)))
    names = " | ".join(_printable(story.name) for story in stories)
    parts = {
        "<!-- generator -->": GENERATOR,
        "<!-- policy -->": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<!-- title -->": f"<title>{escape(names)} - treeagent</title>",
        "<!-- style -->": f"<style>{style}</style>",
        "<!-- script -->": f"<script>{script}</script>",
        "<!-- data -->": "\n".join(data),
    }
    text = _part("page.html")
    for mark, part in parts.items():
        before, after = text.split(mark, 1)
        text = before + part + after
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="ascii")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(id: str, value: Any) -> str:
    return f'<script type="application/json" id="{id}">{inert(value)}</script>'


def inert(value: Any) -> str:
    """JSON that no parser of HTML can take for anything else: ASCII, without ``<``, ``>`` and ``&``.

    Numbers that JSON has no word for become text.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
