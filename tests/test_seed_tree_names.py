"""Names of draft trees: their numbers, and what means nothing."""

from __future__ import annotations

import pytest

from treeagent.backends.seed.drafters.registry import MODEL, NAMES, TABLES, DrafterSpec
from treeagent.errors import ConfigError


def test_numbers_of_a_tree_are_read_from_its_name() -> None:
    """With what is usual where none are given."""
    assert DrafterSpec.parse("rsd-c:3x2x2") == DrafterSpec(None, "rsd-c", (3, 2, 2))
    assert DrafterSpec.parse("ngram+rsd-s:2x7") == DrafterSpec("ngram", "rsd-s", (2, 7))
    assert DrafterSpec.parse("rsd-s") == DrafterSpec(None, "rsd-s", (3, 2))
    assert DrafterSpec.parse("none") == DrafterSpec(None, None)
    assert DrafterSpec.parse("stand") == DrafterSpec("stand", None)
    assert DrafterSpec.parse("ngram+model") == DrafterSpec("ngram", "model")
    assert {name for name in NAMES if "+" in name} == {f"{table}+{name}" for table in TABLES for name in MODEL}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rsd", "no drafter 'rsd'. Did you mean"),
        ("rsd-c:2y2", "children of every level, such as 2x2x2, not '2y2'"),
        ("rsd-c:2x0", "not '2x0'"),
        ("rsd-s:3", "WIDTHxDEPTH, such as 3x4, not '3'"),
        ("model:4", "takes no numbers, not '4'"),
        ("rsd-c:9x9x9", "3 levels and 819 nodes"),
        ("rsd-s:2x17", "17 levels and 34 nodes"),
        ("model+ngram", "no drafter 'model\\+ngram'"),
        ("recycled", "Did you mean 'recycling'"),
        ("stand:4", "takes no numbers, not '4'"),
        ("stand+recycling", "no drafter 'stand\\+recycling'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, reason: str) -> None:
    """With what is wrong and what was expected."""
    with pytest.raises(ConfigError, match=reason):
        DrafterSpec.parse(name)


def test_drawing_with_replacement_needs_rejection() -> None:
    """Coupled siblings share one noise, so that they would all be the same."""
    with pytest.raises(ConfigError, match="verify=recursive"):
        DrafterSpec.parse("mcsd").shape(coupled=True)
