"""Checks what the roles of a task ask of the backends, before the first request."""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Backend
from ..chat import Chat
from ..errors import ConfigError
from ..plugin_boundary import PluginBoundary
from ..task import ROLES, Task
from . import factory

JUDGES = ("value", "vote", "critique", "outcome", "prm")
"""Roles of the evaluator."""
_BEAMS, _CHAT, _CONSTRAINTS = frozenset({"beams"}), frozenset({"chat"}), frozenset({"constraints"})


def check_roles(task: Task, generator: Backend, judging: Backend, *, judged: bool, loaded: bool = False) -> None:
    """Raise CapabilityError where a backend lacks what a role asks for, ConfigError for settings that contradict.

    ``judged``: there is an evaluator, whose backend is ``judging``. ``loaded``: the backends know what they can.
    """
    with PluginBoundary("task", task.name):
        sampled = {role: task.sampling(role)[0] for role in ROLES}
        has_messages = [role for role in task.roles if role in task.chat_roles]
        for role in task.roles:
            if fault := sampled[role].contradiction():
                raise ConfigError(f"sampling.{role}.{fault[0]} of the task {task.name!r}: {fault[1]}")
    beams = next((role for role in ROLES if sampled[role].num_beams > 1), None)
    for used in dict.fromkeys((generator, judging)) if beams is not None else ():
        who = f"sampling.{beams}.num_beams of the task {task.name!r}"
        factory.check_capabilities(used, _BEAMS, who, loaded=loaded)
    for role in task.roles:
        if role in JUDGES and not judged:
            continue
        used = judging if role in JUDGES else generator
        if role in has_messages:
            who = f"the prompt {role!r} of the task {task.name!r}, which has several messages,"
            factory.check_capabilities(used, _CHAT, who, loaded=loaded)
        if sampled[role].constraint is not None:
            who = f"sampling.{role}.constraint of the task {task.name!r}"
            factory.check_capabilities(used, _CONSTRAINTS, who, loaded=loaded)
        for field, chat in _settings(sampled[role].chat()):
            who = f"sampling.{role}.{field} of the task {task.name!r}"
            factory.check_capabilities(used, chat.needs, who, loaded=loaded)


def _settings(chat: Chat) -> Iterator[tuple[str, Chat]]:
    """Each setting alone, with its name."""
    yield "thinking", Chat(thinking=chat.thinking)
    yield "template", Chat(template=chat.template)
    yield "extra_body", Chat(extra_body=chat.extra_body)
