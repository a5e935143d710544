"""What ``treeagent eval`` prints and draws of its evaluations, one for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..evaluation.summary import compared, summary
from . import eval_report, repeats_report
from .arguments import echo, say
from .metrics_text import backends, headline

if TYPE_CHECKING:
    from ..evaluation.outcomes import Outcome
    from ..evaluation.repeats import AtK
    from ..evaluation.run import Evaluation, EvaluationRun
    from ..evaluation.statistics import Paired
    from ..evaluation.summary import Summary
    from ..runtime.agent import Agent
    from ..taskfile.dataset import Data


@dataclass(frozen=True)
class EvalOutput:
    """The figures of the first evaluation, those over all of them, and the comparison with another one."""

    agent: Agent
    search: str
    problems: Data
    evaluations: Sequence[Evaluation]
    runs: Sequence[EvaluationRun]
    others: Sequence[Outcome] | None
    """The outcomes to compare with; None where there are none."""
    legality: bool

    @cached_property
    def total(self) -> Summary:
        """The figures of the first evaluation."""
        first = self.evaluations[0].done_outcomes
        return summary(first, len(self.problems.rows), legality=self.legality)

    @cached_property
    def tries(self) -> list[AtK]:
        """pass@k and maj@k; empty where there is one evaluation."""
        several = len(self.evaluations) > 1
        return repeats_report.figures(self.agent.task, self.problems, self.evaluations) if several else []

    @cached_property
    def comparison(self) -> Paired | None:
        """With the other outcomes; None without any in common."""
        return None if self.others is None else compared(self.evaluations[0].done_outcomes, self.others)

    @property
    def _settings(self) -> dict[str, Any]:
        return self.evaluations[0].outcomes.settings

    def draw(self, plot: Path) -> None:
        """Write the plots. Raises ConfigError."""
        from .eval_plots import draw

        backend = self.agent.backend
        title = f"{self.agent.task.name}, {self.search}, {backend.name} {backend.model or ''}".rstrip()
        try:
            written = draw(plot, title, self.evaluations[0].done_outcomes, self.total, self.tries)
        except OSError as error:
            raise ConfigError(f"--plot: cannot write {error.filename or plot}: {error.strerror}") from error
        say(f"wrote {', '.join(map(str, written))}" if written else f"{plot} is not drawn: no problem has a verdict")

    def to_json(self, against: Path | None, *, repeated: bool) -> dict[str, Any]:
        """The object that ``--json`` prints; ``repeated``: whether ``--repeats`` was given."""
        first = self.runs[0]
        report = {"settings": self._settings, **self.total.to_json()}
        report |= {
            "rows_without_gold": self.problems.ungraded,
            "at_once": self.evaluations[0].at_once,
            "seconds": first.seconds,
            "engine": first.engine,
        }
        if repeated:
            report |= repeats_report.to_json(self.evaluations, self.tries)
        pair = self.comparison
        report["against"] = None if pair is None else {"folder": str(against), **asdict(pair)}
        return report

    def tell(self, out: Path | None, against: Path | None, shard: str | None, *, repeated: bool) -> None:
        """Print the report; ``shard`` says which part of all problems was run."""
        first = self.runs[0]
        titles = [f"{self.agent.task.name}, {self.search}", *backends(self._settings)]
        title = "\n".join([*titles, shard] if shard else titles)
        echo(eval_report.report(title, self.total, first.seconds, headline(first.engine, self.agent.backends)))
        if self.problems.ungraded:
            echo(f"{self.problems.ungraded:,} of {len(self.problems.rows):,} rows have no gold answer")
        if against is not None:
            echo(eval_report.against(self.comparison, str(out or "this run"), str(against)))
        if repeated:
            echo(repeats_report.report(self.evaluations, self.tries))
