"""A scripted model with the right answers for each task, for complete runs without a real one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from helpers import Oracle

from treeagent import Backend, Request
from treeagent.backends.scripted import ScriptedBackend
from treeagent.tasks import blocksworld, creative_writing, crosswords, prontoqa
from treeagent.tasks.blocksworld_rules import Action, actions, apply, shortest_plan
from treeagent.tasks.prontoqa_rules import Fact, Proposition, Rule

Answers = Callable[[Request], str | Sequence[str]]


def backend(task: str) -> Backend:
    """A backend that solves the first example of a task."""
    return Arithmetician() if task == "game24" else ScriptedBackend(MODELS[task])


class Arithmetician(Oracle):
    """An oracle of the Game of 24 that answers the baselines' prompts too."""

    def _text(self, request: Request) -> str:
        return "(13 - 9) * (10 - 4) = 24" if request.key.role in ("io", "cot") else super()._text(request)


def last(prompt: str, start: str) -> str:
    """The rest of the last line with such a beginning, which is the puzzle's own: examples come first."""
    return prompt.rpartition(f"\n{start}")[2].partition("\n")[0].strip()


def after(prompt: str, start: str) -> list[str]:
    """The lines below the last one with such a beginning."""
    return prompt.rpartition(f"\n{start}")[2].splitlines()[1:]


def show_action(action: Action) -> str:
    """Inverse of :func:`blocksworld.read_action`."""
    link = {"stack": f" on {action.other}", "unstack": f" from {action.other}"}.get(action.name, "")
    return f"{action.name} {action.block}{link}"


def blocks(request: Request) -> str:
    """The first action of a shortest plan before all others; good is what comes nearer to the goal."""
    role, prompt = request.key.role, request.prompt
    if role in ("propose", "sample"):
        state, goal = blocksworld.read(last(prompt, "Now: " if role == "propose" else "Start: "))
        for step in after(prompt, "Actions:") if role == "sample" else []:
            state = apply(state, blocksworld.read_action(step) or Action("put down", "?")) or state
        best = (shortest_plan(state, goal) or [])[:1]
        words = [show_action(action) for action in [*best, *actions(state)]]
        return "\n".join(words if role == "propose" else words[:1])
    if role == "value":
        state, goal = blocksworld.read(last(prompt, "Now: "))
        action = blocksworld.read_action(last(prompt, "Last action: "))
        before = apply(state, action.reverse) if action else None
        nearer = len(shortest_plan(state, goal) or []) < len(shortest_plan(before or state, goal) or [])
        return " good" if nearer else " bad"
    if role == "vote":
        plans = [shortest_plan(*blocksworld.read(text)) or [] for text in re.findall(r"Choice \d+: (.*)", prompt)]
        return f" {min(range(len(plans)), key=lambda at: len(plans[at])) + 1}"
    plan = shortest_plan(*blocksworld.read(last(prompt, "Start: "))) or []
    lines = "\n".join(show_action(action) for action in plan)
    return lines if role == "io" else f" unstack what is in the way, then build.\nPlan:\n{lines}"


def closure(rules: Iterable[Rule], known: Iterable[Fact]) -> set[Fact]:
    """Everything that follows in any number of steps, by forward chaining."""
    rules_by_kind: dict[Proposition, list[Rule]] = {}
    for rule in rules:
        rules_by_kind.setdefault(Proposition(rule.kind), []).append(rule)
    derived = set(known)
    agenda = list(derived)
    while agenda:
        fact = agenda.pop()
        for rule in rules_by_kind.get(fact.claim, ()):
            new = Fact(fact.who, rule.claim)
            if new not in derived:
                derived.add(new)
                agenda.append(new)
    return derived


def proof(problem: prontoqa.ProntoQAProblem) -> list[tuple[str, Fact]]:
    """Steps from the facts to the question's answer, and what each derives."""
    ways: dict[Fact, list[tuple[str, Fact]]] = {fact: [] for fact in problem.facts}
    waiting = list(problem.facts)
    while waiting:
        fact = waiting.pop(0)
        if fact in (problem.query, problem.query.denied):
            return ways[fact]
        for rule in problem.rules:
            new = Fact(fact.who, rule.claim)
            if fact.claim == Proposition(rule.kind) and new not in ways:
                ways[new] = [*ways[fact], (sentence(new), new)]
                waiting.append(new)
    return []


def sentence(fact: Fact) -> str:
    """A fact in words; whether it is a kind or a property does not matter to the reader."""
    return f"{fact.who.capitalize()} is{'' if fact.claim.holds else ' not'} {fact.claim.name}."


def proofs(request: Request) -> str:
    """The next step of a shortest proof, and one that leads nowhere."""
    role, prompt = request.key.role, request.prompt
    problem = prontoqa.read(last(prompt, "Facts: "))
    steps = [text for text, _ in proof(problem)]
    if role == "propose":
        asides = {sentence(Fact(fact.who, rule.claim)) for rule in problem.rules for fact in problem.facts
                  if fact.claim == Proposition(rule.kind)}  # fmt: skip
        return "\n".join([*steps[:1], *sorted(asides - set(steps[:1])), "Everything is fine."])
    if role == "sample":
        done = len(after(prompt, "Steps:"))
        return steps[done] if done < len(steps) else steps[-1]
    if role == "value":
        start = prontoqa.read(
            last(prompt, "Facts: ").partition(last(prompt, "Last step: "))[0] + " True or false: " + problem.question
        )
        return " good" if last(prompt, "Last step: ") in [text for text, _ in proof(start)] else " bad"
    if role == "vote":
        choices = re.findall(r"Choice \d+: (.*)", prompt)
        return f" {max(range(len(choices)), key=lambda at: sum(step in choices[at] for step in steps)) + 1}"
    found = problem.transition(" ".join(steps))
    return (
        f" {found.answer}"
        if role == "io" and found
        else "\n".join([*steps, f"Answer: {found.answer if found else ''}"])
    )


GRID = "ACHES CHEAT HEDGE EAGLE STEEL"


def crossword(request: Request) -> str:
    """The right words of the first example, after one that does not fit with the others."""
    role, prompt = request.key.role, request.prompt
    gold = crosswords.Grid(("",) * 10, GRID.replace(" ", ""))
    if role in ("propose", "sample"):
        if role == "sample":
            done = sum(bool(re.match(r"[hv]\d\. [A-Z]{5}$", line)) for line in after(prompt, "Words:"))
            return f"h{done + 1}. {gold.word(f'h{done + 1}')}"
        board = crosswords.read("\n".join(prompt.rpartition("\n\n")[2].splitlines()[:-1]))
        open_slots = [slot for slot in crosswords.SLOTS if "_" in board.word(slot)]
        return "\n".join(["h1. ADIEU", *(f"{slot}. {gold.word(slot).lower()}" for slot in open_slots[:2])])
    if role in ("value", "vote"):
        boards = [text.strip() for text in re.findall(r"(?:h1\. Dull.*\n)(?:.+\n){9}", prompt)]
        right = [all(mine in ("_", its) for mine, its in zip(crosswords.read(text).letters, gold.letters, strict=True))
                 for text in boards]  # fmt: skip
        if role == "value":
            return " sure" if right[-1] else " impossible"
        full = [
            sum(letter != "_" for letter in crosswords.read(text).letters) * good
            for text, good in zip(boards, right, strict=True)
        ]
        return f" {full.index(max(full)) + 1}"
    grid = GRID.replace(" ", "\n")
    return grid if role == "io" else f" h1. ACHES, h2. CHEAT.\nGrid:\n{grid}"


def writing(request: Request) -> str | list[str]:
    """Passages of which the second ends as it must; a vote finds it."""
    role, prompt = request.key.role, request.prompt
    if role == "vote":
        wanted = re.findall(r"to these sentences: (.*)", prompt)[-1]
        choices = re.split(r"\n\nChoice \d+:\n", prompt.rpartition("\n\nBest:")[0])[1:]
        verify = creative_writing.CreativeWriting().verify
        return f" {max(range(len(choices)), key=lambda at: verify(wanted, [], choices[at])) + 1}"
    if role == "value":
        return "good"
    if role == "sample" and prompt.endswith("Plan:\n"):
        return [f"1. Plan {number}.\n2. More.\n3. More still.\n4. The end.\n" for number in range(5)]
    [ends] = creative_writing.readings(last(prompt, "Sentences: "))
    passage = "\n\n".join(f"Once upon a time. {end}" for end in ends)
    if role == "cot":
        return f"1. Once.\n2. Twice.\n3. Thrice.\n4. Enough.\nPassage:\n{passage}"
    return passage if role == "io" else [f"{passage} Or not.", passage, "One paragraph only."]


STEPS = ["How many tulips are there? 4 * 6 = 24", "How many flowers are there? 24 + 5 = 29", "Answer: 29"]


def sums(request: Request) -> str | list[str]:
    """The steps of the first example, beside one that miscalculates."""
    role, prompt = request.key.role, request.prompt
    done = prompt.rpartition("\nProblem: ")[2].splitlines()[1:]
    if role == "sample":
        following = next((step for step in STEPS if step not in done), STEPS[-1])
        return [following, "How many roses are there? 4 * 5 = 25", "How many pots? 6 + 5 = 11", "Answer: 30"]
    if role == "value":
        return " good" if done[-2] in STEPS else " bad"
    if role == "vote":
        choices = re.findall(r"Choice \d+: (.*)", prompt)
        return f" {max(range(len(choices)), key=lambda at: sum(step in choices[at] for step in STEPS)) + 1}"
    return " 29" if role in ("io", "answer") else " 4 * 6 = 24 tulips, 24 + 5 = 29 flowers.\nAnswer: 29"


def tools(request: Request) -> str | list[str]:
    """A program for the product of the first example, then its output as the answer; beside them what is wrong."""
    role, prompt = request.key.role, request.prompt
    lines = after(prompt, "What is 48271") if role != "vote" else []
    if role == "sample":
        if lines and lines[-1].startswith("Output: "):
            return [f"Answer: {lines[-1].removeprefix('Output: ')}", "Code: 1 / 0", "Answer: 7"]
        return ["Code: 48271 * 90163", "Code: import os; os.getcwd()", "no code", "Answer: 4352257173"]
    if role == "value":
        good = "Output: 4352258173" in prompt and lines[-2] in ("Output: 4352258173", "Answer: 4352258173")
        return " good" if good else " bad"
    if role == "vote":
        choices = re.findall(r"Choice \d+: (.*)", prompt)
        return f" {max(range(len(choices)), key=lambda at: choices[at].count('4352258173')) + 1}"
    return " 4352258173" if role == "io" else " 48271 * 90163 is 4352258173.\nAnswer: 4352258173"


MODELS: dict[str, Answers] = {
    "arithmetic_tools": tools,
    "blocksworld": blocks,
    "creative_writing": writing,
    "crosswords": crossword,
    "gsm8k": sums,
    "prontoqa": proofs,
}
GOLD = {"arithmetic_tools": "4352258173", "crosswords": GRID, "gsm8k": "29", "prontoqa": "False"}
"""The answer to the first example, where the task cannot verify it or more than one reading would do."""
