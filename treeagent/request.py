"""Requests of a search to a backend: what determines an answer, and the key of its noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .chat import OWN_FIELDS, SWITCHES, Chat, Message, canonical
from .constraint import KINDS, Constraint

KEY_FORMAT = 1
"""Version of the key encoding; a change changes every sampled result."""


@dataclass(frozen=True, slots=True)
class Key:
    """Names a request by its place in the search, never by the order in which things happened.

    All noise and all seeds derive from the key, so neither completion order nor batch composition can change a tree.
    """

    seed: int
    """The run's seed."""
    role: str
    """The prompt's role: ``propose``, ``sample``, ``value``, ``answer`` ..."""
    place: str
    """Path of sibling indices of the node (``0.3.1``) for generations; state key for evaluations."""
    visit: int = 0
    """How often this node has been expanded before; a second visit gets fresh noise."""
    model: str = ""
    """Name of the model that is asked, where a search has several and it is not the first; empty for others."""

    def stream(self, sample: int) -> int:
        """64-bit key of one sample's random stream: a hash of length-prefixed fields (no collisions by joining)."""
        digest = hashlib.blake2b(digest_size=8)
        parts = (KEY_FORMAT, self.seed, self.role, self.place, self.visit, sample)
        for part in (*parts, self.model) if self.model else parts:
            data = str(part).encode()
            digest.update(len(data).to_bytes(4, "little") + data)
        return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn from the model."""

    temperature: float = 0.0
    """0 is greedy."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    max_tokens: int = 256
    """Per completion."""
    stop: tuple[str, ...] = ()
    """The completion ends before the first of these strings, which is not part of it."""
    num_beams: int = 1
    """Above 1 a completion is the most likely of so many beams, drawn from their joint law (at temperature 0 by beam
    search); temperature, top_k, top_p and min_p then act on the joint law. Needs the capability ``beams``."""
    thinking: bool | int | None = None
    """As :attr:`.Chat.thinking`. Needs the capability ``chat``, and a number ``thinking_budget``."""
    template: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """As :attr:`.Chat.template`. Needs the capability ``chat``."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """As :attr:`.Chat.extra_body`. Needs the capability ``extra_body``."""
    constraint: Constraint | None = None
    """What the completion must be, whole. Needs the capability ``constraints``."""

    def chat(self, messages: tuple[Message, ...] = ()) -> Chat:
        """What a prompt comes with after these messages."""
        return Chat(messages, self.thinking, self.template, self.extra_body)

    def changed(self, changes: Mapping[str, Any]) -> Sampling:
        """With other values by field; mappings are added to those that are there.

        ``regex``, ``choices`` or ``json_schema`` is the constraint then.
        """
        values = {name: value for name, value in changes.items() if name not in KINDS}
        if (constraint := Constraint.of_options(changes)) is not None:
            values["constraint"] = constraint
        if "stop" in values:
            values["stop"] = tuple(values["stop"])
        for name in ("template", "extra_body"):
            if name in values:
                values[name] = {**getattr(self, name), **values[name]}
        return replace(self, **values)

    def held_to(self, constraint: Constraint, *, whole: bool = False) -> Sampling:
        """With a constraint; ``whole``: ``max_tokens`` leaves room for its longest text, a byte a token, and an end."""
        longest = constraint.longest if whole else None
        most = self.max_tokens if longest is None else max(self.max_tokens, longest + 1)
        return replace(self, constraint=constraint, max_tokens=most)

    def contradiction(self) -> tuple[str, str] | None:
        """The field that contradicts another one, and how; None where none does."""
        budget = self.chat().budget
        if self.thinking is not None and (switch := next((name for name in SWITCHES if name in self.template), None)):
            return "template", f"{switch!r} switches what 'thinking' switches; leave one of the two out"
        if budget is not None and budget >= self.max_tokens:
            return "thinking", f"{budget} tokens of thinking leave no room for a text in max_tokens={self.max_tokens}"
        if budget is not None and self.num_beams > 1:
            return "thinking", "beams cannot end thinking after a number of tokens; leave num_beams or the number out"
        if self.constraint is not None and (fault := self._constraint_fault(self.constraint)):
            return "constraint", fault
        for name in self.extra_body:
            if name in OWN_FIELDS:
                return "extra_body", f"{name!r} is written by the backend itself{OWN_FIELDS[name]}"
        return None

    def _constraint_fault(self, constraint: Constraint) -> str | None:
        if self.num_beams > 1:
            return "beams take no constraint; leave num_beams or the constraint out"
        if self.thinking:
            return (
                "a constraint holds from the first token on and leaves no room for thinking; leave one of the two out"
            )
        if (stop := constraint.stopped_by(self.stop)) is not None:
            return f"the stop string {stop!r} stands in every text that the constraint allows; leave one of the two out"
        return None


DEFAULT_SAMPLING: dict[str, tuple[Sampling, int]] = {
    "propose": (Sampling(temperature=0.7, max_tokens=512), 1), "sample": (Sampling(temperature=0.7, max_tokens=256), 5),
    "value": (Sampling(temperature=0.7, max_tokens=32), 3), "vote": (Sampling(temperature=0.7, max_tokens=32), 5),
    "answer": (Sampling(temperature=0.0, max_tokens=256), 1), "io": (Sampling(temperature=0.7, max_tokens=256), 1),
    "cot": (Sampling(temperature=0.7, max_tokens=512), 1), "critique": (Sampling(temperature=0.7, max_tokens=512), 1),
    "outcome": (Sampling(temperature=0.7, max_tokens=32), 3), "prm": (Sampling(), 1),
    "reflect": (Sampling(temperature=0.7, max_tokens=256), 1),
}  # fmt: skip
"""Per role: how a completion is drawn, and how many are drawn."""

_KEY, _SAMPLING = (sorted(field.name for field in fields(record)) for record in (Key, Sampling))
_LATER: dict[str, Any] = {"num_beams": 1, "thinking": None, "template": {}, "extra_body": {}, "constraint": None}
"""Fields that came later, which an id leaves out where they have these values, so that older journals stay valid."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for ``n`` completions of one prompt."""

    prompt: str
    key: Key
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    messages: tuple[Message, ...] = ()
    """Messages before the prompt, which is the last message of the chat then. They need the capability ``chat``."""
    priority: float = field(default=1.0, compare=False)
    """Probability that a search will use the answer: 1 for what it has asked for, less for a request sent early.

    A backend serves higher ones first. It decides when the answer comes, never what it is."""
    remaining: float | None = field(default=None, compare=False)
    """Requests that its search is expected to make from here on; None where that decides nothing.

    A backend that cannot run all requests at once may begin with those of the searches that are nearest to their end.
    It decides when the answer comes, never what it is."""

    _id: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """The id, once it is known: it is asked for often."""

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer, so not of the priority; a journal's key."""
        if not self._id:
            self._id.append(self._digest())
        return self._id[0]

    def _digest(self) -> str:
        key = [(name, getattr(self.key, name)) for name in _KEY if name != "model" or self.key.model]
        given = {name: getattr(self.sampling, name) for name in _SAMPLING}
        for name, default in _LATER.items():
            if given[name] == default:
                del given[name]
        sampling = [(name, canonical(v) if isinstance(v, Mapping) else v) for name, v in given.items()]
        before = [(message.role, message.content) for message in self.messages]
        parts = (self.prompt, key, sampling, self.n, *([before] if before else []))
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()

    @property
    def chat(self) -> Chat:
        """What the prompt comes with in a chat."""
        return self.sampling.chat(self.messages)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request for the log-likelihood of each continuation of one prompt."""

    prompt: str
    continuations: tuple[str, ...]
    chat: Chat = field(default_factory=Chat)
    """What the prompt comes with in a chat; :attr:`.Chat.thinking` at most switched."""
    priority: float = field(default=1.0, compare=False)
    """As :attr:`Request.priority`."""
    remaining: float | None = field(default=None, compare=False)
    """As :attr:`Request.remaining`."""

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer."""
        chat, parts = self.chat, (self.prompt, self.continuations)
        if chat != Chat():
            parts = (*parts, canonical([asdict(chat)]))  # type: ignore[assignment]  # one more
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class RewardRequest(ScoreRequest):
    """A request for the reward of each step by a process reward model; the continuations are the steps, in order.

    A step is read after the prompt and the steps before it, each with the mark behind it, and its reward is the
    probability, at its mark, that it is right. It goes to :meth:`treeagent.Backend.score` of a backend with the
    capability ``rewards``. In the answer ``logprobs`` are the natural logarithms of the rewards, in the order of the
    steps.
    """

    mark: str = "<extra_0>"
    """What stands behind each step: a text that is one token of the model."""
    good: str | None = None
    """Token of a right step at the mark; None: the model has a reward head (a classifier, or a head of one value)."""
    bad: str | None = None
    """Token of a wrong step."""

    @property
    def id(self) -> str:
        """Digest of everything that determines the answer."""
        parts = ("reward", self.prompt, self.continuations, self.mark, self.good, self.bad)
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()
