"""Way 3: inside an application - blocking, awaiting several at once, and streaming events."""

import asyncio

from treeagent import Agent, Budget, JudgedEvent, Result

agent = Agent(task="game24", search="bfs", budget=Budget(tokens=20_000, seconds=60))

result = agent.solve("4 9 10 13")
print("blocking:", result.answer, "for", result.usage.tokens, "tokens")


async def main() -> None:
    """Two searches at once share the backend's batches; a third is watched while it runs."""
    for result in await asyncio.gather(agent.asolve("2 3 5 12"), agent.asolve("4 5 6 10")):
        print("awaited:", result.input, "->", result.answer)
    async for item in agent.stream("1 3 4 6"):
        if isinstance(item, Result):
            print("streamed:", item.answer)
        elif isinstance(item, JudgedEvent) and item.value == 20:
            print("  thought", item.id, "looks good")


asyncio.run(main())
