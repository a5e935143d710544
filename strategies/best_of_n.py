"""Best-of-N and weighted majority: N complete chains, judged at their ends.

Best-of-N: Cobbe et al. 2021, arXiv:2110.14168, section 4. Weighted majority, where an answer's weight is the sum of the
judgements of its chains: Li et al. 2023, arXiv:2206.02336, equation 3. Departs from both where chains are made of
steps: a step to a state that is in the tree already is merged, so each level has N samples in all, shared equally among
its different states, and chains that meet part again. A judgement that could not be read adds no weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from treeagent import Explorer, Search, Task, Thought, ranked

from .allotment import allotment


@dataclass(frozen=True)
class BestOfN(Search):
    """Draw ``n`` chains without looking at a judge, have their ends judged, and choose one answer."""

    n: Annotated[int, Ge(1)] = 16
    """Chains."""
    vote: Literal["best", "weighted", "majority"] = "best"
    """``best``: the answer of the best chain. ``weighted``: the answer with the highest sum of judgements.
    ``majority``: the most frequent answer, which needs no judgement."""
    by: Literal["sample", "cot", "io"] | None = None
    """Prompt of the chains: ``sample`` step by step, else whole attempts. None: ``sample`` if the task has it, else
    ``cot``. A judge of attempts has to read their text, as ``likelihood`` does: their state is that of the input."""
    candidates: Annotated[int, Ge(1)] = 1
    """Answers that may be verified, the best first; more than 1 uses the task's own check as a second judge."""

    def role(self, task: Task) -> str:
        """The prompt of the chains."""
        return self.by or ("sample" if task.has("sample") else "cot")

    def check(self, task: Task) -> None:
        """Raise ConfigError when the task lacks the prompt of the chains."""
        task.require(self.role(task), "the search 'best-of-n'")

    async def run(self, explorer: Explorer) -> Thought | None:
        """The best chain, or the best one with the answer that has the most weight."""
        role = self.role(explorer.task)
        ends = await (self._sampled(explorer) if role == "sample" else explorer.attempt(role, self.n))
        ends = ends if self.vote == "majority" else ranked(await explorer.evaluate(ends))
        if self.vote == "best":
            return await explorer.finish(ends[: self.candidates])
        await explorer.finish(ends)  # a vote needs all answers
        weights: dict[str, float] = {}
        first: dict[str, Thought] = {}
        for end in [explorer.tree[end.id] for end in ends]:
            if end.answer is not None:
                key = explorer.task.answer_key(end.answer)
                weights[key] = weights.get(key, 0.0) + (1.0 if self.vote == "majority" else end.value or 0.0)
                first.setdefault(key, end)
        heaviest = sorted(first, key=lambda key: -weights[key])
        return await explorer.finish([first[key] for key in heaviest[: self.candidates]])

    async def _sampled(self, explorer: Explorer) -> list[Thought]:
        """The ends of the chains, as many as reach one."""
        level, ends = [explorer.root], list[Thought]()
        while level and len(ends) < self.n:
            shares = allotment([None] * len(level), self.n - len(ends), 1.0)
            growing = {thought: share for thought, share in zip(level, shares, strict=True) if share}
            grown = await explorer.expand(list(growing), role="sample", n=list(growing.values()))
            below = [child for children in grown for child in children]
            ends += [child for child in below if child.terminal]
            level = [child for child in below if not child.terminal]
        return ends
