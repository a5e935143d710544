"""Base of the backends that run a model in this process: options, loading, requests as samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch

from treeagent.backend import Backend
from treeagent.errors import BackendError, ConfigError, RequestRefusedError, did_you_mean
from treeagent.options import as_json, read_options
from treeagent.process_fork import ForkSafeLock
from treeagent.reasoning import DEFAULT_MARKS, Thinking
from treeagent.reply import Reply, Scores, Usage
from treeagent.request import Request, ScoreRequest

from ..models import catalog
from ..models.adapter_file import is_adapter
from ..models.model import DTYPE_NAMES, INT8, Model
from ..models.tokenizer import ChatTokenizer, load_tokenizer
from ..sampling import sampler
from .sample import Sample, ThinkingEnd

Local = TypeVar("Local", bound="LocalBackend")

_CHAT = frozenset({"chat", "thinking_budget"})

_MARK = 16
"""Last tokens of a prompt in which an opening mark is looked for."""

Pairs = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""(prompt, continuation) token ids."""


class LocalBackend(Backend):
    """A model of transformers in this process, loaded on first use or by :meth:`load`.

    ``model`` is a name (``mini``, ``smollm2``), a folder, a .gguf file or a hub id. ``threads`` sets torch's thread
    count for the whole process. ``chat`` False sends prompts as they are, None through the model's chat template where
    there is one. ``thinking`` are the two marks of thinking, which is cut off completions, or ``none``.
    ``adapter`` is the folder of a LoRA adapter of the model, as the library peft writes it.
    Raises ConfigError for an unknown name, dtype or device; loading raises ModelError, and ConfigError for a device
    that is not there: a process whose replicas run the model needs none.
    """

    options: ClassVar[dict[str, type]] = {
        "device": str, "dtype": str, "threads": int, "chat": bool, "thinking": str, "adapter": str,
    }  # fmt: skip
    """Name and type of the options that :meth:`open` takes; a subclass adds its own."""

    def __init__(
        self, model: str, device: str | None, dtype: str, threads: int | None, chat: bool | None,
        thinking: str = DEFAULT_MARKS, adapter: str | None = None,
    ) -> None:  # fmt: skip
        catalog.check_name(model)
        if dtype not in DTYPE_NAMES:
            raise ConfigError(f"no dtype is called {dtype!r}.{did_you_mean(dtype, DTYPE_NAMES)}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        if adapter is not None and dtype == INT8:
            raise ConfigError("an adapter runs over weights in float32 or bfloat16, not in int8. Leave dtype=int8 out.")
        self.model: str = model
        self.device = device
        self.cpus = float(threads or 1)
        self.gpus = _gpus(device)
        self.dtype = dtype
        self.threads = threads
        self.chat = chat
        self.thinking = thinking
        self.adapter = adapter
        self._thinking = Thinking.parse(thinking)
        self._text: ChatTokenizer | None = None
        self._loading = ForkSafeLock(reentrant=True)

    @classmethod
    def open(cls: type[Local], model: str | None, options: Mapping[str, Any]) -> Local:
        """From the command line's words. Raises ConfigError for an unknown or misformed option."""
        chosen = read_options(cls.name, cls.options, options)
        if model is not None:
            chosen["model"] = model
        return cls(**chosen)

    def describe(self) -> dict[str, Any]:
        """Name, model and options as :meth:`open` takes them."""
        values = self.option_values()
        if values["thinking"] == DEFAULT_MARKS:
            del values["thinking"]  # journals from before this option stay equal
        return {"name": self.name, "model": self.model, "options": as_json(values)}

    def option_values(self) -> dict[str, Any]:
        """The value of each of :attr:`options`, by name."""
        return {option: getattr(self, option) for option in self.options}

    def with_model(self, model: str) -> Backend:
        """A backend of this kind with the same options for another model, or for this one with another adapter.

        For the latter, ``model`` is the adapter's folder. Raises ConfigError.
        """
        values = self.option_values() | self._beside(model)
        return self.open(values.pop("model"), {name: value for name, value in values.items() if value is not None})

    def _beside(self, model: str) -> dict[str, str | None]:
        """Model and adapter of a backend beside this one."""
        if is_adapter(model):
            return {"model": self.model, "adapter": model}
        return {"model": model, "adapter": None}

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # known only once the tokenizer is there
        """Loads the tokenizer, to see whether there is a chat template, but not the model. Raises ModelError."""
        return self._offered(chat=bool(self._tokenizer().chat))

    @property
    def possible_capabilities(self) -> frozenset[str]:
        """Those that the options do not exclude; loads nothing."""
        known = self._text
        return self._offered(chat=self.chat is not False if known is None else bool(known.chat))

    def _offered(self, *, chat: bool) -> frozenset[str]:
        """The capabilities with or without a chat template."""
        return frozenset({"generate", "score", "seed", "beams", "rewards"} | (_CHAT if chat else set()))

    @cached_property
    def _device(self) -> torch.device:
        return find_device(self.device)

    def check_device(self) -> None:
        """See :class:`treeagent.Backend`."""
        find_device(self.device)

    def _tokenizer(self) -> ChatTokenizer:
        with self._loading:
            if self._text is None:
                tokenizer = load_tokenizer(catalog.resolve(self.model), self.chat)
                self._text = replace(tokenizer, thinking=self._thinking)
            return self._text

    def _load(self) -> Model:
        from ..models.loader import load_model  # noqa: PLC0415  # imports networks that not every engine needs

        return load_model(catalog.resolve(self.model), self.dtype, self._device)

    def _ending(self, model: Model) -> Model:
        """The model with the tokens that end a text by its tokenizer and its template among those that do."""
        return replace(model, eos=model.eos | self._tokenizer().ends)

    def _set_threads(self) -> None:
        if self.threads is not None and self.threads != torch.get_num_threads():
            torch.set_num_threads(self.threads)


def samples(
    request: Request,
    text: ChatTokenizer,
    model: Model,
    wanted: Callable[[], bool] = lambda: True,
    *,
    constrains: bool = False,
) -> list[Sample]:
    """The samples of a request, clipped to the model's context; see :class:`Sample` for ``wanted``.

    ``constrains``: the caller masks the tokens that a constraint forbids; else a request with one is refused.

    Raises BackendError, for a prompt beyond the context RequestRefusedError.
    """
    sampler.check(request.sampling)
    _check_writes(model)
    if request.sampling.constraint is not None and not constrains:
        raise BackendError("this backend takes no constraint: leave it out, or use one with the capability constraints")
    if request.n < 1:
        raise BackendError(f"a request must ask for at least 1 completion, not {request.n}")
    prompt, budget = tuple(text.prompt(request.prompt, request.chat)), request.chat.budget
    if budget is not None and request.sampling.num_beams > 1:
        raise BackendError("beams cannot end thinking after a number of tokens; leave num_beams or the number out")
    end = None if budget is None else ThinkingEnd(budget, text.closing())
    limit = request.sampling.max_tokens
    if model.context is not None:
        check_fits(len(prompt) + 1, model.context)
        limit = min(limit, model.context - len(prompt))
    streams = [request.key.stream(i) for i in range(request.n)]
    thinking = None if text.thinking is None else text.thinking.after(text.decode(prompt[-_MARK:]))
    return [
        Sample(prompt, request.sampling, stream, limit, text.decoder, wanted=wanted, thinking=thinking, end=end)
        for stream in streams
    ]


def pairs(request: ScoreRequest, text: ChatTokenizer, model: Model) -> Pairs:
    """The token ids of a prompt with each of its continuations. Raises BackendError."""
    _check_writes(model)
    # A chat template ends with a fresh line, where a model's words begin without a space.
    words = [word.lstrip(" ") for word in request.continuations] if text.chat else request.continuations
    tokens = text.scored(request.prompt, words, request.chat)
    if model.context is not None and tokens:
        longest = max(len(prompt) + len(continuation) for prompt, continuation in tokens)
        check_fits(longest, model.context)
    return tokens


def reply_of(samples: Sequence[Sample]) -> Reply:
    """The reply to a request whose samples are all finished."""
    tokens = sum(len(sample.tokens) + sample.other_tokens for sample in samples)
    thinking = sum(sample.thinking_tokens for sample in samples)
    usage = Usage(1, len(samples[0].prompt), tokens, reasoning_tokens=thinking)
    return Reply(tuple(sample.completion for sample in samples if sample.completion is not None), usage)


def scores_of(tokens: Pairs, sums: Sequence[float]) -> Scores:
    """The reply to a request for scores: the summed log-probability of each continuation."""
    lengths = tuple(len(continuation) for _, continuation in tokens)
    prompt = len(tokens[0][0]) if tokens else 0
    return Scores(tuple(sums), lengths, Usage(calls=1, prompt_tokens=prompt + sum(lengths), completion_tokens=0))


def check_fits(tokens: int, context: int) -> None:
    """Raise RequestRefusedError for a text of more tokens than the model reads."""
    if tokens <= context:
        return
    raise RequestRefusedError(
        f"the prompt is too long: with its completion it takes at least {tokens} tokens, the model's context is "
        f"{context}. Shorten the prompt or use a model with a longer context."
    )


def _check_writes(model: Model) -> None:
    if model.rewards:
        raise BackendError(
            "a process reward model judges steps and writes no text: name it with --evaluator-model, for the evaluator "
            "'prm'"
        )


def find_device(name: str | None) -> torch.device:
    """The device of a name; cuda where there is one, else cpu, without a name. Raises ConfigError."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (_gpus(name) or 0) > torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def _gpus(device: str | None) -> float | None:
    """How many GPUs a process must see to have the device of a name; None without one. Raises ConfigError."""
    if device is None:
        return None
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ConfigError(f"no device is called {device!r}.{did_you_mean(device, ('cpu', 'cuda', 'cuda:0'))}")
    return float(kind == "cuda" and int(index or 0) + 1)
