"""The backends without a model: scripted and recorded answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from treeagent.backends.replay import ReplayBackend
from treeagent.backends.scripted import ScriptedBackend
from treeagent.errors import ConfigError, JournalError, NotRecordedError
from treeagent.reply import Completion, Reply, Scores, Usage
from treeagent.request import Key, Request, Sampling, ScoreRequest
from treeagent.runtime.journal import FORMAT, completion_event, scores_event

KEY = Key(0, "propose", "0")


def texts(reply):
    """The completions' texts in sample order."""
    return [completion.text for completion in reply.completions]


def ask(backend, *requests):
    async def run():
        return await asyncio.gather(*(backend.generate(request) for request in requests))

    return asyncio.run(run())


def test_a_function_answers_and_requests_are_kept():
    """The script may be a function of the request; what was asked can be looked at."""
    backend = ScriptedBackend(lambda request: f"echo {request.prompt}")
    request = Request("24", KEY, n=2)
    (reply,) = ask(backend, request)
    assert texts(reply) == ["echo 24", "echo 24"]
    assert backend.requests == [request]
    assert reply.usage == Usage(calls=1, prompt_tokens=1, completion_tokens=4)


def test_a_mapping_deals_its_texts_to_the_samples():
    """Texts of a list go to the samples in turn, whatever was asked before."""
    backend = ScriptedBackend({"24": ["a", "b"]})
    assert [texts(reply) for reply in ask(backend, *[Request("24", KEY, n=3)] * 2)] == [["a", "b", "a"]] * 2
    with pytest.raises(NotRecordedError, match="'25'"):
        ask(backend, Request("25\nmore", KEY))


def test_a_sequence_is_used_up_in_call_order():
    """Each call takes the next answer, even when requests complete in another order."""
    gates = {}

    async def order(request):
        await gates[request.prompt].wait()

    async def run():
        gates.update(first=asyncio.Event(), second=asyncio.Event())
        backend = ScriptedBackend(["one", ["two", "2"]], order=order)
        tasks = [asyncio.ensure_future(backend.generate(Request(prompt, KEY, n=2))) for prompt in gates]
        gates["second"].set()
        second = await tasks[1]
        assert not tasks[0].done()
        gates["first"].set()
        return texts(await tasks[0]), texts(second), backend

    first, second, backend = asyncio.run(run())
    assert (first, second) == (["one", "one"], ["two", "2"])
    with pytest.raises(NotRecordedError, match="used up"):
        asyncio.run(backend.generate(Request("first", KEY)))


def test_texts_end_like_a_models():
    """Scripted texts respect stop strings and the token limit, counted in words."""
    backend = ScriptedBackend(lambda request: "one two\nthree four")
    stopped, cut = ask(
        backend, Request("", KEY, Sampling(stop=("\n", "four"))), Request("", KEY, Sampling(max_tokens=3))
    )
    assert stopped.completions == (Completion("one two"),)
    assert cut.completions == (Completion("one two\nthree", finish="length"),)


def test_scores_come_from_a_function_and_are_declared():
    """Only a script with scores declares the capability."""
    backend = ScriptedBackend([], scores=lambda prompt, text: -float(len(text)))
    assert "score" in backend.capabilities
    assert asyncio.run(backend.score(ScoreRequest("24", ("a", "bb c")))) == Scores(
        (-1.0, -4.0), (1, 2), Usage(calls=1, prompt_tokens=4, completion_tokens=0)
    )
    assert "score" not in ScriptedBackend([]).capabilities


def test_rules_are_read_from_yaml(tmp_path):
    """From the command line a script is a YAML file of rules; the first that matches answers."""
    script = tmp_path / "script.yaml"
    script.write_text("- match: 'Numbers: 4 .*'\n  text: [a, b]\n- {match: Numbers, text: 24}\n")
    backend = ScriptedBackend.open(str(script), {})
    first, second = ask(backend, Request("Numbers: 4 5", KEY, n=2), Request("Numbers: 5", KEY))
    assert (texts(first), texts(second)) == (["a", "b"], ["24"])
    assert backend.describe() == {"name": "scripted", "model": str(script), "options": {}}
    with pytest.raises(NotRecordedError, match=r"no rule of .*script.yaml"):
        ask(backend, Request("other", KEY))


def test_every_fault_of_a_script_is_listed_with_its_line(tmp_path):
    """A script's faults come in one error with file, line and key."""
    script = tmp_path / "script.yaml"
    script.write_text("- match: '('\n  text: a\n- mach: b\n  text: c\n- just text\n- {match: a, text: {b: c}}\n")
    with pytest.raises(ConfigError) as caught:
        ScriptedBackend.open(str(script), {})
    places = [(problem.line, problem.key) for problem in caught.value.problems]
    assert places == [(1, "0.match"), (3, "1.mach"), (3, "1.match"), (5, "2"), (6, "3.text")]
    assert f"{script}:1:0.match: not a regular expression" in str(caught.value)


@pytest.mark.parametrize("content", ["just: a mapping", "- [", ""])
def test_what_is_no_script_is_a_configuration_error(tmp_path, content):
    """A file that is not a list of rules, or not YAML, is refused."""
    script = tmp_path / "script.yaml"
    script.write_text(content)
    with pytest.raises(ConfigError, match=r"script\.yaml"):
        ScriptedBackend.open(str(script), {})


def test_a_script_must_exist(tmp_path):
    """A missing file, or none at all, is refused."""
    with pytest.raises(ConfigError, match="cannot read"):
        ScriptedBackend.open(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigError, match="model="):
        ScriptedBackend.open(None, {})


REQUEST = Request("Numbers: 4 5 6\nSteps:\n", KEY, n=2)
REPLY = Reply((Completion("a", (1, 2)), Completion("b", None, "length")), Usage(1, 4, 3, None))
SCORING = ScoreRequest("24", ("sure", "likely"))
SCORES = Scores((-0.5, -1.25), (1, 1), Usage(1, 3, 0, 0.5))


@pytest.fixture
def journal(tmp_path):
    events = [
        completion_event(REQUEST.id, "propose", REQUEST.prompt, REPLY),
        scores_event(SCORING.id, SCORING.prompt, SCORES),
    ]
    lines = [{"type": "run", "format": FORMAT}, *({"type": event.type, **event.data} for event in events)]
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"type": "completion", "id": "to')
    return path


def test_replay_gives_the_recorded_answers(journal):
    """Replies and scores come back whole, with tokens, finish and usage; a torn last line is ignored."""
    backend = ReplayBackend.open(str(journal), {})
    assert ask(backend, REQUEST) == [REPLY]
    assert asyncio.run(backend.score(SCORING)) == SCORES


def test_replay_refuses_what_was_not_recorded(journal):
    """Another seed, prompt or setting is another request; the error shows the prompt's first line."""
    backend = ReplayBackend(journal)
    with pytest.raises(NotRecordedError, match="begins 'Numbers: 4 5 6' "):
        ask(backend, Request(REQUEST.prompt, Key(1, "propose", "0"), n=2))
    with pytest.raises(NotRecordedError, match="no scores"):
        asyncio.run(backend.score(ScoreRequest("24", ("sure",))))


def test_replay_needs_a_journal(tmp_path):
    """A missing file is a JournalError; no file at all is a ConfigError."""
    with pytest.raises(JournalError):
        ReplayBackend(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="model="):
        ReplayBackend.open(None, {})
