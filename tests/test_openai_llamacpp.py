"""The backend against a real server: llama.cpp from the package index, running the bundled model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from treeagent import Agent
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.transformers.backend import TransformersBackend
from treeagent.cli import app
from treeagent.errors import BackendError
from treeagent.request import Key, Request, Sampling, ScoreRequest
from treeagent.testing import BackendContract
from treeagent.testing.backend import SCORINGS

pytestmark = [
    pytest.mark.llamacpp,
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="no llama.cpp: pip install xllamacpp"),
]

NEAR = 0.03
"""llama.cpp keeps keys and values in 16 bits: logarithms of probabilities differ by this, of -100 by 1 in 1000."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base of the API of llama.cpp with ``mini``."""
    import mini_gguf

    target = Path(str(resources.files("treeagent.backends.mini"))) / "target"
    with mini_gguf.serving(mini_gguf.write(target, tmp_path_factory.mktemp("gguf") / "mini.gguf")) as base:
        yield base


class TestLlamaCpp(BackendContract):
    """A real server."""

    @pytest.fixture(autouse=True)
    def _url(self, url):
        self.url = url

    def open(self):
        return OpenAIBackend(base_url=self.url)


def test_a_puzzle_is_solved_on_the_command_line(url, tmp_path):
    """What the manual shows, word for word but for the address; the journal says how to open the backend again."""
    journal = tmp_path / "run.jsonl"
    words = ["solve", "--task", "game24", "--backend", "openai", "--set", f"backend.base_url={url}",
             "--input", "4 5 6 10", "--journal", str(journal), "--json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["solved"] is True
    assert result["usage"]["tokens"] > 0
    assert result["engine"]["http_requests"] > 0
    assert result["settings"]["backend"]["model"] == "mini"
    again = CliRunner().invoke(app, ["resume", str(journal), "--set", f"backend.base_url={url}", "--json"])
    assert json.loads(again.stdout)["answer"] == result["answer"]


def test_the_model_of_a_server_has_no_template_so_prompts_go_as_they_are(url):
    """llama.cpp would wrap them in ChatML, which this model has never seen."""
    backend = OpenAIBackend(base_url=url)
    assert backend.capabilities == {"generate", "score", "extra_body", "constraints"}


@pytest.mark.parametrize("evaluator", ["value", "choice"])
def test_the_tree_is_that_of_the_same_model_in_this_process(url, evaluator):
    """Greedy, so that no seed matters; the same weights in the same precision."""

    def grown(backend):
        tree = Agent("game24", "bfs", backend=backend, evaluator=evaluator).solve("4 9 10 13").tree
        return [(thought.path, thought.text, thought.judgement and thought.judgement.labels) for thought in tree]

    theirs, ours = grown(OpenAIBackend(base_url=url)), grown(TransformersBackend("mini", device="cpu"))
    assert len(theirs) > 10
    assert theirs == ours


def test_scores_are_those_of_the_same_model_in_this_process(url):
    """Likely and unlikely labels, of one token and of several, with the same number of tokens."""
    judged = "Can these numbers make 24? Say sure, likely or impossible.\nNumbers: 4 6\nAnswer:"
    for request in [*SCORINGS, ScoreRequest(judged, (" sure", " likely", " impossible"))]:
        theirs = asyncio.run(OpenAIBackend(base_url=url).score(request))
        ours = asyncio.run(TransformersBackend("mini", device="cpu").score(request))
        assert theirs.lengths == ours.lengths
        assert theirs.usage == ours.usage
        assert theirs.logprobs == pytest.approx(ours.logprobs, abs=NEAR, rel=1e-3)


def test_each_sample_is_counted_and_is_its_own(url):
    """llama.cpp's own count of several samples is that of one."""
    request = Request("Numbers: 4 9 10 13\nSteps:\n", Key(5, "sample", "0"), Sampling(1.5, max_tokens=20), n=4)
    reply = asyncio.run(OpenAIBackend(base_url=url).generate(request))
    assert reply.usage.completion_tokens is not None
    assert reply.usage.completion_tokens > 20
    assert len({completion.text for completion in reply.completions}) > 1


def test_its_refusals_are_one_clear_line(url):
    """As a real server words them."""
    with pytest.raises(BackendError, match=r"400 .*exceed.*context"):
        asyncio.run(OpenAIBackend(base_url=url).generate(Request("1 " * 3000, Key(0, "a", "0"))))
    lost = OpenAIBackend("m", base_url=url.replace("/v1", "/no"), chat=True, score="none")
    with pytest.raises(BackendError, match="does base_url lack the ending /v1"):
        asyncio.run(lost.generate(Request("1", Key(0, "a", "0"))))
