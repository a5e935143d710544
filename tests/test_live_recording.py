"""The recording of ``--live`` in the README, and the program that makes it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

from rich.text import Text

DOCS = Path(__file__).parents[1] / "docs"


def test_frames_become_one_animated_image() -> None:
    """Each frame is shown in its own part of the time, and the last one where there is no animation."""
    spec = importlib.util.spec_from_file_location("record_live", DOCS / "record_live.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    frames = [Text("one"), Text("one\ntwo"), Text("three")]
    image = program.animation([program.svg(frame, number, "title") for number, frame in enumerate(frames)])
    root = ElementTree.fromstring(image)  # noqa: S314  made here
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == len(frames)
    shown = [
        (float(start), float(end)) for start, end in re.findall(r"([\d.]+)% \{visibility: visible\} ([\d.]+)%", image)
    ]
    assert shown == sorted(shown)
    assert "#frame2 {visibility: visible}" in image


def test_the_recording_is_self_contained() -> None:
    """It is well-formed, has several frames, and loads nothing from elsewhere."""
    image = (DOCS / "live.svg").read_text()
    root = ElementTree.fromstring(image)  # noqa: S314  our own file
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) > 3
    assert not re.search(r"url\(['\"]?http|href=", image)
