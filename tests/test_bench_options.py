"""Commands of the benchmark say the same things by the same options, and their help says in what units."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from treeagent.backends.bench import costs, draft_bound, hybrid, widen
from treeagent.backends.bench.early.__main__ import main as early
from treeagent.backends.bench.gpu.__main__ import main as gpu

COMMANDS: dict[str, Callable[..., Any]] = {
    "early": early, "gpu": gpu, "hybrid": hybrid.main, "widen": widen.main, "costs": costs.main,
    "draft_bound": draft_bound.main,
}  # fmt: skip
COMMON = ("--model", "--out", "--threads", "--repeat", "--budget", "--device", "--max-tokens")
OTHER_NAMES = ("--json", "--repeats", "--seconds", "--output", "--limit", "--tokenizer", "--cores")
"""Of what the common options say."""


def help_of(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The text of each option, on one line."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name]()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    return {found[1]: found[0].strip() for line in lines if (found := re.match(r"  (--[a-z-]+)\b.*", line))}


def test_common_options_have_one_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from defaults, and from what is written or which models there are."""
    seen: dict[str, set[str]] = {}
    for name in COMMANDS:
        options = help_of(name, capsys, monkeypatch)
        assert not set(OTHER_NAMES) & set(options), name
        for option in set(COMMON) & set(options):
            seen.setdefault(option, set()).add(re.sub(r"\(default: [^)]*\)|\s+", " ", options[option]).strip())
    assert set(seen) == set(COMMON)
    for option in ("--threads", "--budget", "--device", "--max-tokens"):
        assert len(seen[option]) == 1, seen[option]
    assert all("--model MODEL" in text for text in seen["--model"])
    assert all("--out PATH" in text for text in seen["--out"])
    assert all("--repeat N" in text for text in seen["--repeat"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_with_a_value_says_what_it_is(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than its default; times in seconds, texts in tokens."""
    for option, text in help_of(name, capsys, monkeypatch).items():
        said = re.sub(r"\(?default:.*", "", text.partition("  ")[2]).strip()
        assert said, f"{name} {option}: {text}"
        if option == "--budget":
            assert "seconds" in said
        if "tokens" in option:
            assert "token" in said


@pytest.mark.parametrize(
    "words", [["--threads", "0"], ["--repeat", "-1"], ["--repeat", "two"], ["--max-tokens", "1.5"]]
)
def test_numbers_that_cannot_be_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By the parser, before anything is loaded."""
    with pytest.raises(SystemExit) as ended:
        hybrid.main([*words, "--out", "x.json"])
    assert ended.value.code == 2
    assert "expected a whole number from 1 on" in capsys.readouterr().err
