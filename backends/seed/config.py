"""All options of the engine, checked once, in one frozen record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from treeagent.errors import ConfigError, did_you_mean

from ..models.model import DTYPE_NAMES, INT4_DRAFT, INT8, INT8_DRAFT
from .drafters.base import Drafter
from .drafters.model.beam_tree import size_of
from .drafters.registry import LEARNS_FROM_TEXTS, DrafterSpec
from .earlier_texts import journals_in
from .executor.early_exit import ExitSpec
from .verifiers.beam_rejection import check_beams
from .verifiers.rejection import VERIFIERS

TWIN = "twin"
POLICIES = ("rounds", "fcfs", "serial")
TWIN_PREFIXES = ("auto", "own", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResearchOptions:
    """Options that exist to be measured; the defaults are what users should run. Raises ConfigError."""

    policy: str = "rounds"
    """``rounds``, or the schedules of Wang et al. (arXiv 2406.18200): ``fcfs`` and ``serial``."""
    draft_tokens: int | None = None
    """Tokens drafted for every sequence in every round; None chooses by the measured times."""
    twin_prefix: str = "auto"
    """Whose keys and values of verified tokens a twin attends to: its ``own``, or those of its ``target``. ``auto``:
    the target's, where they fit."""
    beam_draft: str | None = None
    """``WIDTHxDEPTH``: drafted beams and steps for every completion with beams; None: twice its beams, up to 3 steps,
    as many as pay."""
    beam_threshold: float | None = None
    """With ``recursive``: the probability with which all beams of a step should be among the drafted ones. A step has
    as many beams as that allows. None: always all of them."""
    beam_min: int = 1
    """The fewest beams of such a step."""
    beam_survivors: int | None = None
    """1: only the best beam is continued after a pass. None: all of them."""
    max_rows: int = 256
    """The most live sequences at one time; further ones are queued."""
    chunk: int = 1024
    """The most prompt tokens read in one round."""
    graphs: bool = True
    """Record passes of fixed sizes as CUDA graphs at load; without effect on a CPU."""

    def __post_init__(self) -> None:
        _check_word("policy", self.policy, POLICIES)
        _check_word("twin_prefix", self.twin_prefix, TWIN_PREFIXES)
        for option in ("max_rows", "chunk", "draft_tokens"):
            _check_positive(option, getattr(self, option))
        if self.beam_draft is not None:
            size_of(self.beam_draft)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Options of one engine. Raises ConfigError where they make no sense, alone or together."""

    model: str = "mini"
    """The target: a name, a folder, a .gguf file or a hub id."""
    dtype: str = "float32"
    """Of the target's weights, and of its keys and values."""
    adapter: str | None = None
    """The folder of a LoRA adapter of the target."""
    draft: str | None = None
    """The draft model, of the target's vocabulary; ``twin``: the target itself in int8; None without one."""
    draft_dtype: str | None = None
    """Of the draft model's weights; None: int8 for a twin, else the target's."""
    drafter: str | Callable[[], Drafter] = "auto"
    """A name of :mod:`.drafters.registry`, or a function that makes a drafter."""
    exit: str | None = None
    """Early exit of the draft model, see :class:`.executor.early_exit.ExitSpec`; None: adaptive, at the exits that
    save time."""
    verify: str = "coupled"
    """``coupled`` or ``recursive`` (also called ``rejection``)."""
    drafts_from: str | None = None
    """A folder with journals of earlier runs, whose texts the token table learns at load."""
    kv_memory: float = 2000.0
    """Megabytes (10^6 bytes) of keys and values, for the target and for the draft model each."""
    state_memory: float = 2000.0
    """Megabytes (10^6 bytes) of states of the target's layers with a recurrence, snapshots of prefixes among them."""
    research: ResearchOptions = field(default_factory=ResearchOptions)

    def __post_init__(self) -> None:
        _check_word("verify", self.verify, tuple(VERIFIERS))
        self._check_drafter()
        _check_positive("kv_memory", self.kv_memory)
        _check_positive("state_memory", self.state_memory)
        research = self.research
        check_beams(research.beam_threshold, research.beam_min, research.beam_survivors, coupled=self.coupled)

    @classmethod
    def of(cls, **options: Any) -> EngineConfig:
        """From options by their names, those of research among them. Raises ConfigError."""
        research = {option.name: options.pop(option.name) for option in fields(ResearchOptions)}
        return cls(**options, research=ResearchOptions(**research))

    @property
    def draft_model(self) -> str:
        """The draft's name, folder, .gguf file or hub id; the target's for a twin."""
        return self.model if self.draft in (TWIN, None) else str(self.draft)

    @property
    def draft_precision(self) -> str:
        """The dtype of the draft model."""
        dtype = self.draft_dtype or (INT8 if self.draft == TWIN else self.dtype)
        return INT8_DRAFT if dtype == INT8 else dtype

    @property
    def coupled(self) -> bool:
        """Whether texts are plain decoding's, token for token."""
        return self.verify == "coupled"

    @property
    def drafter_name(self) -> str:
        """The drafter's name, with ``auto`` resolved; ``own`` for a function."""
        if not isinstance(self.drafter, str):
            return "own"
        if self.drafter != "auto":
            return self.drafter
        table = "ngram" if self.drafts_from is None else "merged"  # its time pays where it knows earlier texts
        return table if self.draft is None else f"{table}+model"

    @property
    def drafter_spec(self) -> DrafterSpec:
        """The parts of the drafter's name; none of them for a function."""
        return DrafterSpec.parse(self.drafter_name) if isinstance(self.drafter, str) else DrafterSpec(None, None)

    def options(self) -> dict[str, Any]:
        """Options by the names that users select them with; a function is called ``own``."""
        groups = (self, self.research)
        values = {option.name: getattr(group, option.name) for group in groups for option in fields(group)}
        del values["research"]
        return values if isinstance(self.drafter, str) else values | {"drafter": "own"}

    def _check_drafter(self) -> None:
        spec, name = self.drafter_spec, self.drafter_name
        if self.drafts_from is not None:
            journals_in(self.drafts_from)
            if isinstance(self.drafter, str) and spec.table not in LEARNS_FROM_TEXTS:
                raise ConfigError(
                    f"drafts_from is for the tables {', '.join(LEARNS_FROM_TEXTS)}; drafter {name!r} has none of them. "
                    "Leave drafts_from out, or give drafter=merged."
                )
        if self.draft is None and spec.model:
            raise ConfigError(f"drafter {name!r} needs a draft model: give draft, such as draft=mini-draft for mini")
        if self.draft is not None and not spec.model:
            raise ConfigError(f"draft {self.draft!r} is given, but the drafter uses no model. Leave one of them out.")
        spec.shape(coupled=self.coupled)
        known = (*DTYPE_NAMES, INT4_DRAFT)
        if self.draft_dtype is not None and self.draft_dtype not in known:
            raise ConfigError(f"no dtype is called {self.draft_dtype!r}.{did_you_mean(self.draft_dtype, known)}")
        if self.draft_dtype is not None and self.draft is None:
            raise ConfigError(f"draft_dtype={self.draft_dtype} needs a draft model: give draft, or leave it out")
        if self.draft == TWIN and (self.draft_dtype or INT8) == self.dtype:
            raise ConfigError(
                f"draft=twin would be the target itself: both are {self.dtype}. Use dtype=float32 for the target, or "
                "leave draft out."
            )
        if self.research.twin_prefix != "auto" and self.draft != TWIN:
            raise ConfigError(
                f"twin_prefix={self.research.twin_prefix} is for a twin: give draft=twin, or leave it out"
            )
        if self.exit is not None:
            if self.draft is None:
                raise ConfigError(f"exit={self.exit} needs a draft model: give draft, or leave exit out")
            ExitSpec.parse(self.exit)


def _check_word(option: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise ConfigError(f"there is no {option} {word!r}.{did_you_mean(word, known)} Valid: {', '.join(known)}.")


def _check_positive(option: str, number: float | None) -> None:
    if number is not None and not number > 0:
        raise ConfigError(f"{option} must be positive, not {number}")
