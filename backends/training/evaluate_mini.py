"""Measure searches with the bundled model:
``python -m treeagent.backends.training.evaluate_mini --split dev --out FILE``.

Every search gets, puzzle by puzzle, as many tokens as breadth-first search used on that puzzle, but for the rows in
UNLIMITED. ``solved`` means that the one returned answer is right. Settings are chosen on ``dev``; ``test`` (rows 900 to
999 of the public list) is for the end.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from treeagent import Agent, Backend, Budget, Result
from treeagent.evaluation.statistics import share
from treeagent.jsonl import strict
from treeagent.tasks.game24_rules import show

from ..transformers.backend import TransformersBackend
from .mini_data import dev_hands, test_hands

REFERENCE = "bfs"

METHODS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "bfs": ("bfs", {"b": 5}, True),
    "bfs, legality filter off": ("bfs", {"b": 5}, False),
    "dfs": ("dfs", {}, True),
    "mcts": ("mcts", {"simulations": 1000}, True),
    "greedy": ("greedy", {}, True),
    "beam": ("beam", {"b": 5}, True),
    "best-first": ("best-first", {"expansions": 1000}, True),
    "dvts": ("dvts", {}, True),
    "rebase": ("rebase", {}, True),
    "rap": ("rap", {"iterations": 1000}, True),
    "bg-mcts": ("bg-mcts", {"simulations": 1000}, True),
    "ab-mcts": ("ab-mcts", {"simulations": 1000}, True),
    "particle-filter": ("particle-filter", {}, True),
    "chain-in-tree": ("chain-in-tree", {}, True),
    "best-of-n, 5 verified": ("best-of-n", {"candidates": 5}, True),
    "io": ("io", {}, True),
    "io, vote, 5 verified": ("cot-sc", {"k": 400, "by": "io", "candidates": 5}, True),
    "cot": ("cot", {}, True),
    "cot-sc": ("cot-sc", {"k": 400}, True),
    "cot-sc, 5 verified": ("cot-sc", {"k": 400, "candidates": 5}, True),
    "io, vote of 210, 5 verified": ("cot-sc", {"k": 210, "by": "io", "candidates": 5}, True),
    "cot-sc of 56, 5 verified": ("cot-sc", {"k": 56, "candidates": 5}, True),
}
"""SearchRow of the table: search, options, legality filter. The samplers go on until the tokens are used up."""

UNLIMITED = {"bfs, legality filter off", "io, vote of 210, 5 verified", "cot-sc of 56, 5 verified"}
"""Rows without the limit: a cut run would say nothing about the filter, and the last two draw as many samples as would
fit if the tokens of a prompt that is asked again and again were counted once."""


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One line of the table."""

    method: str
    puzzles: int
    solved: int
    low: float
    high: float
    """Wilson 95 % interval of the share solved."""
    tokens: float
    """Mean per puzzle, prompts included."""
    calls: float
    illegal: float
    """Share of the written steps that are illegal or no step at all."""
    cut: int
    """Puzzles on which the search ran out of tokens."""
    each: tuple[tuple[str, str | None, bool], ...]
    """Input, answer and verdict, puzzle by puzzle."""


async def run(
    method: str,
    inputs: Sequence[str],
    backend: Backend,
    seed: int,
    budgets: Sequence[int | None],
    at_once: int,
    judging: Backend | None = None,
) -> list[Result]:
    """One method on every puzzle, ``at_once`` puzzles together (they share the backend's batches).

    ``judging`` serves the evaluator, if another backend than the generator's is to.
    """
    search, search_options, legality = METHODS[method]
    gate = asyncio.Semaphore(at_once)

    async def solve(input: str, tokens: int | None) -> Result:
        async with gate:
            budget = Budget(tokens=tokens)
            agent = Agent(
                "game24", search, backend=backend, options=search_options, seed=seed, budget=budget, legality=legality,
                evaluator_model=judging,
            )  # fmt: skip
            return await agent.asolve(input)

    return list(await asyncio.gather(*(solve(*pair) for pair in zip(inputs, budgets, strict=True))))


def row(method: str, results: Sequence[Result]) -> SearchRow:
    """Summarise one method."""
    solved = sum(bool(result.solved) for result in results)
    found = share(solved, len(results))
    bad = sum(result.counts.illegal + result.counts.unparsed for result in results)
    kept = METHODS[method][2] is False  # without the filter, illegal steps are among the thoughts
    steps = sum(result.counts.thoughts + result.counts.duplicates + result.counts.unparsed for result in results)
    steps += 0 if kept else sum(result.counts.illegal for result in results)
    return SearchRow(
        method,
        len(results),
        solved,
        round(found.low, 4),
        round(found.high, 4),
        round(sum(result.usage.tokens or 0 for result in results) / len(results), 1),
        round(sum(result.usage.calls for result in results) / len(results), 1),
        round(bad / max(steps, 1), 4),
        sum(result.ended != "finished" for result in results),
        tuple((result.input, result.answer, bool(result.solved)) for result in results),
    )


def markdown(report: dict[str, Any]) -> str:
    """The table of a report, as the documents show it."""
    lines = [
        "| search | solved | 95 % interval | tokens per puzzle | requests | illegal or unread steps | out of tokens |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        part = 100 * row["solved"] / row["puzzles"]
        lines.append(
            f"| {row['method']} | {part:.0f} % | {100 * row['low']:.0f} - {100 * row['high']:.0f} % "
            f"| {row['tokens']:,.0f} | {row['calls']:,.0f} | {100 * row['illegal']:.1f} % "
            f"| {row['cut']} |"
        )
    if report["seconds_alone"] is not None:
        lines += ["", f"One puzzle at a time, `{REFERENCE}` took {report['seconds_alone']:.1f} s a puzzle."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by ';'")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--evaluator-model", help="another one that judges; for methods with an evaluator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--alone", type=int, default=10, help="puzzles timed one by one with the first method")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    hands = dev_hands() if options.split == "dev" else test_hands()
    inputs = [show(hand) for hand in hands][: options.limit]
    backend = TransformersBackend(options.model)
    judging = None if options.evaluator_model is None else backend.with_model(options.evaluator_model)
    methods = [name.strip() for name in options.methods.split(";")]
    if methods[0] != REFERENCE or not set(methods) <= set(METHODS):
        parser.error(
            f"--methods starts with {REFERENCE}, whose tokens the others get, and names rows of: {list(METHODS)}"
        )
    budgets: list[int | None] = [None] * len(inputs)
    rows = []
    for method in methods:
        began = time.monotonic()
        limits = [None] * len(inputs) if method in UNLIMITED else budgets
        results = asyncio.run(run(method, inputs, backend, options.seed, limits, options.at_once, judging))
        rows.append(row(method, results))
        if method == REFERENCE:
            budgets = [result.usage.tokens for result in results]
        print(f"{rows[-1].method}: {rows[-1].solved}/{rows[-1].puzzles}, {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    for input in inputs[: options.alone]:
        asyncio.run(run(methods[0], [input], backend, options.seed, [None], 1, judging))
    alone = (time.monotonic() - began) / options.alone if options.alone else None
    settings = {name: getattr(options, name) for name in ("split", "model", "evaluator_model", "seed", "limit")}
    report = {**settings, "seconds_alone": alone, "rows": [asdict(row) for row in rows]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(strict(report) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
