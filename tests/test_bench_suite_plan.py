"""What ``treeagent bench --suite papers`` is going to measure: prompts, methods, cells, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bench_tables
import pytest
from suite_runs import call
from suite_runs import sorted_draft as sorted_draft  # noqa: PLC0414  the fixture
from suite_runs import times as times  # noqa: PLC0414  the fixture

from treeagent.backends.bench.config.methods import BASELINE, METHODS, NODES, OWN, exits, select_methods
from treeagent.backends.bench.config.modes import PLAIN, find
from treeagent.backends.bench.workloads import prompts as workload
from treeagent.backends.bench.workloads import texts
from treeagent.backends.seed.drafters.registry import DrafterSpec, size
from treeagent.errors import ConfigError, UnknownNameError

# Blocksworld


def moved(text: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What lies on what after the moves of a worked example, each of which must be allowed; and what was wanted."""
    state, rest = text.split("\nGoal: ")
    goal, plan_ = rest.split("My plan is as follows:\n")
    on = dict(part.removeprefix("the ").split(" block is on the ") for part in facts(state))
    held = None
    for move in plan_.splitlines():
        words = [word for word in move.split() if word in texts.COLOURS]
        free = all(word not in {below.removesuffix(" block") for below in on.values()} for word in words[:1])
        if move.startswith(("pick up", "unstack")):
            assert held is None, move
            assert free, move
            assert on.pop(words[0]) == (f"{words[1]} block" if "unstack" in move else "table"), move
            held = words[0]
        elif move.startswith(("put down", "stack")):
            assert held == words[0], move
            below = f"{words[1]} block" if len(words) > 1 else "table"
            assert below == "table" or (words[1] in on and below not in on.values()), move
            on[held], held = below, None
        else:
            assert move == "done"
            break
    wanted = {tuple(part.removeprefix("the ").split(" block is on the ")) for part in facts(goal)}
    return set(on.items()), wanted  # type: ignore[return-value]


def facts(text: str) -> list[str]:
    """The sentences about what lies on what."""
    return text.partition(".")[0].split(", ")


def test_worked_examples_of_blocksworld_reach_their_goals_by_allowed_moves() -> None:
    """They are played."""
    examples = texts.STACK.split("State: ")[1:]
    assert len(examples) == 2
    for example in examples:
        reached, wanted = moved(example)
        assert wanted <= reached


def test_a_prompt_of_blocksworld_has_four_or_five_blocks_and_an_open_goal() -> None:
    """All sizes come up; what is wanted is never so already; free blocks are those that nothing lies on."""
    sizes = set()
    for prompt in workload.builtin_prompts("blocksworld", 60, 5):
        assert prompt.startswith(texts.STACK)
        assert prompt.endswith("My plan is as follows:\n")
        own = prompt[len(texts.STACK) + len("State: ") :]
        on, wanted = moved(own)
        assert not wanted <= on
        sizes.add(len(on))
        free = {block for block, _ in on} - {below.removesuffix(" block") for _, below in on}
        said = own.split(". ")[1].lower()
        assert {colour for colour in texts.COLOURS if f"the {colour} block" in said} == free
    assert sizes == {4, 5}


# Methods


def test_methods_are_modes_with_labels_of_their_own() -> None:
    """All names can be read, none is measured twice, and papers are named with their numbers."""
    assert len({method.label for method in METHODS}) == len({method.name for method in METHODS}) == len(METHODS)
    assert {BASELINE, OWN} <= {find(method.name).name for method in METHODS}
    assert all("arXiv" in method.source for method in METHODS if method.source)
    assert replace(METHODS[0], num_beams=4).name == f"{BASELINE}@num_beams=4"


def test_methods_of_papers_draft_equally_much() -> None:
    """Whatever the shape, so many nodes."""
    published = [find(method.name).options for method in METHODS if "draft_tokens" in find(method.name).options]
    assert len(published) == 9
    for options in published:
        assert options["draft_tokens"] == NODES
        choice = DrafterSpec.parse(options["drafter"])
        if choice.numbers:
            assert size(choice.model or "", choice.numbers)[1] == NODES


def test_methods_that_cannot_run_are_left_out(tmp_path: Path) -> None:
    """Those that draft with a model need one; S2D needs one with several exits."""
    without = [method.label for method in select_methods(None)]
    assert without == ["AR", "AR serial", "beams", "n-gram tables", "Token Recycling", "STAND", "auto"]
    everything = [method.label for method in METHODS]
    assert [method.label for method in select_methods("mini-draft")] == [
        label for label in everything if label != "S2D"
    ]
    for listed, told in (([2], ()), ([2, 4], (2, 4)), ("2, 4", ())):
        (tmp_path / "config.json").write_text(json.dumps({"exits": listed}))
        assert exits(str(tmp_path)) == told
    (tmp_path / "config.json").write_text("[")
    assert exits(str(tmp_path)) == ()


def test_some_methods_can_be_chosen_by_their_labels() -> None:
    """The baseline is always among them; an unknown label is refused, and the nearest is named."""
    assert [method.label for method in select_methods(None, ["auto", "STAND"])] == ["AR", "STAND", "auto"]
    result = call("--temperature", "0", "--methods", "auto,n-gram tables", "-q")
    assert result.exit_code == 0, result.output
    assert "│ n-gram tables " in result.stdout
    assert "│ STAND " not in result.stdout
    with pytest.raises(UnknownNameError, match="n-gram tables"):
        call("--methods", "n-gram table", "-q")
    with pytest.raises(ConfigError, match="needs --suite papers"):
        bench_tables.planned(["--methods", "auto"])
    with pytest.raises(UnknownNameError, match="papers"):
        bench_tables.planned(["--suite", "paper"])


def test_with_a_draft_of_several_exits_s2d_runs_and_others_draft_through_all_layers(sorted_draft: str) -> None:
    """So no two methods are the same; what drafts as much as pays is left as it comes."""
    found = select_methods(sorted_draft)
    assert [method.label for method in found] == [method.label for method in METHODS]
    options = {method.label: find(method.name).options.get("exit") for method in found}
    assert options["S2D"] == "adaptive"
    layers = exits(sorted_draft)[-1]
    assert options["SD"] == options["SeeD fcfs"] == str(layers)
    assert [options[label] for label in ("AR", "SeeD rounds", "dynamic", "auto")] == [None] * 4
    result = call("--draft", sorted_draft, "--temperature", "1", "-q", "--methods", "S2D,SD,auto")
    assert result.exit_code == 0, result.output
    assert "│ S2D " in result.stdout
    assert "not run" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--modes", "seed"], "leave out --modes"),
        (["--scaling", "--baseline", "seed"], "--baseline and --scaling"),
        (["--prompts", "p.txt"], "--prompts"),
        (["--workload", "mini,gsm9k"], "Did you mean 'gsm8k'"),
        (["--workload", ","], "names no kind"),
        (["--temperature", "0,hot"], "such as 0 or 0,0.2,1"),
        (["--temperature", "-1"], "expected numbers from 0"),
        (["--temperature", "nan"], "expected numbers from 0"),
        (["--warm-seed", "6", "--repeat", "2"], "another one"),
        (["--reference", "transformers-serial", "--temperature", "0,1"], "noise of its own"),
        (["--plot", "picture.gif"], ".png"),
        (["--model", "smolm2"], "Did you mean 'smollm2'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(words: list[str], said: str) -> None:
    """Before any model is loaded."""
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        call(*words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_usual_cells_are_the_papers() -> None:
    """Three kinds of task at three temperatures, each repeat with other prompts."""
    grid = bench_tables.planned(["--suite", "papers", "-m", "mini", "--repeat", "2", "--branches", "4"])
    assert [(plan.workload, plan.sampling.temperature, plan.seed, plan.repeats) for plan in grid.plans] == [
        (kind, temperature, 5 + repeat, (repeat,))
        for kind in ("gsm8k", "writing", "blocksworld")
        for temperature in (0, 0.2, 1)
        for repeat in (0, 1)
    ]
    assert (grid.baseline, grid.reference) == (BASELINE, PLAIN)
    assert not set(grid.plans[0].prompts) & set(grid.plans[1].prompts)


def test_a_grid_of_modes_may_have_several_workloads_and_temperatures() -> None:
    """With the same prompts in every repeat and one reference for all cells."""
    words = ["-m", "mini", "--workload", "mini,value", "--temperature", "0,1", "--branches", "2,4", "--repeat", "2"]
    grid = bench_tables.planned(words)
    assert [(plan.workload, plan.sampling.temperature) for plan in grid.plans] == [
        ("mini", 0), ("mini", 1), ("value", 0), ("value", 1),
    ]  # fmt: skip
    assert {(plan.branches, plan.repeats, plan.reference) for plan in grid.plans} == {((2, 4), (0, 1), PLAIN)}
