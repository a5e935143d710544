"""The modes by name: transformers' own ways to generate, this package's plain backend, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from treeagent.errors import ConfigError, UnknownNameError, did_you_mean

LOOKUP = 8
"""Tokens that transformers copies from the prompt at a time; the same in every published table."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run a workload."""

    name: str
    what: str
    """A short description."""
    family: str
    """``serial``, ``batched`` or ``continuous`` (transformers' generate), ``plain`` or ``seed`` (backends)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of transformers' generate, or of the backend."""
    drafts: bool = False
    """Whether it cannot run without a draft model."""
    num_beams: int = 1
    """Beams of every request; 1: it samples."""

    @property
    def keyed(self) -> bool:
        """Whether its samples depend on the requests' keys alone, so that they can be compared at any temperature."""
        return self.family in ("plain", "seed") and self.options.get("verify", "coupled") == "coupled"


_ALL = (
    Mode("transformers-serial", "generate, one prompt after another", "serial"),
    Mode("transformers-batched", "generate, all prompts in one left-padded batch", "batched"),
    Mode("transformers-lookup", "serial with prompt lookup", "serial", {"prompt_lookup_num_tokens": LOOKUP}),
    Mode("transformers-assisted", "serial, assisted by the draft model", "serial", drafts=True),
    Mode("transformers-continuous", "generate_batch: continuous batching on a paged cache", "continuous"),
    Mode("backend-transformers", "the plain backend of this package, batched", "plain"),
    Mode("seed", "the engine as it comes: rounds, drafter auto", "seed"),
    Mode("seed-nodraft", "the engine without speculation", "seed", {"drafter": "none"}),
    Mode("seed-ngram", "the engine, drafts from tables of n-grams", "seed", {"drafter": "ngram"}),
    Mode("seed-model", "the engine, drafts from the draft model", "seed", {"drafter": "model"}, drafts=True),
    Mode(
        "seed-ngram+model", "the engine, drafts from tables and the draft model", "seed", {"drafter": "ngram+model"},
        drafts=True,
    ),
    Mode("seed-hopeless", "the engine, drafts that are never accepted (imposed)", "seed", {"drafter": "hopeless"}),
    Mode("seed-fcfs", "the schedule of SeeD: drafts together, verified first come first served", "seed",
         {"policy": "fcfs"}),
    Mode("seed-serial", "serial speculation: one branch after another", "seed", {"policy": "serial"}),
    Mode("seed-serial-nodraft", "serial decoding on the engine's kernels and cache", "seed",
         {"policy": "serial", "drafter": "none"}),
)  # fmt: skip
MODES = {mode.name: mode for mode in _ALL}
"""Every mode by its name."""

OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "draft": str, "drafter": str, "exit": str, "policy": str, "verify": str, "draft_tokens": int,
    "kv_memory": float, "max_rows": int, "chunk": int,
    "beam_draft": str, "beam_threshold": float, "beam_min": int, "beam_survivors": int,
}  # fmt: skip
"""Options of the engine that a mode's name may have."""

BEAMS = "num_beams"
"""A further option, for the engine and for the plain backend."""
HOPELESS = "seed-hopeless"
"""Runs only if it is named."""
SERIAL, PLAIN = "transformers-serial", "backend-transformers"
"""The default references of greedy and of sampled tokens."""


def chosen(names: Sequence[str] | None, draft: str | None) -> tuple[Mode, ...]:
    """The modes of these names, in this order; without names all that can run. Raises ConfigError."""
    if names is None:
        return tuple(mode for mode in _ALL if mode.name != HOPELESS and (draft is not None or not mode.drafts))
    if not names:
        raise ConfigError(f"--modes names no mode. Valid: {', '.join(MODES)}.")
    modes = [find(name) for name in dict.fromkeys(names)]
    if draft is None and (missing := [mode.name for mode in modes if mode.drafts]):
        raise ConfigError(f"{', '.join(missing)}: this needs a draft model; give one with --draft, such as mini-draft")
    return tuple(modes)


def find(name: str) -> Mode:
    """The mode of a name, which may have options of the engine: ``seed@drafter=rsd-s:3x4@verify=recursive``.

    Raises UnknownNameError, ConfigError.
    """
    base, *suffixes = name.split("@")
    if base not in MODES:
        raise UnknownNameError("mode", base, MODES)
    mode = MODES[base]
    if not suffixes:
        return mode
    extra = dict(map(_option, suffixes))
    beams = extra.pop(BEAMS, 1)
    if base == HOPELESS or (mode.family != "seed" and (extra or mode.family != "plain")):
        raise ConfigError(
            f"mode {base} takes no such options as {name!r}; modes of the engine do, such as seed@policy=fcfs, and "
            f"{PLAIN}@{BEAMS}=4"
        )
    mode = replace(mode, num_beams=beams)
    options = {**mode.options, **extra}
    drafter = options.get("drafter", "auto")
    if drafter != "auto":
        from ...seed.drafters.registry import DrafterSpec  # noqa: PLC0415  # torch

        mode = replace(mode, drafts=DrafterSpec.parse(drafter).model is not None and "draft" not in options)
    return replace(mode, name=name, what=f"{mode.what}; {', '.join(suffixes)}", options=options)


def _option(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` of the engine. Raises ConfigError."""
    name, _, value = text.partition("=")
    known: dict[str, Callable[[str], Any]] = {**OPTIONS, BEAMS: int}
    if name not in known:
        raise ConfigError(
            f"{text!r} is no option of a mode.{did_you_mean(name, known)} Expected NAME=VALUE with one of: "
            f"{', '.join(known)}."
        )
    try:
        return name, known[name](value)
    except ValueError:
        raise ConfigError(f"{text!r}: expected a number") from None
