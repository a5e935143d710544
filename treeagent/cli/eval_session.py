"""The evaluations of one ``treeagent eval``, one for each seed, in this process or in replicas."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.run import JOURNALS, REPEATS, Evaluation, EvaluationRun, open_outcomes, settings_of
from . import ray_pool
from .agent_options import AgentOptions
from .eval_progress import eval_progress

if TYPE_CHECKING:
    from ..evaluation.outcomes import Outcomes
    from ..ray.pool import Pool
    from ..runtime.agent import Agent
    from ..taskfile.dataset import Data


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """How many evaluations there are, and where and how they run."""

    repeats: int
    at_once: int
    max_errors: int
    workers: str | None
    """The value of ``--workers``; None evaluates in this process."""
    replicas: int
    quiet: bool


class EvalSession:
    """Runs the evaluations of an agent in turn."""

    def __init__(
        self, options: AgentOptions, agent: Agent, everything: Data, problems: Data, shard: str | None, plan: EvalPlan
    ) -> None:
        """``problems`` are those of ``everything`` that are in the shard."""
        self._options = options
        self._agent = agent
        self._everything = everything
        self._problems = problems
        self._shard = shard
        self._plan = plan
        self._pool: Pool | None = None

    def run(self, folder: Path) -> list[tuple[Evaluation, EvaluationRun]]:
        """Each evaluation with its run, up to one that was interrupted or gave up; replicas end with the last."""
        done = []
        with ExitStack() as stack:
            for number in range(self._plan.repeats):
                place = folder if number == 0 else folder / REPEATS / str(number + 1)
                evaluation, this_run = self._run_repeat(number, place, stack)
                done.append((evaluation, this_run))
                if this_run.interrupted or evaluation.gave_up:
                    break
        return done

    def _run_repeat(self, number: int, place: Path, stack: ExitStack) -> tuple[Evaluation, EvaluationRun]:
        plan, problems, seed = self._plan, self._problems, self._options.run.seed + number
        agent = self._agent if number == 0 else self._agent.with_seed(seed)
        budget, everything = self._options.limits.budget(), self._everything
        settings = settings_of(agent, everything, seed=seed, budget=budget, shard=self._shard)
        with closing(open_outcomes(place, settings, everything.digest_of)) as store:
            self._open_pool(store, stack)
            pool, journals = self._pool, (place / JOURNALS).absolute()
            elsewhere = None if pool is None else partial(pool.solve, journals=journals, seed=seed)
            evaluation = Evaluation(agent, problems, journals, store, plan.at_once, plan.max_errors, elsewhere)
            known, quiet = list(store.known.values()), plan.quiet or not evaluation.open_rows
            what = f"repeat {number + 1} of {plan.repeats}: " if plan.repeats > 1 else ""
            aside = str if pool is None else pool.state
            with eval_progress(len(problems.rows), known, quiet=quiet, what=what, aside=aside) as on_outcome:
                return evaluation, evaluation.execute(on_outcome)

    def _open_pool(self, store: Outcomes, stack: ExitStack) -> None:
        """Load the replicas where they are wanted, for the first evaluation that has something to run."""
        plan, problems = self._plan, self._problems
        if plan.workers is None or self._pool is not None:
            return
        if store.done.issuperset(row.number for row in problems.rows):
            return
        replicas = ray_pool.loaded_replicas(
            plan.workers, plan.replicas, plan.at_once, self._agent, self._options, problems, quiet=plan.quiet
        )
        self._pool = stack.enter_context(replicas)
