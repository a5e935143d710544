"""Fuzz targets that read files: tasks, journals, outcomes and data."""

from __future__ import annotations

import asyncio
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mutations import mutated_bytes, mutated_lines, mutated_text, mutated_value, pieces

import treeagent
from treeagent import Agent, Budget, YamlTask
from treeagent.backends.replay import ReplayBackend
from treeagent.backends.scripted import ScriptedBackend
from treeagent.display.svg import draw as draw_svg
from treeagent.evaluation import outcomes, summary
from treeagent.runtime import journal
from treeagent.runtime.journal_tree import rebuild
from treeagent.taskfile import dataset
from treeagent.viewer.page import page
from treeagent.viewer.run_data import run_data

SCRIPT = """
- {match: Combine, text: ["4 + 6 = 10 (left: 5 10 10)", "6 - 4 = 2 (left: 2 5 10)"]}
- {match: ., text: sure}
"""
LIMITS = Budget(calls=12, nodes=30, seconds=5.0)


@cache
def task_texts() -> dict[str, str]:
    """The shipped task files by name."""
    from treeagent import prompts

    [folder] = prompts.__path__
    return {path.stem: path.read_text() for path in sorted(Path(folder).glob("*.yaml"))}


@cache
def task_values() -> dict[str, Any]:
    """What the shipped task files hold, by name."""
    return {name: yaml.safe_load(text) for name, text in task_texts().items()}


@cache
def shipped_task(name: str) -> YamlTask:
    """A shipped task, loaded once."""
    task = treeagent.Task.load(name)
    assert isinstance(task, YamlTask)
    return task


def task_case(draw: random.Random, folder: Path) -> None:
    """A mutated task file is read, validated, and searched with when it loads."""
    name = draw.choice(sorted(task_texts()))
    text = task_texts()[name]
    if draw.random() < 0.5:
        text = yaml.safe_dump(mutated_value(draw, task_values()[name]), allow_unicode=draw.random() < 0.5)
    else:
        text = mutated_text(draw, text)
    path = folder / "task.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    task = treeagent.Task.load(path)
    reply = pieces(draw, [*map(str, task.examples), *task.labels], 6)
    search = draw.choice(("bfs", "dfs", "greedy", "mcts", "cot", "io"))
    Agent(task, search, backend=ScriptedBackend(lambda _: reply), budget=LIMITS).solve(task.examples[0])


@cache
def recorded_journal() -> bytes:
    """A journal of a small search with generations, judgements, an answer and its end."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules.yaml").write_text(SCRIPT)
        agent = Agent(
            "game24", "bfs", backend="scripted", model=str(folder / "rules.yaml"), options={"beam": 2}, budget=LIMITS
        )
        agent.solve("4 5 6 10", journal=folder / "run.jsonl")
        return (folder / "run.jsonl").read_bytes().replace(str(folder).encode(), b".")


def journal_case(draw: random.Random, folder: Path) -> None:
    """A mutated journal is viewed, exported, replayed or resumed."""
    path = folder / "run.jsonl"
    path.write_bytes(_mutated(draw, recorded_journal()))
    (folder / "rules.yaml").write_text(SCRIPT)
    act = draw.randrange(4)
    if act == 0:
        text = page([run_data(journal.read(path), "run")])
        assert text.isascii()
    elif act == 1:
        tree = rebuild(journal.read(path))
        draw_svg(tree.tree, tree.solution, solved=tree.solved)
        json.loads(json.dumps(tree.to_json(), allow_nan=False))
        tree.tree.to_mermaid(tree.solution)
    elif act == 2:
        Agent("game24", "bfs", backend=ReplayBackend(path), budget=LIMITS).solve("4 5 6 10")
    else:
        agent, text = Agent.from_journal(path, backend=ScriptedBackend(lambda _: "sure"), budget=LIMITS)
        asyncio.run(agent.run(text, journal=path, resume=True).result())
        strict_lines(path)


@cache
def recorded_outcomes() -> bytes:
    """The file of an evaluation with four outcomes."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "outcomes.jsonl"
        file = outcomes.Outcomes(path, {"task": "game24", "seed": 0, "data": {"rows": [0, 1, 2, 3]}})
        for number, right in enumerate((True, False, None, True)):
            file.add(outcomes.Outcome(number, "4 5 6 10", "24", right, "finished", values=((1.0, True), (0.5, False))))
        file.close()
        return path.read_bytes()


def outcomes_case(draw: random.Random, folder: Path) -> None:
    """A mutated file of outcomes is read, summarized and continued."""
    path = folder / "outcomes.jsonl"
    path.write_bytes(_mutated(draw, recorded_outcomes()))
    settings, known, _ = outcomes.read(path)
    json.loads(json.dumps(summary.summary(known.values(), len(known)).to_json(), allow_nan=False))
    file = outcomes.Outcomes(path, settings)
    file.add(outcomes.Outcome(99, "1 1 1 1"))
    file.close()
    assert 99 in outcomes.read(path)[1]


QA = """name: qa
description: Questions with a short answer.
metadata: {version: 1}
input: {description: a question, examples: ["2+2?"]}
depth: 1
prompts: {io: "{{ input }}"}
data: {file: FILE, input: "{{ question }}", gold: "{{ answer }}"}
"""
ROWS: dict[str, bytes] = {
    "jsonl": b'{"question": "2+2?", "answer": "4"}\n{"question": "3+1?", "answer": null}\n{"question": "x", "n": 1}\n',
    "json": b'[{"question": "2+2?", "answer": "4"}, {"question": "3+1?", "answer": 4}]',
    "csv": b'question,answer\n"What is 2+2?",4\n3+1?,"4"\n',
}


def data_case(draw: random.Random, folder: Path) -> None:
    """A mutated data file is loaded and graded."""
    ending = draw.choice(sorted(ROWS))
    content = ROWS[ending]
    content = (
        mutated_lines(draw, content) if ending == "jsonl" and draw.random() < 0.5 else mutated_bytes(draw, content)
    )
    (folder / f"rows.{ending}").write_bytes(content)
    task = YamlTask(QA.replace("FILE", f"rows.{ending}"), folder / "qa.yaml")
    data = dataset.load(task)
    for row in data.rows:
        verdict = data.gold.grade(row, draw.choice(("4", "", "None", "nan")))
        assert verdict in (True, False, None)


def completion_case(draw: random.Random, folder: Path) -> None:
    """Confused completions to a shipped task end as a result, whose journal is strict JSON and resumes equally."""
    task = shipped_task(draw.choice(sorted(task_texts())))
    example = draw.choice(list(task.examples))
    own = [*task.labels, example, *example.split(), "4 + 6 = 10 (left: 5 10 10)", "pick up a", "Answer: 24", "1", "2"]
    seeds = draw.getrandbits(32)

    def answer(request: treeagent.Request) -> list[str]:
        chance = random.Random(f"{seeds} {request.id}")
        return [pieces(chance, own) for _ in range(request.n)]

    search = draw.choice(("bfs", "dfs", "greedy", "beam", "best-first", "mcts", "rap", "rebase", "dvts", "io", "cot"))
    backend = ScriptedBackend(answer)
    agent = Agent(task, search, backend=backend, budget=LIMITS)
    path = folder / "run.jsonl"
    result = agent.solve(example, journal=path)
    json.loads(json.dumps(result.to_json(), allow_nan=False), parse_constant=_refused)
    strict_lines(path)
    again = Agent(task, search, backend=ReplayBackend(path), budget=LIMITS).solve(example)
    if result.ended != "seconds" != again.ended:
        assert (again.answer, again.path) == (result.answer, result.path)


def strict_lines(path: Path) -> None:
    """Raise where a line of a journal is no strict JSON."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        json.loads(line, parse_constant=_refused)


def _refused(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def _mutated(draw: random.Random, data: bytes) -> bytes:
    return mutated_lines(draw, data) if draw.random() < 0.8 else mutated_bytes(draw, data)
