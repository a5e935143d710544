"""Figures of the server as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..runtime.result import Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper limits of the histogram of seconds."""


class ServerMetrics:
    """Counts since the server began."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[str] = Counter()
        self._calls = 0
        self._seconds = 0.0
        self._within: Counter[float] = Counter()
        self._early: Counter[tuple[str, str]] = Counter()
        self._early_tokens: Counter[str] = Counter()
        self._early_seconds: dict[str, float] = {}
        self._left = 0

    def replied(self, status: int) -> None:
        """Count an HTTP reply."""
        self._statuses[status] += 1

    def left(self) -> None:
        """Count a client that left before its search had ended."""
        self._left += 1

    def searched(self, model: str, ended: str, seconds: float, result: Result) -> None:
        """Count a search that ended; tokens that the backend does not report are not in the sums."""
        usage = result.usage
        self._ended[model, ended] += 1
        self._seconds += seconds
        self._within.update(limit for limit in _BUCKETS if seconds <= limit)
        self._tokens["prompt"] += usage.prompt_tokens or 0
        self._tokens["completion"] += usage.completion_tokens or 0
        self._calls += usage.calls
        if (early := result.speculated) is not None:
            self._early[model, "hit"] += sum(early.hits.values())
            self._early[model, "miss"] += sum(early.misses.values())
            self._early_tokens[model] += early.tokens_at_least
            self._early_seconds[model] = self._early_seconds.get(model, 0.0) + early.seconds_saved

    def text(self, running: int, waiting: int) -> str:
        """All figures; ``running`` and ``waiting`` are those of now."""
        searches = sum(self._ended.values())
        lines = [
            *_family("http_replies_total", "counter", "HTTP replies by status."),
            *(f'treeagent_http_replies_total{{status="{code}"}} {n}' for code, n in sorted(self._statuses.items())),
            *_family("searches_total", "counter", "Searches that ended, by model and by the reason of the end."),
            *(
                f'treeagent_searches_total{{model="{_label(model)}",ended="{_label(ended)}"}} {n}'
                for (model, ended), n in sorted(self._ended.items())
            ),
            *_family("clients_left_total", "counter", "Clients that left before their search had ended."),
            f"treeagent_clients_left_total {self._left}",
            *_family("searches_running", "gauge", "Searches that run."),
            f"treeagent_searches_running {running}",
            *_family("requests_waiting", "gauge", "Requests that wait for their turn."),
            f"treeagent_requests_waiting {waiting}",
            *_family("tokens_total", "counter", "Tokens of the searches that ended."),
            *(f'treeagent_tokens_total{{kind="{kind}"}} {n}' for kind, n in sorted(self._tokens.items())),
            *_family("backend_calls_total", "counter", "Requests to the backend by the searches that ended."),
            f"treeagent_backend_calls_total {self._calls}",
            *self._early_lines(),
            *_family("search_seconds", "histogram", "Seconds from the start of a search to its end."),
            *(f'treeagent_search_seconds_bucket{{le="{limit}"}} {self._within[limit]}' for limit in _BUCKETS),
            f'treeagent_search_seconds_bucket{{le="+Inf"}} {searches}',
            f"treeagent_search_seconds_sum {self._seconds}",
            f"treeagent_search_seconds_count {searches}",
        ]
        return "\n".join(lines) + "\n"

    def _early_lines(self) -> list[str]:
        """Of requests that were sent early; none where no search sent any."""
        if not self._early:
            return []
        return [
            *_family("early_requests_total", "counter", "Requests sent early, by whether they were asked for later."),
            *(
                f'treeagent_early_requests_total{{model="{_label(model)}",result="{result}"}} {n}'
                for (model, result), n in sorted(self._early.items())
            ),
            *_family("early_tokens_wasted_total", "counter", "Known tokens of those that were not asked for."),
            *_of_models("early_tokens_wasted_total", self._early_tokens),
            *_family("early_seconds_saved_total", "counter", "Estimate of the seconds that the others saved."),
            *_of_models("early_seconds_saved_total", self._early_seconds),
        ]


def _family(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP treeagent_{name} {meaning}", f"# TYPE treeagent_{name} {kind}"]


def _of_models(name: str, sums: Mapping[str, float]) -> list[str]:
    return [f'treeagent_{name}{{model="{_label(model)}"}} {value:g}' for model, value in sorted(sums.items())]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
