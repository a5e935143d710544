"""Proxy settings of the machine: each fault is one line that names the variable, and loopback has no proxy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import Answer, Model, Server, Time
from typer.testing import CliRunner

from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.proxies import proxy_for
from treeagent.cli import app
from treeagent.errors import BackendError, ConfigError
from treeagent.request import Key, Request, Sampling

REMOTE = "https://api.example.com/v1"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7890/", "socks5:// or http://"),
        ("https_proxy", "ftp://127.0.0.1:7890", "http://, https:// or socks5://"),
        ("HTTPS_PROXY", "http://[::1", "not the address of a proxy"),
        ("all_proxy", "http://:7890", "not the address of a proxy"),
        ("all_proxy", "http://host:port", "not the address of a proxy"),
        ("all_proxy", "http://a b", "not the address of a proxy"),
    ],
)
def test_a_faulty_variable_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """On one line, before anything is sent."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        proxy_for(REMOTE)
    text = str(caught.value)
    assert text.startswith(variable)
    assert expected in text
    assert "add api.example.com to no_proxy" in text
    assert "\n" not in text


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names it; with the package the proxy is used."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:7890")
    monkeypatch.setattr("treeagent.backends.openai.proxies.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ALL_PROXY .* needs the package socksio") as caught:
        proxy_for(REMOTE)
    assert "secret" not in str(caught.value)
    monkeypatch.setattr("treeagent.backends.openai.proxies.find_spec", lambda name: object())
    proxy = proxy_for(REMOTE)
    assert proxy is not None
    assert (proxy.url, proxy.shown) == ("socks5://user:secret@127.0.0.1:7890", "socks5://127.0.0.1:7890")


def test_the_variables_have_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the scheme first, lower case first; an address without a scheme is one of http."""
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("http_proxy", "http://other:1")
    for name, value in (("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:1")):
        monkeypatch.setenv(name, value)
        proxy = proxy_for(REMOTE)
        assert proxy is not None
        assert (proxy.source, proxy.url) == (name, f"http://{value}")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1", "http://a.localhost/v1",
     "http://127.8.9.1/v1"],
)  # fmt: skip
def test_loopback_has_no_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Whatever the variables say, also where they are faulty."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:7890/")
    monkeypatch.setenv("http_proxy", "nonsense://")
    assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("entries", "host", "without"),
    [
        ("::1,fe80::/10", "api.example.com", False),
        ("[::1]", "api.example.com", False),
        ("::1,fe80::/10", "[fe80::1]", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3:8000", "10.1.2.3", True),
        (".example.com", "api.example.com", True),
        ("*.example.com", "api.example.com", True),
        ("example.com", "badexample.com", False),
        ("other.com, EXAMPLE.com", "api.example.com", True),
        ("*", "api.example.com", True),
        ("///, , \x07, ]]", "api.example.com", False),
    ],
)
def test_no_proxy_lists_hosts_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, entries: str, host: str, without: bool
) -> None:
    """An entry that is none of them names nothing and breaks nothing."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", entries)
    assert (proxy_for(f"http://{host}/v1") is None) is without


def _backend(url: str, **options: Any) -> OpenAIBackend:
    backend = OpenAIBackend("toy", base_url=url, server="vllm", chat=True, score="none", **options)
    backend.clock = Time().clock()
    return backend


REQUEST = Request("x", Key(1, "a", "0"), Sampling(max_tokens=2))


def test_a_server_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a proxy that is down is named, without its password."""
    model = Model()

    def proxy(asked: Any) -> Answer:
        asked.path = asked.path.removeprefix("http://api.example.com")
        return model(asked)

    with Server(proxy).listening() as server:
        address = server.url.removesuffix("/v1").removeprefix("http://")
        monkeypatch.setenv("http_proxy", f"http://user:secret@{address}")
        backend = _backend("http://api.example.com/v1")
        assert asyncio.run(backend.generate(REQUEST)).completions
    with pytest.raises(BackendError) as caught:
        asyncio.run(_backend("http://api.example.com/v1", attempts=1).generate(REQUEST))
    assert f"cannot connect through the proxy http://{address} of http_proxy" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_local_server_is_asked_on_a_machine_with_odd_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on many company machines."""
    with Server(Model()).listening() as server:
        for variable, value in (("ALL_PROXY", "socks://127.0.0.1:7890/"), ("http_proxy", "http://127.0.0.1:9"),
                                ("no_proxy", "::1,fe80::/10")):  # fmt: skip
            monkeypatch.setenv(variable, value)
        assert asyncio.run(_backend(server.url).generate(REQUEST)).completions


def test_a_faulty_proxy_ends_the_command_with_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every faulty setting does, on one line."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:7890/")
    words = ["solve", "--task", "game24", "--input", "4 9 10 13", "--backend", "openai", "--model", "toy", "-q",
             "--set", "backend.base_url=http://api.example.com/v1"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert "ALL_PROXY names a proxy with socks://" in done.output
    assert "Traceback" not in done.output
