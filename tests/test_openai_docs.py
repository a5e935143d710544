"""The manual of the backend against the backend: options, kinds of servers, figures, and the commands it shows.

``python tests/test_openai_docs.py`` writes the defaults anew.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Server
from test_readme import BLOCK
from typer.testing import CliRunner

from treeagent.backends.openai import backend, retry
from treeagent.backends.openai import options as settings
from treeagent.backends.openai.backend import OpenAIBackend
from treeagent.backends.openai.server_kinds import KINDS
from treeagent.cli import app

MANUAL = Path(__file__).parent.parent / "docs" / "openai.md"
TEXT = MANUAL.read_text()
ROW = re.compile(r"^\| `([\w.]+)` \| (.*?)\| (.*) \|$", re.MULTILINE)


def part(name: str, text: str = TEXT) -> str:
    """What stands between the marker of that name and its end."""
    return text.split(f"<!-- names: {name} -->\n")[1].split("<!-- end -->", maxsplit=1)[0]


def rewritten(text: str) -> str:
    """The manual with the defaults as they should be."""

    def option(row: re.Match[str]) -> str:
        value = inspect.signature(OpenAIBackend).parameters[row[1]].default
        return f"| `{row[1]}` | {'' if value is None else f'`{value}` '}| {row[3]} |"

    return text.replace(part("options", text), ROW.sub(option, part("options", text)))


def test_options_and_their_defaults_are_those_of_the_backend() -> None:
    """Every option of the command line with the default of the class, and every word that it takes."""
    listed = {name: row for name, _, row in ROW.findall(part("options"))}
    assert list(listed) == list(OpenAIBackend.options)
    assert [*OpenAIBackend.options, "model"] == [*list(inspect.signature(OpenAIBackend).parameters)[1:], "model"]
    assert rewritten(TEXT) == TEXT
    for option, words in (("server", settings.SERVERS), ("score", settings.SCORES)):
        assert {*re.findall(r"`([^`]+)`", listed[option])} >= set(words) - {"auto"}
    assert set(settings.SERVERS) == set(KINDS)


def test_the_kinds_of_servers_are_those_of_the_code() -> None:
    """What each takes, how samples go, and how many tokens it is asked for."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:5]] for line in part("kinds").splitlines() if line.count("`") > 1
    ]
    assert rows[1:] == [
        [f"`{kind.name}`", "sent" if kind.supports_top_k else "refused",
         "together" if kind.samples_together else "alone", str(kind.top_logprobs)]
        for kind in KINDS.values()
    ]  # fmt: skip


def test_every_figure_is_explained_in_its_order() -> None:
    """What ``meter`` returns, key by key."""
    names = re.findall(r"^\| `(\w+)`", part("figures"), re.MULTILINE)
    assert names == list(OpenAIBackend("m").meter()())


def test_what_is_said_of_waits_is_so() -> None:
    """The statuses and the seconds."""
    [line] = [line for line in TEXT.splitlines() if line.startswith("The backend retries")]
    assert {int(number) for number in re.findall(r"\d{3}", line)} == {*retry.RETRYABLE, 500}
    [line] = [line for line in TEXT.splitlines() if line.startswith("The wait is")]
    times = [retry.back_off(attempt, 1.0) for attempt in (1, 2, 3, 99)]
    assert ", ".join(f"{seconds:g}" for seconds in times[:3]) + f" ... {times[3]:g} seconds" in line


def test_links_lead_somewhere() -> None:
    """Headings of this manual."""
    anchors = {re.sub(r"[^\w -]", "", line.lstrip("# ")).replace(" ", "-").lower() for line in TEXT.splitlines()}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


COMMANDS = [line for kind, body in BLOCK.findall(TEXT) if kind == "sh" for line in body.splitlines()]
OWNERS = {"8080": "llamacpp", "8000": "vllm", "30000": "sglang", "11434": "library"}


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a server of the kind that an address stands for, and returns its own."""
    with ExitStack() as stack:

        def start(address: str, model: str | None) -> str:
            owner = OWNERS.get(address.split("/")[2].partition(":")[2], "system")
            toy = Model(owner, echo=owner != "llamacpp", models=(model or "toy",))
            return stack.enter_context(Server(toy).listening()).url

        yield start


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_manual_runs(line: str, listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server of that kind, in whose place a toy answers here; it solves nothing, but all is understood."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    model = words[words.index("--model") + 1] if "--model" in words else None
    given = [word for word in words if word.startswith("backend.base_url=")]
    url = listening(given[0].partition("=")[2] if given else backend.PUBLIC, model)
    if given:
        words[words.index(given[0])] = f"backend.base_url={url}"
    else:
        monkeypatch.setattr(backend, "PUBLIC", url)
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code in (0, 1), done.output
    assert "http requests" in done.output


@pytest.mark.parametrize("block", [body for kind, body in BLOCK.findall(TEXT) if kind == "python"])
def test_a_python_block_of_the_manual_runs(block: str, listening: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program works when pasted into a file."""
    address = re.findall(r"http://[\d.:]+/v1", block)[0]
    exec(compile(block.replace(address, listening(address, "toy")), "program.py", "exec"), {})  # noqa: S102
    ended, dollars = capsys.readouterr().out.split()
    assert ended == "finished"
    assert 0 < float(dollars) <= 0.05


if __name__ == "__main__":
    MANUAL.write_text(rewritten(TEXT))
