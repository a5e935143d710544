"""Contrast of the pages' colours (WCAG 2.2, level AA): 4.5:1 for texts, 3:1 for lines, in light and in dark."""

from __future__ import annotations

import re
from importlib import resources
from itertools import product

import pytest

CSS = resources.files("treeagent.viewer").joinpath("colours.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)
TEXTS = [
    *product(("ink", "faint", "gone", "bad", "differ", "path", "mark"), ("paper", "panel")),
    ("ink", "drafted"), ("on", "line"),
]  # fmt: skip
"""Texts and what they stand on; those on the hatch of unknown values stand on its lines."""
LINES = [
    *product(("line", "edge", "path", "mark", "gone", "differ", "hit"), ("paper", "panel")),
    *((f"role-{number}", "panel") for number in range(7)), ("path", "drafted"),
]  # fmt: skip


def parts(colour: str) -> list[int]:
    """Red, green, blue."""
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def mixed(one: str, other: str, share: float) -> str:
    """As ``drawing.js`` mixes."""
    pairs = zip(parts(one), parts(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def ratio(one: str, other: str) -> float:
    """From 1 (equal) to 21 (black on white)."""

    def light(colour: str) -> float:
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in (number / 255 for number in parts(colour))
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_and_lines_can_be_seen(colours: dict[str, str]) -> None:
    """Every pair that the page puts on each other, and labels on each of the 17 colours of a value, pale ones too."""
    assert ratio("#000000", "#ffffff") == pytest.approx(21)
    assert ratio("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)
    ranks = [mixed(colours["poor"], colours["fair"], step / 8) for step in range(9)]
    ranks += [mixed(colours["fair"], colours["good"], step / 8) for step in range(1, 9)]
    pale = [mixed(colours["paper"], rank, 0.45) for rank in ranks]
    poor = [pair for pair in TEXTS if ratio(*(colours[name] for name in pair)) < 4.5]
    poor += [pair for pair in LINES if ratio(*(colours[name] for name in pair)) < 3]
    poor += [(name, ground) for name in ("on", "soft") for ground in ranks if ratio(colours[name], ground) < 4.5]
    poor += [("soft", ground) for ground in pale if ratio(colours["soft"], ground) < 4.5]
    assert poor == []


def test_light_and_dark_have_the_same_names() -> None:
    """A colour that one of them lacked would be that of the other."""
    assert LIGHT.keys() == DARK.keys()
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) <= LIGHT.keys()
