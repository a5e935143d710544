"""Chat templates in this process: messages, arguments, thinking on, off and limited, and what ends a text."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from draft_trees import Trees
from tiny_model import save_tiny_model, tokenizer

from treeagent import Backend, BackendError, Chat, Message, Reply, Request, Sampling, ScoreRequest
from treeagent.backends.models.tokenizer import ChatTokenizer, load_tokenizer
from treeagent.backends.seed.backend import SeedBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.reasoning import Thinking
from treeagent.request import Key

MARKS = Thinking("<think>", "</think>")
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}{{ style }}{% endif %}"
)
BEFORE = (Message("system", "Be brief."), Message("user", "1"), Message("assistant", "2"))


def model(folder: Path, template: str = TEMPLATE, **how: Any) -> str:
    """A tiny model with a chat template and a special token that ends each message."""
    save_tiny_model(folder, chat=True, **how)
    made = tokenizer(chat=True)
    made.chat_template = template
    made.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    made.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that writes random texts to their limit."""
    return model(tmp_path_factory.mktemp("model"))


def rendered(text: ChatTokenizer, chat: Chat) -> str:
    """What the model reads, with its special tokens."""
    return str(text.tokenizer.decode(text.prompt("3", chat)))


def test_all_messages_and_arguments_pass_through_the_template(folder: str) -> None:
    """The prompt is the last message of the user."""
    text = load_tokenizer(folder)
    assert rendered(text, Chat(BEFORE)).endswith(
        "[system]Be brief.<|end|>[user]1<|end|>[assistant]2<|end|>[user]3<|end|>[assistant]"
    )
    assert rendered(text, Chat(thinking=True)).endswith("[assistant]<think>\n")
    assert rendered(text, Chat(thinking=9)).endswith("[assistant]<think>\n")
    assert rendered(text, Chat(thinking=False)).endswith("[assistant]")
    assert rendered(text, Chat(template={"style": "short"})).endswith("[assistant]short")


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (Chat(template={"stile": 1}), "reads no argument 'stile'. Did you mean 'style'?"),
        (Chat((Message("tool", "x"),)), "refuses the messages: no tools"),  # type: ignore[arg-type]  # a wrong role
    ],
)
def test_what_a_template_does_not_take_is_an_error(folder: str, chat: Chat, words: str) -> None:
    """It would change nothing, in silence."""
    with pytest.raises(BackendError) as caught:
        load_tokenizer(folder).prompt("3", chat)
    assert words in str(caught.value)


def test_thinking_that_a_template_always_opens_cannot_be_switched_off() -> None:
    """Where a template has no thinking at all there is nothing to switch off."""
    made = tokenizer(chat=True)
    text = ChatTokenizer(made, chat=True, thinking=MARKS)
    assert text.prompt("3", Chat(thinking=False)) == text.prompt("3")
    made.chat_template = "{{ messages[-1].content }}<think>"
    with pytest.raises(BackendError, match="cannot switch it off"):
        text.prompt("3", Chat(thinking=False))
    with pytest.raises(BackendError, match="need a chat"):
        ChatTokenizer(made, chat=False).prompt("3", Chat(BEFORE))


def test_texts_end_where_the_tokenizer_or_the_template_says_so(folder: str) -> None:
    """The token after an answer in the template; without the template only the tokenizer's own."""
    text, plain = load_tokenizer(folder), load_tokenizer(folder, chat=False)
    end = text.tokenizer.convert_tokens_to_ids("<|end|>")
    assert text.ends == {0, end}
    assert plain.ends == {0}
    assert ChatTokenizer(tokenizer(chat=True), chat=True).ends == {0}


@pytest.mark.parametrize("kind", [SeedBackend, TransformersBackend])
def test_both_backends_end_texts_there(tmp_path: Path, kind: type[SeedBackend | TransformersBackend]) -> None:
    """A model that draws nothing but this token writes nothing."""
    import torch
    from transformers import LlamaForCausalLM

    where = model(tmp_path)
    network = LlamaForCausalLM.from_pretrained(where, trust_remote_code=False)
    end = load_tokenizer(where).tokenizer.convert_tokens_to_ids("<|end|>")
    with torch.no_grad():  # every state is made of ones, and the weights of one token alone look at it
        network.model.embed_tokens.weight.fill_(1.0)
        network.lm_head.weight.zero_()
        network.lm_head.weight[end] = 1.0
    network.save_pretrained(where)
    request = Request("3", Key(0, "a", "0"), Sampling(max_tokens=5))
    for chat, tokens in ((None, 0), (False, 5)):
        [completion] = _ask(kind(where, device="cpu", chat=chat), request).completions
        assert completion.tokens is not None
        assert len(completion.tokens) == tokens


def _ask(backend: Backend, request: Request) -> Reply:
    async def answer() -> Reply:
        reply = await backend.generate(request)
        await backend.aclose()
        return reply

    return asyncio.run(answer())


@pytest.mark.parametrize("stop", [(), ("\n\n",)])
@pytest.mark.parametrize(("temperature", "limit"), [(0.0, 6), (0.0, 21), (0.0, 22), (1.0, 5), (1.0, 6)])
def test_a_number_of_tokens_ends_thinking_in_both_backends_alike(
    folder: str, stop: tuple[str, ...], temperature: float, limit: int
) -> None:
    """The closing mark is written after so many tokens, within accepted drafts as well; what follows is the text."""
    sampling = Sampling(temperature, max_tokens=limit + 60, stop=stop, thinking=limit)
    request = Request("3", Key(5, "propose", "0"), sampling, n=3)
    plain = _ask(TransformersBackend(folder, device="cpu", dtype="float64"), request)
    closing = load_tokenizer(folder)._codec.encode("\n</think>\n\n", add_special_tokens=False)
    free = Request("3", request.key, replace(sampling, thinking=True, stop=()), n=3)
    unlimited = _ask(TransformersBackend(folder, device="cpu", dtype="float64"), free)
    truth = {request.key.stream(i): one.tokens or () for i, one in enumerate(unlimited.completions)}
    accepted = 0
    for drafter in ("none", "ngram", lambda: Trees(truth, hit=1.0)):
        backend = SeedBackend(folder, device="cpu", dtype="float64", drafter=drafter, draft_tokens=6)
        drafted = _ask(backend, request)
        assert [one.tokens for one in drafted.completions] == [one.tokens for one in plain.completions]
        assert [one.reasoning for one in drafted.completions] == [one.reasoning for one in plain.completions]
        assert drafted.usage == plain.usage
        places = {place for one in drafted.completions for place in one.drafted or ()}
        assert not places & set(range(limit, limit + len(closing)))
        accepted += len(places & set(range(limit)))
    assert accepted
    for completion in plain.completions:
        assert completion.tokens is not None
        assert completion.reasoning is not None
        assert list(completion.tokens[limit : limit + len(closing)]) == closing
        assert completion.logprob is None
        assert "</think>" not in completion.text
    assert plain.usage.reasoning_tokens == 3 * (limit + len(closing))


@pytest.mark.parametrize("marks", ["<think> </think>", "<x> </x>"])
def test_only_thinking_is_ended(folder: str, marks: str) -> None:
    """A text without it may be as long as it is, whatever the number."""
    backend = TransformersBackend(folder, device="cpu", thinking=marks)
    [completion] = _ask(backend, Request("3", Key(5, "a", "0"), Sampling(1.0, max_tokens=40, thinking=3))).completions
    assert (completion.reasoning is None) == (marks == "<x> </x>")
    assert (completion.logprob is None) == (marks != "<x> </x>")


def test_reasoning_tokens_are_counted_without_a_limit_too(folder: str) -> None:
    """All of them, where thinking is cut off."""
    reply = _ask(
        TransformersBackend(folder, device="cpu"),
        Request("3", Key(5, "a", "0"), Sampling(1.0, max_tokens=9, thinking=True)),
    )
    assert reply.completions[0].text == ""
    assert reply.usage.reasoning_tokens == reply.usage.completion_tokens
    reply = _ask(TransformersBackend(folder, device="cpu"), Request("3", Key(5, "a", "0"), Sampling(1.0, max_tokens=9)))
    assert reply.usage.reasoning_tokens == 0


def test_labels_are_scored_after_all_messages(folder: str) -> None:
    """In both backends alike."""
    request = ScoreRequest("3", ("sure", "likely"), Chat(BEFORE, thinking=False))
    text = load_tokenizer(folder)
    [(given, _), _] = text.scored("3", ["sure", "likely"], request.chat)
    assert list(given) == text.prompt("3", request.chat)
    scores = [
        asyncio.run(kind(folder, device="cpu", dtype="float64").score(request)).logprobs
        for kind in (SeedBackend, TransformersBackend)
    ]
    assert scores[0] == pytest.approx(scores[1])
    other = asyncio.run(
        TransformersBackend(folder, device="cpu", dtype="float64").score(ScoreRequest("3", ("sure", "likely")))
    ).logprobs
    assert scores[1] != pytest.approx(other)
