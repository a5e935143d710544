"""The command ``treeagent serve``: it says where it serves, ends when it is stopped, and refuses in one line."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
from pathlib import Path

import pytest
from cli_tools import call, spawn
from serve_tools import chat


def test_the_command_serves_until_it_is_stopped() -> None:
    """It says where; the first SIGTERM ends it with exit code 0."""
    words = ["serve", "-t", "game24", "-s", "bfs", "-s", "mcts", "-b", "helpers:Oracle", "--port", "0"]
    process = spawn(*words)
    assert process.stderr is not None
    lines = []
    while not (lines and lines[-1].startswith("Ctrl-C")):
        line = process.stderr.readline()
        assert line, lines
        lines.append(line)
    said = "".join(lines)
    assert "serving game24/bfs, game24/mcts" in said
    [port] = re.findall(r"http://127\.0\.0\.1:(\d+)/v1", said)
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    body = chat("4 9 10 13", model="game24/bfs")
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    assert json.loads(connection.getresponse().read())["treeagent"]["solved"] is True
    connection.close()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "clients need a token"),  # noqa: S104
        (["--token-variable", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--search", "bsf"], "Did you mean 'bfs'"),
        (["--task", "game42"], "Did you mean 'game24'"),
        (["--host", "no.such.host.invalid"], "clients need a token"),
    ],
)
def test_what_cannot_be_served_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    """Before anything is loaded."""
    rules = tmp_path / "rules.yaml"
    rules.write_text('- {match: "", text: sure}\n')
    result = call("serve", "-t", "game24", "-s", "bfs", "-b", "scripted", "-m", str(rules), "--port", "0", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    """With what to do."""
    rules = tmp_path / "rules.yaml"
    rules.write_text('- {match: "", text: sure}\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = call("serve", "-t", "game24", "-s", "bfs", "-b", "scripted", "-m", str(rules), "--port", port)
    assert result.exit_code == 2
    assert "--port 0 takes a free port" in result.stderr
