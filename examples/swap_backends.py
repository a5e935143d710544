"""Way 4: the same search on two backends, compared token for token.

A journal of the first run is the second backend here, so the example needs one model only; put ``transformers`` with
another model, or any other backend, in its place.
"""

import tempfile
from pathlib import Path

from treeagent import Agent

with tempfile.TemporaryDirectory() as folder:
    journal = Path(folder) / "run.jsonl"
    live = Agent(task="game24", search="bfs", backend="transformers").solve("4 5 6 10", journal=journal)
    replayed = Agent(task="game24", search="bfs", backend="replay", model=str(journal)).solve("4 5 6 10")
    print("live:    ", live.answer, f"in {live.seconds:.2f} s")
    print("replayed:", replayed.answer, f"in {replayed.seconds:.2f} s")
    print("same tree:", live.tree.to_json() == replayed.tree.to_json())
