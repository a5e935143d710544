"""Figures of requests that were sent early: seconds saved, hits and misses where users look."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import early_tools
import pytest
import test_early_faults
from early_tools import VirtualLoop
from rich.console import Console
from test_early_faults import Clocked, clocked

from treeagent import Event, Search
from treeagent.cli.metrics_text import early
from treeagent.display.live_tree import LiveTree
from treeagent.runtime import run
from treeagent.runtime.recorded_event import RecordedEvent
from treeagent.server.server_metrics import ServerMetrics
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.mcts import MCTS


@pytest.mark.parametrize(
    "search",
    [DFS(threshold=0.0), BFS(b=2), BestFirst(), MCTS(parallel=1, simulations=5)],
    ids=lambda search: type(search).__name__,
)  # fmt: skip
def test_the_seconds_saved_are_the_gain_where_guesses_cost_others_nothing(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that has room for every guess the estimate is the difference of two runs by the same clock."""
    loops: list[VirtualLoop] = []

    class Kept(early_tools.VirtualLoop):
        def __init__(self) -> None:
            super().__init__()
            loops.append(self)

    monkeypatch.setattr(test_early_faults, "VirtualLoop", Kept)
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: loops[-1].time() if loops else 0.0))
    _, without = clocked(Clocked(), search, 0)
    result, seconds = clocked(Clocked(), search, 8)
    assert result.speculated is not None
    assert result.speculated.seconds_saved == pytest.approx(without - seconds)
    assert without - seconds > 1
    assert result.to_json()["speculated"]["seconds_saved"] == result.speculated.seconds_saved


def sent_early(hit: bool, place: str, tokens: int | None = 7) -> Event:
    usage = {"prompt_tokens": None, "completion_tokens": tokens}
    return RecordedEvent(
        "early", {"id": "x", "kind": "piece", "hit": hit, "place": place, "began": 0.1, "seconds": 0.2, **usage}
    )


def test_the_live_view_counts_guesses_and_marks_their_thoughts() -> None:
    """Hits and misses of all, tokens in vain, and both at their thought; nothing where none were sent."""
    view = LiveTree(Console(width=100, height=20, force_terminal=True))
    view.begin("searching")
    step = {"parent": 0, "text": "step", "state": "step", "depth": 1, "path": [0]}
    view.event(RecordedEvent("thought", {"id": 1, **step}))
    assert "early" not in view.draw().plain
    for event in (
        sent_early(True, "0"),
        sent_early(False, "0"),
        sent_early(False, "0.9", None),
        sent_early(True, "root"),
    ):
        view.event(event)
    plain = view.draw().plain
    assert "sent early: 2 of 4 asked for, 7 tokens in vain" in plain
    [line] = [line for line in plain.splitlines() if "step" in line]
    assert "(1 early, 1 in vain)" in line


def test_the_rate_of_hits_is_told_by_search() -> None:
    """In the report of a run, and by model in the metrics of a server; nothing where nothing was sent early."""
    assert early(0, 0, 0, 0.0) == early(None, None, None, None) == []
    assert early(3, 1, 20, 1.25) == [
        "3 of 4 requests sent early were asked for (75%), which saved at most 1.2 s; the others cost 20 tokens or more"
    ]
    metrics = ServerMetrics()
    plain, _ = clocked(Clocked(), DFS(threshold=0.0), 0)
    metrics.searched("t/dfs", "finished", 1.0, plain)
    assert "early" not in metrics.text(0, 0)
    result, _ = clocked(Clocked(), DFS(threshold=0.0), 8)
    metrics.searched("t/dfs", "finished", 1.0, result)
    values: dict[str, Any] = dict(
        line.rsplit(" ", 1) for line in metrics.text(0, 0).splitlines() if not line.startswith("#")
    )
    assert result.speculated is not None
    sums = [sum(counts.values()) for counts in (result.speculated.hits, result.speculated.misses)]
    for name, number in zip(("hit", "miss"), sums, strict=True):
        assert values[f'treeagent_early_requests_total{{model="t/dfs",result="{name}"}}'] == str(number)
    assert float(values['treeagent_early_seconds_saved_total{model="t/dfs"}']) >= 0
