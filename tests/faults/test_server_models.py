"""The model that a server has: its name, its address, and when it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import Answer, Asked, Listen, Model, error
from server_replies import SECRET, backend_at, said, wanted

from treeagent import Agent
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.errors import BackendError, CapabilityError, ModelError

# Models


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "toyshop"])
def test_a_model_that_the_server_does_not_list_is_refused(listen: Listen, owner: str) -> None:
    """Also where the server would answer with another one; the nearest name is offered."""

    def lax(asked: Asked) -> Answer:
        if asked.body and "model" in asked.body:
            asked.body["model"] = "toy"
        return Model(owner)(asked)

    server = listen(lax)
    with pytest.raises(ModelError, match=r"/models: the server has no model 'tay'. Did you mean 'toy'\?"):
        OpenAIBackend("tay", base_url=server.url).load()
    if owner == "llamacpp":
        with pytest.raises(ModelError, match="no model 'tay'"):
            OpenAIBackend("tay", base_url=server.url, server="llamacpp", chat=True, score="none").load()


@pytest.mark.parametrize(
    ("name", "listed"),
    [("qwen", {"id": "qwen:latest"}), ("some/model:free", {"id": "some/model"}), ("openai/x", {"id": "openai/*"}),
     ("m", {"id": "/models/m.gguf", "aliases": ["m"]}), ("org/m", {"id": "m", "root": "org/m"})],
)  # fmt: skip
def test_other_names_of_a_model_are_known(listen: Listen, name: str, listed: dict[str, Any]) -> None:
    """Tags, variants, patterns and aliases."""

    def server(asked: Asked) -> Answer:
        return Answer({"data": [listed]} if asked.path == "/v1/models" else said("a"))

    OpenAIBackend(name, base_url=listen(server).url, chat=True, score="none").load()


@pytest.mark.parametrize("models", [error(404, "no"), error(405, "no"), Answer({"data": None}), Answer({"data": [3]})])
def test_a_server_without_a_list_may_have_any_model(listen: Listen, models: Answer) -> None:
    """Nothing can be said of the name then."""
    server = listen(lambda asked: models if asked.path == "/v1/models" else Answer(said("a")))
    OpenAIBackend("any", base_url=server.url, chat=True, score="none").load()


def test_a_base_url_without_v1_is_suspected(listen: Listen) -> None:
    """Where the server answers something that is no completion."""
    url = listen(lambda asked: Answer({"message": "welcome"})).url.removesuffix("/v1")
    with pytest.raises(BackendError, match=r"has no 'choices'.*lack the ending /v1"):
        asyncio.run(backend_at(url).generate(wanted()))


# Agents


def test_an_agent_asks_no_server_anything(listen: Listen) -> None:
    """Until it runs; the journal then names the model that the server has."""
    server = listen(Model("system", completions=False, logprobs=False))
    options = {"backend.base_url": server.url}
    agent = Agent("game24", "greedy", backend="openai", options=options)
    choosing = Agent("game24", "greedy", backend="openai", evaluator="choice", options=options)
    assert server.asked == []
    assert agent.settings["backend"]["model"] is None
    events: list[Any] = []
    result = agent.solve("4 9 10 13", on_event=events.append)
    assert events[0].type == "run"
    assert events[0].data["settings"]["backend"]["model"] == "toy"
    assert result.settings["backend"]["model"] == "toy"
    with pytest.raises(CapabilityError, match="'choice' needs score"):
        choosing.solve("4 9 10 13")
    with pytest.raises(CapabilityError, match="needs score"):
        Agent("game24", backend="openai", evaluator="choice", options={**options, "backend.score": "none"})


def test_an_evaluation_records_the_model_that_the_server_has(listen: Listen) -> None:
    """It asks before it writes its settings, by which it is continued."""
    url = listen(Model("system", completions=False)).url
    agent = Agent("game24", "greedy", backend="openai", options={"backend.base_url": url})
    agent.find_models()
    assert agent.settings["backend"]["model"] == "toy"


def test_a_server_that_is_down_fails_the_run_and_not_the_agent(listen: Listen) -> None:
    """The events begin with the settings all the same."""
    backend = backend_at("http://127.0.0.1:9/v1", chat=None, attempts=1)
    events: list[Any] = []
    with pytest.raises(BackendError, match="cannot connect"):
        Agent("game24", "greedy", backend=backend).solve("4 9 10 13", on_event=events.append)
    assert [event.type for event in events] == ["run", "failed", "end"]


# Azure


def test_a_query_and_another_header_for_the_key_are_options(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Azure's older addresses want them; the query holds no secret."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = listen(lambda asked: Answer(said("a")))
    backend = backend_at(server.url, query="api-version=2024-10-21", key_header="api-key")
    asyncio.run(backend.generate(wanted()))
    [asked] = server.asked
    assert asked.path == "/v1/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == SECRET
    assert "authorization" not in asked.headers
