"""Backend ``transformers``: plain batched decoding with any decoder-only model of Hugging Face transformers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from treeagent.backend import Backend, Reply, Request, ScoreRequest, Scores, Usage
from treeagent.errors import BackendError, ConfigError, did_you_mean

from . import models, sampling
from .batching import Batcher, Ticket
from .decoding import Sample, decode, score
from .loading import DTYPES, Model, Text, load_model, load_text

OPTIONS = ("device", "dtype", "max_batch", "threads")

Item = TypeVar("Item")


class TransformersBackend(Backend):
    """Runs a local model in this process; requests that are awaited together run as one batch.

    ``model`` is a name (``mini``, ``smollm2``), a folder, a .gguf file or a hub id. The model is loaded on first use,
    or by :meth:`load`. ``max_batch`` is the most rows (samples) of one batch, ``threads`` sets torch's thread count
    for the whole process. Texts are a function of model, prompt and the request's key alone, up to float rounding.

    Raises ConfigError for an unknown name, dtype or device; loading raises ModelError.
    """

    name = "transformers"

    def __init__(
        self,
        model: str = "mini",
        *,
        device: str | None = None,
        dtype: str = "float32",
        max_batch: int = 64,
        threads: int | None = None,
    ) -> None:
        models.check_name(model)
        if dtype not in DTYPES:
            raise ConfigError(f"no dtype is called {dtype!r}.{did_you_mean(dtype, DTYPES)}")
        if max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {max_batch}")
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.model: str = model
        self.device = device
        self._device = _device(device)
        self.dtype = dtype
        self.max_batch = max_batch
        self.threads = threads
        self._text: Text | None = None
        self._loaded: Model | None = None
        self._loading = threading.RLock()
        self._batcher: Batcher[Request | ScoreRequest] = Batcher(self._run, f"the model {model}")

    @classmethod
    def open(cls, model: str | None, options: Mapping[str, Any]) -> TransformersBackend:
        """From the command line's words. Raises ConfigError for an unknown or misformed option."""
        for option in options:
            if option not in OPTIONS:
                raise ConfigError(f"backend {cls.name!r} has no option {option!r}.{did_you_mean(option, OPTIONS)}")
        threads = options.get("threads")
        return cls(
            "mini" if model is None else model,
            device=options.get("device"),
            dtype=options.get("dtype", "float32"),
            max_batch=_whole("max_batch", options.get("max_batch", "64")),
            threads=None if threads is None else _whole("threads", threads),
        )

    def describe(self) -> dict[str, Any]:
        """Name, model and options as :meth:`open` takes them."""
        options = {option: str(value) for option in OPTIONS if (value := getattr(self, option)) is not None}
        return {"name": self.name, "model": self.model, "options": options}

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]  # known only once the tokenizer is there
        """Loads the tokenizer, to see whether there is a chat template, but not the model. Raises ModelError."""
        return frozenset({"generate", "score", "seed"} | ({"chat"} if self._tokenizer().chat else set()))

    def load(self) -> None:
        """Load the model now rather than at the first request. Raises ModelError."""
        self._network()

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        reply: Reply = await self._batcher.ask(request)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, which are tokenised apart from the prompt. Raises BackendError."""
        scores: Scores = await self._batcher.ask(request)
        return scores

    async def aclose(self) -> None:
        """Forget the model, so that its memory can be freed; the next request loads it again."""
        with self._loading:
            self._loaded = None

    def _tokenizer(self) -> Text:
        with self._loading:
            if self._text is None:
                self._text = load_text(models.resolve(self.model))
            return self._text

    def _network(self) -> Model:
        with self._loading:
            if self._loaded is None:
                self._loaded = load_model(models.resolve(self.model), self.dtype, self._device)
            return self._loaded

    def _run(self, tickets: list[Ticket[Request | ScoreRequest]]) -> None:
        """Answer a batch of requests; called in a worker thread, one batch at a time."""
        if self.threads is not None and self.threads != torch.get_num_threads():
            torch.set_num_threads(self.threads)
        text, model = self._tokenizer(), self._network()
        scorings: list[tuple[Ticket[Request | ScoreRequest], _Pairs]] = []
        generations: dict[Sample, _Generation] = {}
        for ticket in tickets:
            try:
                if isinstance(ticket.question, ScoreRequest):
                    scorings.append((ticket, _pairs(ticket.question, text, model)))
                else:
                    generation = _Generation(ticket, _samples(ticket.question, text, model))
                    generations.update((sample, generation) for sample in generation.samples)
                    for sample in generation.samples:
                        sample.wanted = generation.wanted
            except BackendError as error:  # this request's own fault: the others run
                ticket.fail(error)
        self._score(model, scorings)
        for samples in _chunks(list(generations), self.max_batch):
            decode(model, samples, lambda sample: generations[sample].finished())

    def _score(self, model: Model, scorings: list[tuple[Ticket[Request | ScoreRequest], _Pairs]]) -> None:
        everything = [pair for _, pairs in scorings for pair in pairs]
        values = iter([value for chunk in _chunks(everything, self.max_batch) for value in score(model, chunk)])
        for ticket, pairs in scorings:
            lengths = tuple(len(continuation) for _, continuation in pairs)
            prompt = len(pairs[0][0]) if pairs else 0
            usage = Usage(calls=1, prompt_tokens=prompt + sum(lengths), completion_tokens=0)
            ticket.answer(Scores(tuple(next(values) for _ in pairs), lengths, usage))


_Pairs = list[tuple[tuple[int, ...], tuple[int, ...]]]


class _Generation:
    """The samples of one request, answered when the last of them is complete."""

    def __init__(self, ticket: Ticket[Request | ScoreRequest], samples: list[Sample]) -> None:
        self.samples = samples
        self._ticket = ticket
        self._left = len(samples)

    def wanted(self) -> bool:
        return not self._ticket.dropped

    def finished(self) -> None:
        self._left -= 1
        if self._left == 0:
            usage = Usage(
                calls=1,
                prompt_tokens=len(self.samples[0].prompt),
                completion_tokens=sum(len(sample.tokens) for sample in self.samples),
            )
            completions = tuple(sample.completion for sample in self.samples if sample.completion is not None)
            self._ticket.answer(Reply(completions, usage))


def _samples(request: Request, text: Text, model: Model) -> list[Sample]:
    """The samples of a request, clipped to the model's context. Raises BackendError."""
    sampling.check(request.sampling)
    if request.n < 1:
        raise BackendError(f"a request must ask for at least 1 completion, not {request.n}")
    prompt = tuple(text.prompt(request.prompt))
    limit = request.sampling.max_tokens
    if model.context is not None:
        _check_fits(len(prompt) + 1, model.context)
        limit = min(limit, model.context - len(prompt))
    return [Sample(prompt, request.sampling, request.key.stream(i), limit, text.decode) for i in range(request.n)]


def _pairs(request: ScoreRequest, text: Text, model: Model) -> _Pairs:
    prompt = tuple(text.prompt(request.prompt))
    # A chat template ends with a fresh line, where a model's words begin without a space.
    words = [word.lstrip(" ") for word in request.continuations] if text.chat else request.continuations
    pairs = [(prompt, tuple(text.continuation(word))) for word in words]
    if model.context is not None and pairs:
        _check_fits(len(prompt) + max(len(continuation) for _, continuation in pairs), model.context)
    return pairs


def _check_fits(tokens: int, context: int) -> None:
    if tokens > context:
        raise BackendError(
            f"the prompt is too long: with what follows it takes {tokens} tokens, the model's context is {context}. "
            "Shorten the prompt or use a model with a longer context."
        )


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _device(name: str | None) -> torch.device:
    """The device of a name; cuda where there is one, else cpu, without a name. Raises ConfigError."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ConfigError(f"no device is called {name!r}.{did_you_mean(name, ('cpu', 'cuda', 'cuda:0'))}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def _whole(option: str, text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ConfigError(f"option {option!r} must be a whole number, not {text!r}") from None
