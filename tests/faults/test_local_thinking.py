"""Models in this process that think: stop strings do not end the thinking, and tokens stay those of the whole text."""

from __future__ import annotations

import asyncio

import pytest

from treeagent.backends.local.sample import Sample, ThinkingEnd
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.errors import ConfigError, RequestRefusedError
from treeagent.reasoning import Thinking
from treeagent.reply import Completion
from treeagent.request import Key, Request, Sampling

MARKS = Thinking("<think>", "</think>")
EOS = frozenset({0})


def completed(
    text: str, stop: tuple[str, ...] = (), prompt: str = "go\n", limit: int = 999, end: ThinkingEnd | None = None
) -> tuple[Completion, int]:
    """The completion of a model that says this text, a character a token, and how many tokens it needed."""

    def decode(tokens):  # type: ignore[no-untyped-def]  # as the detokenizer calls it
        return "".join(map(chr, tokens))

    sample = Sample(
        tuple(map(ord, prompt)), Sampling(stop=stop), 0, limit, decode, thinking=MARKS.after(prompt), end=end
    )  # fmt: skip
    sample.mark_drafted(len(text))
    taken = 0
    for letter in [*text, "\0"]:
        if sample.completion is not None:
            break
        sample.accept(ord(letter), EOS)
        taken += 1
    assert sample.completion is not None
    return sample.completion, taken


WHOLE = "<think>\nPerhaps 4 * 9.\n\nNo.\n</think>\n\n4 + 9 = 13\n\nmore"


@pytest.mark.parametrize("stop", [("\n\n",), ("= ", "\n\n"), ("9",), ()])
def test_stop_strings_end_what_is_said_and_not_what_is_thought(stop: tuple[str, ...]) -> None:
    """As soon as one is complete; without any the text goes on to its end."""
    completion, taken = completed(WHOLE, stop)
    said = "4 + 9 = 13\n\nmore"
    cuts = [said.find(mark) for mark in stop]
    text = said[: min(cuts, default=None)]
    assert completion.text == text
    assert completion.reasoning == "Perhaps 4 * 9.\n\nNo."
    assert completion.finish == "stop"
    if stop:
        end = WHOLE.index(said) + len(text)
        longest = next(mark for mark in stop if said.startswith(mark, len(text)))
        assert taken == end + len(longest)


def test_tokens_are_those_of_the_whole_text() -> None:
    """Thinking included; their ends are offsets in the text, where thinking has no width."""
    completion, _ = completed(WHOLE, ("\n\n",))
    thought = WHOLE.index("4 + 9")
    assert completion.tokens == tuple(map(ord, WHOLE[: thought + len("4 + 9 = 13")]))
    assert completion.ends == (0,) * thought + tuple(range(1, 11))


@pytest.mark.parametrize("stop", [(), ("\n\n",)])
def test_thinking_that_the_limit_cuts_off_is_no_text(stop: tuple[str, ...]) -> None:
    """Neither after an opening mark nor after a prompt that holds it."""
    for text, prompt in (("<think>\nPerhaps\n\nso", "go\n"), ("Perhaps\n\nso", "go\n<think>\n")):
        completion, _ = completed(text, stop, prompt, limit=len(text))
        assert (completion.text, completion.finish, completion.reasoning) == ("", "length", "Perhaps\n\nso")


@pytest.mark.parametrize("budget", [3, 9, 30, 36, 99])
def test_thinking_over_its_number_of_tokens_is_ended(budget: int) -> None:
    """Once, where it is still open then; the mark that is drawn later is text of the model and thinking as well."""
    end = ThinkingEnd(budget, tuple(map(ord, "\n</think>\n\n")))
    completion, _ = completed(WHOLE, ("\n\n4",), end=end)
    assert completion.tokens is not None
    written = "".join(map(chr, completion.tokens))
    over = budget < WHOLE.index("</think>") + len("</think>")
    assert written[budget : budget + 11] == "\n</think>\n\n" if over else written == WHOLE[: len(written)]
    assert completion.reasoning is not None
    assert "4 + 9 = 13" not in completion.reasoning


def test_a_prompt_may_open_the_thinking() -> None:
    """As templates of reasoning models do."""
    completion, _ = completed("Hm.\n\nSo.\n</think>\n\nsure\n\nmore", ("\n\n",), "go\n<think>\n")
    assert (completion.text, completion.reasoning) == ("sure", "Hm.\n\nSo.")


@pytest.mark.parametrize("text", ["4 < 9\n\nmore", "<b>4</b>\n\nmore", "\n4\n\nmore", "<", "", "<thi"])
def test_a_text_without_thinking_is_as_it_was(text: str) -> None:
    """Token for token, also where it begins as a mark does."""
    completion, _ = completed(text, ("\n\n",))
    assert completion.text == text.partition("\n\n")[0]
    assert completion.reasoning is None
    assert completion.tokens == tuple(map(ord, completion.text))


@pytest.mark.parametrize("backend", [SeedBackend, TransformersBackend])
def test_the_marks_are_an_option_of_both_backends(backend: type[SeedBackend | TransformersBackend]) -> None:
    """In the journal where they are not the usual ones."""
    assert "thinking" not in backend.open("mini", {}).describe()["options"]
    options = backend.open("mini", {"thinking": "[THINK] [/THINK]"}).describe()["options"]
    assert options["thinking"] == "[THINK] [/THINK]"
    assert backend.open("mini", options).describe()["options"] == options
    with pytest.raises(ConfigError, match="two different marks"):
        backend.open("mini", {"thinking": "<think>"})


@pytest.mark.parametrize("backend", [SeedBackend, TransformersBackend])
def test_a_prompt_beyond_the_context_is_refused_alone(backend: type[SeedBackend | TransformersBackend]) -> None:
    """Others can be answered, so it ends its branch and not the search."""
    opened = backend("mini", device="cpu")
    with pytest.raises(RequestRefusedError, match="the prompt is too long"):
        asyncio.run(opened.generate(Request("1 " * 5000, Key(0, "a", "0"), Sampling(max_tokens=2))))
    assert asyncio.run(opened.generate(Request("1 ", Key(0, "a", "0"), Sampling(max_tokens=2)))).completions
