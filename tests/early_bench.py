"""Length of the critical path with and without early requests, by a backend whose time is that of its tokens.

Every completion of ``mini`` takes one unit a token, all in flight at the same time, and a row more costs nothing. So
the figures are those of an engine with room for every guess, up to ``speculate`` at once. Run it
as ``python tests/early_bench.py [SPECULATE ...]``.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from early_tools import VirtualLoop, units

from treeagent import Agent, Backend, OnText, Partial, Reply, Request, Result, Search, aio
from treeagent.registry import load
from treeagent.strategies.best_first import BestFirst
from treeagent.strategies.bfs import BFS
from treeagent.strategies.dfs import DFS
from treeagent.strategies.mcts import MCTS

HANDS = ["4 9 10 13", "1 5 8 9", "2 3 7 12", "1 4 8 8"]
SEARCHES: dict[str, Search] = {
    "dfs": DFS(),
    "best-first": BestFirst(),
    "mcts": MCTS(parallel=1, simulations=12),
    "bfs": BFS(),
}


class TokenTime(Backend):
    """Passes requests to a model, and takes a unit of the loop's time for each token of the longest completion."""

    name = "token-time"
    capabilities = frozenset({"generate", "seed"})

    def __init__(self, inner: Backend, texts: dict[str, Reply], *, streams: bool = True) -> None:
        self._inner, self._texts, self._streams = inner, texts, streams
        self.model = "mini"
        self.tokens = 0

    async def generate(self, request: Request) -> Reply:
        """The model's reply, after its time."""
        return await self.stream(request, lambda written: None)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """The model's reply; its texts grow token by token."""
        if request.id not in self._texts:
            with ThreadPoolExecutor(1) as thread:  # waits here, so that the loop's time stands still meanwhile
                self._texts[request.id] = thread.submit(asyncio.run, self._inner.generate(request)).result()
        reply = self._texts[request.id]
        await units(1)
        longest = max((len(completion.tokens or ()) for completion in reply.completions), default=0)
        for token in range(longest):
            await units(1)
            self.tokens += 1
            if self._streams:
                for sample, completion in enumerate(reply.completions):
                    ends = completion.ends or ()
                    if token < len(ends):
                        on_text(Partial(sample, completion.text[: ends[token]], token + 1))
        return reply


def run(search: Search, hand: str, speculate: int, inner: Backend, texts: dict[str, Reply]) -> tuple[Result, float]:
    """The result, and the units of time that it took."""
    backend = TokenTime(inner, texts)
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(Agent("game24", search, backend=backend, speculate=speculate).asolve(hand))
        return result, loop.time()
    finally:
        loop.close()


def main() -> None:
    """Print the table."""
    aio._AT_ONCE = 60.0  # a thread that reads a reply must not let the loop's time pass
    inner, texts = load("backend", "seed").open("mini", {}), {}
    for name, search in SEARCHES.items():
        for speculate in map(int, sys.argv[1:] or ["8"]):
            plain = early = wasted = spent = 0.0
            hits: dict[str, list[int]] = {}
            for hand in HANDS:
                before, time_before = run(search, hand, 0, inner, texts)
                after, time_after = run(search, hand, speculate, inner, texts)
                assert (before.tree.to_json(), before.usage) == (after.tree.to_json(), after.usage)
                plain, early = plain + time_before, early + time_after
                spent += before.usage.tokens or 0
                assert after.speculated is not None
                wasted += after.speculated.tokens_at_least
                for kind, number in after.speculated.hits.items():
                    hits.setdefault(kind, [0, 0])[0] += number
                for kind, number in after.speculated.misses.items():
                    hits.setdefault(kind, [0, 0])[1] += number
            kinds = ", ".join(f"{kind} {hit}/{hit + miss}" for kind, (hit, miss) in sorted(hits.items()))
            print(f"{name:10} speculate={speculate}: {plain:6.0f} -> {early:6.0f} units, {plain / early:.2f}x; "
                  f"at least {wasted / spent:.0%} of {spent:.0f} tokens in vain; {kinds}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
