"""Measure the memory of a backend over many searches: ``python -m treeagent.backends.bench.memory``.

Solves random puzzles of the Game of 24 one after another with ``mini`` and prints the resident memory of the process in
MiB after the import, the load, some of the solves, and ``aclose``, each as soon as it is known.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

from treeagent import Agent

MARKS = (1, 10, 20, 50, 100, 200)
"""Numbers of solves after which memory is read."""


def resident() -> float:
    """Resident memory of this process in MiB; Linux only."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def measure(backend: str, model: str, solves: int) -> Iterator[tuple[str, float]]:
    """What happened (``import``, ``load``, ``1 solves`` ..., ``aclose``) and the memory in MiB after it."""
    import torch  # noqa: F401, PLC0415  # its import is a part of the figures
    import transformers  # noqa: F401, PLC0415

    draw = random.Random(0)
    yield "import", resident()
    agent = Agent("game24", "bfs", backend=backend, model=model)
    agent.backend.load()
    yield "load", resident()
    for number in range(1, solves + 1):
        agent.solve(" ".join(str(draw.randint(1, 13)) for _ in range(4)))
        if number in (*MARKS, solves):
            yield f"{number} solves", resident()
    asyncio.run(agent.backend.aclose())
    yield "aclose", resident()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="seed")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--solves", type=int, default=100)
    chosen = parser.parse_args()
    for event, mebibytes in measure(chosen.backend, chosen.model, chosen.solves):
        print(f"{event:>12} {mebibytes:8.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
