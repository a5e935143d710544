"""Way 1: a task of your own is one YAML file. This one makes 24 from three numbers."""

from pathlib import Path

from treeagent import Agent

agent = Agent(task=Path(__file__).with_name("three_numbers.yaml"), search="bfs")
result = agent.solve("10 4 4")
print("answer:", result.answer)
print("merged duplicates:", result.counts.duplicates, "- illegal steps dropped:", result.counts.illegal)
