"""Backend ``transformers``: plain batched decoding with any decoder-only model of Hugging Face transformers."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar

from treeagent.errors import BackendError, ConfigError
from treeagent.reasoning import DEFAULT_MARKS
from treeagent.reply import Reply, Scores
from treeagent.request import Request, ScoreRequest

from ..local import model_thread
from ..local.base import LocalBackend, Pairs, pairs, reply_of, samples, scores_of
from ..local.heap import trim_heap
from ..local.request_queue import PendingRequest
from ..local.sample import Sample
from ..models.model import Model
from .batcher import Batcher
from .beam_generate import decode_beams
from .generate import decode, score

Item = TypeVar("Item")


class TransformersBackend(LocalBackend):
    """Plain decoding: requests that are awaited together run as one batch of at most ``max_batch`` rows.

    A sample is a row, with ``num_beams`` so many rows; beams have batches of their own. Texts are a function of model,
    prompt and the request's key alone, up to float rounding.
    """

    name = "transformers"
    options: ClassVar = {**LocalBackend.options, "max_batch": int}

    def __init__(
        self,
        model: str = "mini",
        *,
        device: str | None = None,
        dtype: str = "float32",
        max_batch: int = 64,
        threads: int | None = None,
        chat: bool | None = None,
        thinking: str = DEFAULT_MARKS,
    ) -> None:
        super().__init__(model, device, dtype, threads, chat, thinking)
        if max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {max_batch}")
        self.max_batch = max_batch
        self._loaded: Model | None = None
        self._batcher: Batcher[Request | ScoreRequest] = Batcher(self._run, f"the model {model}")

    def load(self) -> None:
        """Load the model now rather than at the first request. Raises ModelError."""
        model_thread.run(self._network)

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        reply: Reply = await self._batcher.ask(request)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, which are tokenised together with the prompt. Raises BackendError."""
        scores: Scores = await self._batcher.ask(request)
        return scores

    async def aclose(self) -> None:
        """Forget the model, so that its memory can be freed; the next request loads it again."""
        with self._loading:
            self._loaded = None
        gc.collect()  # modules refer to each other
        trim_heap()

    def _network(self) -> Model:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _run(self, requests: list[PendingRequest[Request | ScoreRequest]]) -> None:
        """Answer a batch of requests; called in a worker thread, one batch at a time."""
        self._set_threads()
        text, model = self._tokenizer(), self._network()
        scorings: list[tuple[PendingRequest[Request | ScoreRequest], Pairs]] = []
        generations: dict[Sample, _Generation] = {}
        for pending in requests:
            try:
                if isinstance(pending.request, ScoreRequest):
                    scorings.append((pending, pairs(pending.request, text, model)))
                else:
                    generation = _Generation(pending, samples(pending.request, text, model, pending.is_wanted))
                    generations.update((sample, generation) for sample in generation.samples)
            except BackendError as error:  # this request fails alone
                pending.fail(error)
        self._score(model, scorings)
        plain = [sample for sample in generations if sample.sampling.num_beams == 1]
        for chunk in _chunks(plain, self.max_batch):
            decode(model, chunk, lambda sample: generations[sample].finished())
        for chunk in _by_beams([sample for sample in generations if sample.sampling.num_beams > 1], self.max_batch):
            decode_beams(model, chunk, lambda sample: generations[sample].finished())

    def _score(self, model: Model, scorings: list[tuple[PendingRequest[Request | ScoreRequest], Pairs]]) -> None:
        everything = [pair for _, tokens in scorings for pair in tokens]
        sums = iter([value for chunk in _chunks(everything, self.max_batch) for value in score(model, chunk)])
        for pending, tokens in scorings:
            pending.answer(scores_of(tokens, [next(sums) for _ in tokens]))


class _Generation:
    """The samples of one request, which is answered when the last of them is complete."""

    def __init__(self, pending: PendingRequest[Request | ScoreRequest], samples: list[Sample]) -> None:
        self.samples = samples
        self._pending = pending
        self._unfinished = len(samples)

    def finished(self) -> None:
        """One more sample is complete."""
        self._unfinished -= 1
        if self._unfinished == 0:
            self._pending.answer(reply_of(self.samples))


def _by_beams(items: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """As many samples together as have ``size`` beams, one at least."""
    chunk: list[Sample] = []
    for sample in items:
        if chunk and sum(other.sampling.num_beams for other in [*chunk, sample]) > size:
            yield chunk
            chunk = []
        chunk.append(sample)
    if chunk:
        yield chunk


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
