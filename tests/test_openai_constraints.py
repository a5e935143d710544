"""Constraints in backend ``openai``: the field of each kind of server, refusals, and servers that ignore them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import Answer, Listen, Model, Server

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.gbnf import regex_grammar
from treeagent.backends.scripted import ScriptedBackend
from treeagent.constraint import Constraint
from treeagent.errors import BackendError
from treeagent.reply import Reply
from treeagent.request import Key, Request, Sampling

REGEX, YES_NO = Constraint("regex", r"\d{1,2}\n"), Constraint.of_choices(["yes", "n.o"])
SCHEMA = Constraint("json_schema", '{"type": "integer"}')
_FORMAT = {"type": "json_schema", "json_schema": {"name": "completion", "schema": {"type": "integer"}, "strict": True}}


class Obedient(Model):
    """Answers with one text and the reason ``stop``."""

    answer = "yes"

    def complete(self, body: dict[str, Any], prompt: Any) -> Answer:
        """As the constraint says, if ``answer`` does."""
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": self.answer}}
        return Answer({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


def _ask(server: Server, constraint: Constraint, **more: Any) -> Reply:
    """The reply to a request with a constraint."""

    async def ask() -> Reply:
        backend = OpenAIBackend(base_url=server.url, chat=True, score="none")
        try:
            return await backend.generate(Request("q", Key(0, "value", "0"), Sampling(constraint=constraint, **more)))
        finally:
            await backend.aclose()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("owner", "constraint", "text", "fields"),
    [
        ("vllm", YES_NO, "yes", {"structured_outputs": {"choice": ["yes", "n.o"]}, "guided_choice": ["yes", "n.o"]}),
        ("vllm", REGEX, "12\n", {"structured_outputs": {"regex": r"\d{1,2}\n"}, "guided_regex": r"\d{1,2}\n"}),
        ("vllm", SCHEMA, "3", {"structured_outputs": {"json": {"type": "integer"}}}),
        ("sglang", YES_NO, "n.o", {"regex": r"(yes|n\.o)"}),
        ("llamacpp", YES_NO, "yes", {"grammar": 'root ::= "yes" | "n.o"'}),
        ("llamacpp", REGEX, "7\n", {"grammar": 'root ::= ([0-9]){1,2} "\\U0000000A"'}),
        ("llamacpp", SCHEMA, "3", {"response_format": _FORMAT}),
        ("somebody", SCHEMA, "3", {"response_format": _FORMAT}),
    ],
)
def test_each_kind_of_server_gets_its_field(
    listen: Listen, owner: str, constraint: Constraint, text: str, fields: dict[str, Any]
) -> None:
    """A constraint goes into the field that the kind of server reads."""
    model = Obedient(owner)
    model.answer = text
    server = listen(model)
    assert _ask(server, constraint).completions[0].text == text
    body = server.bodies[-1]
    assert {name: body[name] for name in fields} == fields


def test_what_a_server_cannot_keep_is_refused_before_it_is_asked(listen: Listen) -> None:
    """A server without regular expressions, a pattern with look-ahead and a field given twice cost no request."""
    hosted, llama = listen(Obedient("somebody")), listen(Obedient("llamacpp"))
    with pytest.raises(BackendError, match="'hosted' takes no constraint of kind 'regex'"):
        _ask(hosted, REGEX)
    with pytest.raises(BackendError, match="is not understood"):
        _ask(llama, Constraint("regex", "a(?=b)"))
    with pytest.raises(BackendError, match="'grammar', which is the field"):
        _ask(llama, YES_NO, extra_body={"grammar": "root ::= [a]"})
    assert not hosted.bodies
    assert not llama.bodies


@pytest.mark.parametrize("constraint", [REGEX, YES_NO, SCHEMA])
def test_a_server_that_ignores_a_constraint_is_found_out(listen: Listen, constraint: Constraint) -> None:
    """A whole text that the constraint does not allow is an error, not an answer."""
    model = Obedient("vllm")
    model.answer = "Well, yes"
    with pytest.raises(BackendError, match="did not keep the constraint"):
        _ask(listen(model), constraint)


def test_the_grammar_of_a_regular_expression() -> None:
    """Branches, classes and repetitions are written as llama.cpp reads them; what it cannot say is refused."""
    assert regex_grammar("(?:ab|c)?[^x]+.") == 'root ::= (("a" "b" | "c")){0,1} ([^x]){1,} [^\\n]'
    for source in (r"(a)\1", "^a", "(?i)a", r"[\D1]", "("):
        with pytest.raises(ValueError, match=r"grammar|regular expression"):
            regex_grammar(source)


def test_a_script_refuses_a_constraint() -> None:
    """A script would answer without it."""
    request = Request("q", Key(0, "value", "0"), Sampling(constraint=YES_NO))
    with pytest.raises(BackendError, match="constraint"):
        asyncio.run(ScriptedBackend(["yes"]).generate(request))
