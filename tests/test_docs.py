"""The task manual names every key of the schema, and no key that is not there."""

import re
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from treeagent.taskfile.prompt_schema import PromptSpec
from treeagent.taskfile.schema import SamplingSpec, TaskFile

DOCS = Path(__file__).parent.parent / "docs"


BY_ROLE = ("sampling", "constraints")
"""Keys whose own keys are roles."""


def _keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = next(
            (
                arg
                for arg in (field.annotation, *get_args(field.annotation))
                if isinstance(arg, type) and issubclass(arg, BaseModel)
            ),
            None,
        )
        if inner is not None and issubclass(inner, PromptSpec):
            found |= {f"{prefix}{name}", *(f"{prefix}ROLE.{key}" for key in inner.model_fields)}
        elif inner is None or name in BY_ROLE:
            found.add(f"{prefix}{name}" + (".ROLE" if name in BY_ROLE else ""))
        else:
            found |= _keys(inner, f"{prefix}{name}.")
    return found


def test_the_table_of_task_keys_is_the_schema() -> None:
    """A key added to the schema must be documented, and a key removed from it must go."""
    text = (DOCS / "tasks.md").read_text()
    listed = set(re.findall(r"^\| `([\w.]+)`", text, re.MULTILINE))
    assert listed == _keys(TaskFile)


def test_every_sampling_option_is_named() -> None:
    """The row of ``sampling`` lists what may be set."""
    [row] = [line for line in (DOCS / "tasks.md").read_text().splitlines() if line.startswith("| `sampling")]
    assert set(re.findall(r"`(\w+)`", row)) == set(SamplingSpec.model_fields)


def test_required_keys_are_marked() -> None:
    """A star stands at the keys without a default."""
    text = (DOCS / "tasks.md").read_text()
    starred = set(re.findall(r"^\| `([\w.]+)` \*", text, re.MULTILINE))
    required = {name for name, field in TaskFile.model_fields.items() if field.is_required()}
    assert {key.split(".")[0] for key in starred} == required - {"prompts"}  # the table lists its keys instead
