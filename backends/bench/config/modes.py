"""The modes by name: transformers' own ways to generate, this package's plain backend, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from treeagent.errors import ConfigError, UnknownNameError, did_you_mean

PEER = "peer"
"""Family of the modes that run another engine, in a process of an environment of its own."""
LOOKUP = 8
"""Tokens that transformers copies from the prompt at a time; the same in every published table."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run a workload."""

    name: str
    what: str
    """A short description."""
    family: str
    """``serial``, ``batched`` or ``continuous`` (transformers' generate), ``plain`` or ``seed`` (backends), ``peer``
    (another engine)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of transformers' generate, of the backend or of the other engine."""
    drafts: bool = False
    """Whether it cannot run without a draft model."""
    num_beams: int = 1
    """Beams of every request; 1: it samples."""
    dtype: str | None = None
    """Type of numbers; None: that of the benchmark."""
    at_once: int | None = None
    """Most prompts that are sent together; None: as the benchmark says."""

    @property
    def engine(self) -> str:
        """The name without options."""
        return self.name.partition("@")[0]

    @property
    def keyed(self) -> bool:
        """Whether its samples depend on the requests' keys alone, so that they can be compared at any temperature."""
        return self.family in ("plain", "seed") and self.options.get("verify", "coupled") == "coupled"


_ALL = (
    Mode("transformers-serial", "generate, one prompt after another", "serial"),
    Mode("transformers-batched", "generate, all prompts in one left-padded batch", "batched"),
    Mode("transformers-lookup", "serial with prompt lookup", "serial", {"prompt_lookup_num_tokens": LOOKUP}),
    Mode("transformers-assisted", "serial, assisted by the draft model", "serial", drafts=True),
    Mode(
        "transformers-static", "the same with a static cache, compiled on a GPU", "batched",
        {"cache_implementation": "static"},
    ),
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
    Mode("vllm-cpu", "vLLM on a CPU, with its prefix cache", PEER),
    Mode("openvino", "OpenVINO GenAI, with its prefix cache", PEER),
    Mode("llamacpp", "llama.cpp's server, with its prefix cache", PEER),
)  # fmt: skip
MODES = {mode.name: mode for mode in _ALL}
"""Every mode by its name."""
PEERS = tuple(mode.name for mode in _ALL if mode.family == PEER)
"""Those that run other engines."""

OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "draft": str, "draft_dtype": str, "twin_prefix": str, "drafter": str, "draft_tokens": int,
    "exit": str, "policy": str, "verify": str,
    "kv_memory": float, "max_rows": int, "chunk": int,
    "beam_draft": str, "beam_threshold": float, "beam_min": int, "beam_survivors": int,
}  # fmt: skip
"""Options of the engine that a mode's name may have."""


def _count(text: str) -> int:
    """A whole number from 1. Raises ValueError."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


BEAMS = "num_beams"
"""A further option, for the engine and for the plain backend."""
COMMON: Mapping[str, Callable[[str], Any]] = {"dtype": str, "at_once": _count}
"""Options of every mode."""
PEER_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {"openvino": {"lookup": _count}}
"""Options of other engines, by mode."""
HOPELESS = "seed-hopeless"
NAMED = (HOPELESS, "transformers-static")
"""Modes that run only if they are named."""
SERIAL, PLAIN = "transformers-serial", "backend-transformers"
"""The default references of greedy and of sampled tokens."""


def chosen(names: Sequence[str] | None, draft: str | None, peers: Collection[str] = ()) -> tuple[Mode, ...]:
    """The modes of these names, in this order; without names all that can run, with other engines only ``peers``.

    Raises ConfigError.
    """
    if names is None:
        able = (mode for mode in _ALL if mode.family != PEER or mode.name in peers)
        return tuple(mode for mode in able if mode.name not in NAMED and (draft is not None or not mode.drafts))
    if not names:
        raise ConfigError(f"--modes names no mode. Valid: {', '.join(MODES)}.")
    modes = [find(name) for name in dict.fromkeys(names)]
    if draft is None and (missing := [mode.name for mode in modes if mode.drafts]):
        raise ConfigError(f"{', '.join(missing)}: this needs a draft model; give one with --draft, such as mini-draft")
    if absent := [mode.engine for mode in modes if mode.family == PEER and mode.engine not in peers]:
        name = absent[0]
        raise ConfigError(f"{name} needs an environment of its own; name its Python with --peers {name}=PYTHON")
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
    taken: dict[str, Callable[[str], Any]] = {**COMMON, **PEER_OPTIONS.get(base, {})}
    taken |= OPTIONS if mode.family == "seed" and base != HOPELESS else {}
    taken |= {BEAMS: int} if mode.family in ("plain", "seed") and base != HOPELESS else {}
    extra = dict(_option(base, suffix, taken) for suffix in suffixes)
    common = {name: extra.pop(name) for name in (BEAMS, *COMMON) if name in extra}
    options = {**mode.options, **extra}
    drafts = mode.drafts
    if mode.family == "seed" and (drafter := options.get("drafter", "auto")) != "auto" and base != HOPELESS:
        from ...seed.drafters.registry import DrafterSpec  # noqa: PLC0415  # torch

        drafts = DrafterSpec.parse(drafter).model is not None and "draft" not in options
    return replace(
        mode, name=name, what=f"{mode.what}; {', '.join(suffixes)}", options=options, drafts=drafts, **common
    )


def _option(mode: str, text: str, taken: Mapping[str, Callable[[str], Any]]) -> tuple[str, Any]:
    """``NAME=VALUE`` of a mode. Raises ConfigError."""
    name, _, value = text.partition("=")
    if name not in taken:
        raise ConfigError(
            f"mode {mode} takes no option {text!r}.{did_you_mean(name, taken)} Expected NAME=VALUE with one of: "
            f"{', '.join(taken)}."
        )
    try:
        return name, taken[name](value)
    except ValueError:
        raise ConfigError(f"{text!r}: expected a number") from None
