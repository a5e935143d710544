"""Way 1, in Python: the task of ``three_numbers.yaml`` as a class, for what YAML cannot say.

A package registers such a class under the entry-point group ``treeagent.tasks``; without that it runs as
``treeagent solve --task python_task:ThreeNumbers --allow-code`` in this folder.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul, sub
from typing import Any

from treeagent import Agent, InputError, ProposedStep, Task, Thought

STEP = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+) \(left: ([\d ]+)\)")
OPERATIONS = {"+": add, "-": sub, "*": mul}


@dataclass(frozen=True)
class ThreeNumbers(Task):
    """Its fields are the task's variables; ``--var goal=25`` sets one."""

    goal: int = 24

    name = "three_numbers"
    description = "Make a number from three others with +, - and *, each used once."
    examples = ("4 4 10", "3 5 9")
    input_form = "three whole numbers"
    roles = ("propose", "value")

    def read_input(self, text: str) -> str:
        """The numbers in ascending order, so that equal inputs are equal texts."""
        if not re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", text, re.ASCII):
            raise InputError(f"{text[:60]!r} is not an input of {self.name}: expected {self.input_form}")
        return " ".join(map(str, sorted(map(int, text.split()))))

    def state_key(self, state: str) -> str:
        """The order of the numbers does not matter."""
        return " ".join(sorted(state.split(), key=int))

    def prompt(
        self,
        role: str,
        input: str,
        thought: Thought,
        steps: Sequence[str],
        choices: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Two prompts; ``thought.state`` holds the numbers that are left."""
        if role == "propose":
            return (
                f"Combine two of the numbers with + - * on the way to {self.goal}.\nNumbers: {thought.state}\nSteps:\n"
            )
        return f"Can these numbers make {self.goal}? Say sure, likely or impossible.\nNumbers: {thought.state}\nAnswer:"

    def read_thoughts(
        self, role: str, completion: str, input: str, parent: Thought, steps: Sequence[str]
    ) -> list[ProposedStep]:
        """One step a line."""
        return [self._read(line.strip(), parent) for line in completion.splitlines() if line.strip()]

    def _read(self, line: str, parent: Thought) -> ProposedStep:
        match = STEP.fullmatch(line)
        if match is None:
            return ProposedStep(line, parent.state, parent.key, terminal=False, fault="unparsed")
        a, operation, b, result, left = match.groups()
        rest = Counter(parent.state.split())
        rest.subtract([a, b])
        rest[result] += 1
        legal = min(rest.values()) >= 0 and rest == Counter(left.split())
        legal = legal and OPERATIONS[operation](int(a), int(b)) == int(result)
        fault = None if legal else "illegal"
        return ProposedStep(line, left, self.state_key(left), terminal=parent.depth == 1, fault=fault)

    def path_answer(self, input: str, thought: Thought, steps: Sequence[str]) -> str | None:
        """No prompt writes the answer: the steps are the answer."""
        return ", then ".join(step.partition(" (")[0] for step in steps) or None

    def verify(self, input: str, steps: Sequence[str], answer: str | None) -> bool:
        """Whether legal steps lead from the input to the goal."""
        thought = self.root(input)
        for step in steps:
            read = self._read(step, thought)
            if read.fault is not None:
                return False
            thought = Thought(0, None, step, read.state, read.key, thought.depth + 1)
        return thought.state == str(self.goal)


if __name__ == "__main__":
    result = Agent(task=ThreeNumbers(), search="bfs").solve("10 4 4")
    print("answer:", result.answer)
    print("solved:", result.solved)
