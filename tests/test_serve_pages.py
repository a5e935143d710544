"""``treeagent serve`` without a socket: its models, figures and pages, and the agents behind them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest
from serve_tools import CHAT, MODEL, agent, chat, client_of, post, service_of

from treeagent import ConfigError, PluginError, Task
from treeagent.server import recent_runs
from treeagent.server.agents import AgentMaker
from treeagent.server.served_models import open_models


def test_models_are_listed_and_looked_up() -> None:
    """As OpenAI's list."""

    async def work() -> None:
        async with client_of(service_of(agent(), agent(search="dfs"))) as client:
            listed = (await client.get("/v1/models")).json()
            assert [model["id"] for model in listed["data"]] == [MODEL, "synthetic/dfs"]
            assert (await client.get(f"/v1/models/{MODEL}")).json()["id"] == MODEL
            assert (await client.get("/v1/models/none")).status_code == 404

    asyncio.run(work())


def test_metrics_count_what_happened() -> None:
    """Searches by model and end, tokens, calls, replies by status, and a histogram of seconds."""

    async def work() -> None:
        service = service_of()
        async with client_of(service) as client:
            first = (await client.post(CHAT, json=chat())).json()
            await client.post(CHAT, json=chat("?"))
            text = (await client.get("/metrics")).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert values[f'treeagent_searches_total{{model="{MODEL}",ended="finished"}}'] == "1"
        assert values['treeagent_http_replies_total{status="400"}'] == "1"
        assert values['treeagent_tokens_total{kind="prompt"}'] == str(first["usage"]["prompt_tokens"])
        assert values['treeagent_search_seconds_bucket{le="+Inf"}'] == values["treeagent_search_seconds_count"] == "1"
        assert values["treeagent_searches_running"] == "0"

    asyncio.run(work())


def test_pages_list_the_last_searches_and_show_each() -> None:
    """Older ones are forgotten, and the page of a search that has ended follows nothing."""
    texts = [thought.text for thought in agent(seed=2).solve("r").tree]

    async def work() -> httpx.Response:
        service = service_of(kept=2)
        async with client_of(service) as client:
            ids = [(await client.post(CHAT, json=chat(seed=seed))).json()["id"] for seed in range(3)]
            index = (await client.get("/")).text
            assert [f"/runs/{id}" in index for id in ids] == [False, True, True]
            assert (await client.get(f"/runs/{ids[0]}")).status_code == 404
            data = (await client.get(f"/runs/{ids[2]}/data?events=0")).json()
            assert data["ended"]
            assert data["tree"]["thoughts"]["text"] == texts
            return await client.get(f"/runs/{ids[2]}")

    page = asyncio.run(work())
    assert "connect-src" not in page.text
    assert 'id="tree-0"' in page.text


def test_a_large_search_is_shown_as_far_as_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not need the events that are not kept."""
    monkeypatch.setattr(recent_runs, "MOST_EVENTS", 5)

    async def work() -> None:
        async with client_of(service_of()) as client:
            id = (await client.post(CHAT, json=chat())).json()["id"]
            data = (await client.get(f"/runs/{id}/data")).json()
            assert (data["events"], data["ended"], data["tree"]["end"]) == (5, True, None)

    asyncio.run(work())


def test_a_server_that_keeps_nothing_shows_nothing() -> None:
    """``--keep 0``."""
    service = service_of(kept=0)
    post(service, CHAT, chat())
    assert service.recent.newest_first == []


def test_pairs_that_do_not_fit_are_left_out_unless_they_were_named() -> None:
    """And if none is left, the first reason is raised."""

    def make(task: str, search: str) -> Any:
        if search == "io":
            raise PluginError("search", "io", ValueError()) if task == "broken" else ConfigError("no prompt 'io'")
        return agent(search=search)

    models = open_models(["synthetic"], ["bfs", "io"], make, named=False)
    assert (models.names, models.left_out) == ([MODEL], {"synthetic/io": "no prompt 'io'"})
    with pytest.raises(ConfigError, match="no prompt"):
        open_models(["synthetic"], ["bfs", "io"], make, named=True)
    with pytest.raises(ConfigError, match="no prompt"):
        open_models(["synthetic"], ["io"], make, named=False)
    with pytest.raises(PluginError):
        open_models(["broken"], ["io"], make, named=False)


def test_all_agents_share_the_backends_that_are_opened_once() -> None:
    """Their options go to them alone; a search without an evaluator has no backend for one."""
    maker = AgentMaker(
        backend="helpers:Oracle", model=None, evaluator=None,
        evaluator_model="wrong", evaluator_backend="helpers:Oracle",
        options={"backend.fail_at": "90", "evaluator_backend.fail_at": "91", "evaluator.samples": "2"},
        load=Task.load, more={"seed": 5},
    )  # fmt: skip
    bfs, dfs = maker.agent("game24", "bfs"), maker.agent("game24", "dfs")
    assert bfs.backend is dfs.backend
    assert bfs.judging is dfs.judging
    assert bfs.backend is not bfs.judging
    assert [each.describe()["options"] for each in (bfs.backend, bfs.judging)] == [{"fail_at": "90"}, {"fail_at": "91"}]
    assert (bfs.settings["evaluator"]["samples"], bfs.seed) == (2, 5)
    assert bfs.task is dfs.task
    with pytest.raises(ConfigError, match="uses no evaluator"):
        maker.agent("game24", "io")
    plain = AgentMaker(
        backend="helpers:Oracle", model=None, evaluator=None, evaluator_model=None, evaluator_backend=None, options={},
        load=Task.load, more={},
    )  # fmt: skip
    io = plain.agent("game24", "io")
    assert io.judging is io.backend


def test_the_command_line_starts_without_the_servers_libraries() -> None:
    """They are imported by ``serve`` alone, once its options are right."""
    code = "import sys, treeagent.cli; print([n for n in ('starlette', 'uvicorn', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
