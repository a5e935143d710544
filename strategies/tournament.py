"""Thoughts that are compared two by two by votes, in a knock-out or each with all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from treeagent import EvaluationContext, RequestRefusedError, Thought, aio

from .labels import read_vote


@dataclass(slots=True)
class Standing:
    """What became of one thought."""

    value: float = 1.0
    votes: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Tournament:
    """The comparisons of one judgement; thoughts are named by their places in it."""

    thoughts: Sequence[Thought]
    records: list[Standing]
    context: EvaluationContext
    samples: int | None
    unread: int = 0

    async def knock_out(self) -> None:
        """A loser's value rises with the rounds that it survived, then with its share of the last votes."""
        alive, survived = list(range(len(self.thoughts))), 0
        rounds = (len(alive) - 1).bit_length()
        while len(alive) > 1:
            pairs = list(zip(alive[::2], alive[1::2], strict=False))
            shares = await self._shares(pairs)
            winners = alive[len(pairs) * 2 :]  # an odd one goes on unopposed
            for (one, other), share in zip(pairs, shares, strict=True):
                winner, loser = (one, other) if share >= 0.5 else (other, one)
                self.records[loser].value = (survived + min(share, 1 - share)) / (rounds + 1)
                winners.append(winner)
            alive, survived = sorted(winners), survived + 1

    async def round_robin(self) -> None:
        """A value is the mean share of the votes over all opponents."""
        pairs = list(combinations(range(len(self.thoughts)), 2))
        for (one, other), share in zip(pairs, await self._shares(pairs), strict=True):
            self.records[one].shares.append(share)
            self.records[other].shares.append(1 - share)
        for record in self.records:
            record.value = sum(record.shares) / len(record.shares) if record.shares else 1.0

    async def _shares(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Of each pair the share of the votes for the first; a half where there are none. Votes are recorded."""
        orders = [order for one, other in pairs for order in ((one, other), (other, one))]
        votes = await aio.gather((self._votes(*order) for order in orders), deferred=Exception)
        shares = []
        for (one, other), straight, swapped in zip(pairs, votes[::2], votes[1::2], strict=True):
            known = [vote == 1 for vote in straight if vote] + [vote == 2 for vote in swapped if vote]
            self.unread += len(straight) + len(swapped) - len(known)
            for place, opponent, side in ((one, other, True), (other, one, False)):
                number = self.thoughts[opponent].id
                self.records[place].votes += [f"{'over' if won == side else 'under'} {number}" for won in known]
            shares.append(sum(known) / len(known) if known else 0.5)
        return shares

    async def _votes(self, one: int, other: int) -> list[int | None]:
        """The votes of one order, 1 or 2, or None where one cannot be read; none where the request is refused."""
        first, second = self.thoughts[one], self.thoughts[other]
        place = f"{first.key}|{second.key}"
        try:
            reply = await self.context.ask("vote", first, place, n=self.samples, choices=(first, second))
        except RequestRefusedError:
            return []
        return [read_vote(each.text, 2, cut=each.finish == "length") for each in reply.completions]
