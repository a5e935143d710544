"""Journals made by code: large ones, hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treeagent.runtime.journal import ROUND

HOSTILE = (
    '</script><script>window.owned = 1; document.title = "owned"</script>',
    '<img src=x onerror="window.owned = 1">',
    "javascript:window.owned=1",
    "line\u2028separator\u2029here --> <!-- ]]>",
    "bidi \u202egnorw\u202c \u2066isolate\u2069 \ufeff",
    "escape \x1b[31m bell \x07 null \x00 delete \x7f",
    "lone surrogate \ud800 and &lt;b&gt; &amp; {{ 7*7 }} ${7*7}",
    '"><svg onload=window.owned=1><style>*{display:none}</style>',
)
"""Texts that a page must show and never obey."""
USAGE = {"calls": 1, "prompt_tokens": 90, "completion_tokens": 40, "dollars": None}


class Story:
    """Writes the lines of a journal, with ids and times of its own."""

    def __init__(self, input: str = "1 2 3 4", **settings: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.paths: dict[int, list[int]] = {0: []}
        self.children: dict[int, int] = {0: 0}
        self.add("run", format=1, input=input, seed=0, budget={}, settings={"task": "game24", **settings})

    def add(self, type: str, **data: Any) -> None:
        """One event."""
        self.lines.append({"type": type, "t": len(self.lines) / 1000, **data})

    def reply(self, id: str, role: str, at: int, text: str, prompt: str = "prompt", **more: Any) -> None:
        """A request with one completion."""
        sample = {"text": text, "tokens": [1, 2, 3], "finish": "stop", **more}
        self.add(
            "completion", id=id, role=role, prompt=prompt, completions=[sample], usage=USAGE, thought=at, seconds=0.01
        )

    def thought(self, parent: int, text: str, state: str = "state", request: str | None = None, **more: Any) -> int:
        """A thought; returns its id."""
        id, index = len(self.paths), self.children[parent]
        self.children[parent] += 1
        self.paths[id], self.children[id] = [*self.paths[parent], index], 0
        path = self.paths[id]
        known = {"terminal": False, **more}
        known |= {"depth": len(path), "path": path, "request": request, "sample": 0}
        self.add("thought", id=id, parent=parent, text=text, state=state, **known)
        return id

    def judged(self, id: int, value: float | None, *labels: str, requests: tuple[str, ...] = ()) -> None:
        """A judgement."""
        self.add("judged", id=id, value=value, labels=labels, unparsed=int(value is None), requests=requests)

    def dropped(self, parent: int, text: str, why: str) -> None:
        """A piece that is no thought."""
        self.add("dropped", id=parent, index=self.children[parent], text=text, why=why)
        self.children[parent] += 1

    def rounds(self, model: str | None, *rounds: tuple[float, float, int, int, int, int, int]) -> None:
        """Rounds of an engine: began, seconds, rows, read, drafted, accepted, tokens."""
        self.add("rounds", model=model, **dict(zip(ROUND, map(list, zip(*rounds, strict=True)), strict=True)))

    def end(self, thought: int | None, answer: str | None = None, **engine: Any) -> None:
        """The end, as ``solve --json`` has it."""
        counts = {"thoughts": len(self.paths) - 1, "duplicates": 0}
        usage = {"calls": 1, "prompt_tokens": 2, "completion_tokens": 3, "dollars": None, "tokens": 5}
        told = {"answer": answer, "solved": answer is not None, "path": [], "thought": thought, "ended": "finished"}
        cost = {"usage": usage, "seconds": 1.5, "counts": counts, "engine": engine}
        self.add("end", input="1 2 3 4", seed=0, settings={}, **told, **cost)

    def write(self, path: Path) -> Path:
        """The file."""
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        return path


def large(thoughts: int) -> Story:
    """A tree with so many thoughts: ten children each, every child judged, a dropped piece for every ten."""
    story = Story()
    instructions = "Combine two of the numbers with + - * / on the way to 24.\n" * 6
    waiting, done = [0], 0
    while done < thoughts:
        parent = waiting.pop(0)
        steps = [f"{parent} + {child} = {parent + child} (left: {child} {done})" for child in range(10)]
        story.reply(f"p{parent}", "propose", parent, "\n".join(steps), f"{instructions}Numbers: {parent}\nSteps:\n")
        for child, step in enumerate(steps[: thoughts - done]):
            id = story.thought(parent, step, f"{child} {done}", f"p{parent}")
            story.reply(f"v{id}", "value", id, " sure", f"{instructions}Numbers: {child} {done}\nAnswer:")
            story.judged(id, float((id * 7) % 20), "sure", requests=(f"v{id}",))
            waiting.append(id)
            done += 1
        story.dropped(parent, "1 + 1 = 3", "illegal")
    story.end(done, "1 + 2", rounds=7)
    return story


def hostile() -> Story:
    """Every text of the journal is an attack: input, steps, states, labels, prompts, replies, answers, errors."""
    story = Story(HOSTILE[0], **{HOSTILE[1]: HOSTILE[0]})
    for number, text in enumerate(HOSTILE):
        story.reply(f"p{number}{text}", text, 0, "".join(HOSTILE), text)
        id = story.thought(0, text, text, f"p{number}{text}")
        story.reply(f"v{number}", text, id, text, text, drafted=[1], ends=[1, 3, len(text)])
        story.judged(id, None if number % 2 else float(number), text, requests=(f"v{number}",))
        story.dropped(id, text, text)
        story.add("answer", id=id, answer=text)
        story.add(text, anything=text)
    story.rounds(HOSTILE[0], (0.001, 0.002, 3, 4, 5, 2, 5))
    story.rounds(HOSTILE[1], (0.003, 0.002, 3, 4, 5, 2, 5))
    story.add("failed", error=HOSTILE[0])
    story.end(1, HOSTILE[1], **{HOSTILE[0]: HOSTILE[1], "nan": float("nan"), "endless": float("-inf")})
    return story
