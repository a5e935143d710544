"""The fields by which each kind of server takes a constraint, and whether its completions keep it."""

from __future__ import annotations

import json
import re
from typing import Any

from treeagent.constraint import Constraint
from treeagent.errors import BackendError
from treeagent.patterns import Pattern, PatternLimitError
from treeagent.reply import Completion
from treeagent.request import Sampling

from .gbnf import choices_grammar, regex_grammar
from .server_kinds import ServerKind

_VLLM = {"regex": "regex", "choices": "choice", "json_schema": "json"}


def constraint_fields(sampling: Sampling, kind: ServerKind) -> dict[str, Any]:
    """The fields of the sampling's constraint; none without one. Raises BackendError where the server takes none."""
    constraint = sampling.constraint
    if constraint is None:
        return {}
    fields = _fields(constraint, kind)
    if not fields:
        raise BackendError(
            f"a server of kind {kind.name!r} takes no constraint of kind {constraint.kind!r}, but JSON schemas alone; "
            "leave it out, or set the option server to the right kind"
        )
    if name := next((name for name in fields if name in sampling.extra_body), None):
        raise BackendError(
            f"sampling.ROLE.extra_body sets {name!r}, which is the field of the constraint; leave it out"
        )
    return fields


def _fields(constraint: Constraint, kind: ServerKind) -> dict[str, Any]:
    value: Any = constraint.text if constraint.kind == "regex" else json.loads(constraint.text)
    if kind.name == "vllm":  # guided_* until 0.11, structured_outputs since; each ignores the fields of the other
        name = _VLLM[constraint.kind]
        return {"structured_outputs": {name: value}, f"guided_{name}": value}
    if constraint.kind == "json_schema":
        schema = {"name": "completion", "schema": value, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if kind.name == "sglang":
        return {"regex": value if constraint.kind == "regex" else "(" + "|".join(map(re.escape, value)) + ")"}
    if kind.name != "llamacpp":
        return {}
    try:
        return {"grammar": regex_grammar(value) if constraint.kind == "regex" else choices_grammar(value)}
    except ValueError as error:
        raise BackendError(f"the constraint {constraint.text!r} is not understood: {error}") from error


def check_kept(completion: Completion, sampling: Sampling) -> None:
    """Raise BackendError where a whole completion is none that the constraint allows: the server has ignored it."""
    constraint = sampling.constraint
    if constraint is None or sampling.stop or completion.finish != "stop" or _allows(constraint, completion.text):
        return
    raise BackendError(
        f"the server did not keep the constraint {constraint.text!r:.200}: it answered {completion.text!r:.80}; "
        "leave the constraint out, or use a server that has structured outputs"
    )


def _allows(constraint: Constraint, text: str) -> bool:
    """Whether the text is allowed, as far as it can be told: of a JSON schema, whether the text is JSON."""
    if constraint.kind == "choices":
        return text in constraint.choices
    try:
        if constraint.kind == "regex":
            return Pattern(constraint.text).fullmatch(text) is not None
        json.loads(text)
    except PatternLimitError:
        return True
    except ValueError:
        return constraint.kind == "regex"  # a server may read patterns that Python does not
    return True
