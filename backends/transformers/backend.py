"""Backend ``transformers``: plain batched decoding with any decoder-only model of Hugging Face transformers."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

from treeagent.backend import Backend
from treeagent.errors import BackendError, ConfigError, MissingExtraError
from treeagent.reasoning import DEFAULT_MARKS
from treeagent.reply import OnText, Reply, Scores
from treeagent.request import Request, RewardRequest, ScoreRequest

from ..local import model_thread
from ..local.base import LocalBackend, Pairs, pairs, samples, scores_of
from ..local.heap import trim_heap
from ..local.reward_tokens import RewardTokens, reward_tokens
from ..local.sample import Sample
from ..local.token_masks import TokenMask, TokenMasks
from ..models.adapter_file import load_adapter
from ..models.low_rank import Adapter, attached, linear_shapes
from ..models.model import Model
from ..models.sources import size_setting
from ..models.tokenizer import ChatTokenizer
from .batcher import Batcher
from .beam_generate import decode_beams
from .generate import decode, score
from .generation import Batch, Generation, Pending, choose
from .rewards import rewards

Item = TypeVar("Item")

FREE_ROWS = {"cpu": 4, "cuda": 32}
"""By device the rows of a batch that take hardly longer than one; early requests fill a batch up to so many."""


class _Loaded:
    """A model in memory, as long as a backend holds it."""

    def __init__(self, model: Model) -> None:
        self.model = model


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
        adapter: str | None = None,
    ) -> None:
        super().__init__(model, device, dtype, threads, chat, thinking, adapter)
        if max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {max_batch}")
        self.max_batch = max_batch
        self._loaded: _Loaded | None = None
        self._shelf: WeakValueDictionary[str, _Loaded] = WeakValueDictionary()
        self._adapter: Adapter | None = None
        self._masks: TokenMasks | None = None
        self._batcher: Batcher[Request | ScoreRequest] = Batcher(self._run, self._choose, f"the model {model}")

    def _offered(self, *, chat: bool) -> frozenset[str]:
        """With constraints."""
        return super()._offered(chat=chat) | {"constraints"}

    def with_model(self, model: str) -> Backend:
        """See :meth:`LocalBackend.with_model`; a model with several adapters is in memory once."""
        other = super().with_model(model)
        assert isinstance(other, TransformersBackend)  # noqa: S101  # of the same class
        other._shelf = self._shelf
        return other

    def load(self) -> None:
        """Load the model now rather than at the first request. Raises ModelError."""
        model_thread.run(self._network)

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        reply: Reply = await self._batcher.ask(request)
        return reply

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`; texts are handed out after every step, those of beams when they are complete."""
        reply: Reply = await self._batcher.ask(request, on_text)
        return reply

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, which are tokenised together with the prompt. Raises BackendError."""
        scores: Scores = await self._batcher.ask(request)
        return scores

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """See :meth:`treeagent.Backend.raise_priority`; it holds from the next step or batch on."""
        self._batcher.early.raise_priority(request)

    async def aclose(self) -> None:
        """Forget the model, so that its memory can be freed; the next request loads it again."""
        with self._loading:
            self._loaded = self._adapter = None
        gc.collect()  # modules refer to each other
        trim_heap()

    def _network(self) -> Model:
        with self._loading:
            loaded = self._loaded or self._shelf.get(self.model)
            if loaded is None:
                loaded = self._shelf[self.model] = _Loaded(self._ending(self._load()))
            if self.adapter is not None and self._adapter is None:
                network = loaded.model.network
                adapter = load_adapter(self.adapter, self.model, linear_shapes(network))
                self._adapter = adapter.to(loaded.model.device, network.dtype)
            self._loaded = loaded
            return loaded.model

    def _choose(self, waiting: list[Pending]) -> list[Pending]:
        """The requests of the next batch; called in the event loop."""
        return choose(waiting, min(self.max_batch, FREE_ROWS[self._device.type]))

    def _run(self, requests: list[Pending]) -> list[Pending]:
        """Answer a batch of requests, but those that it returns; called in a worker thread, one batch at a time."""
        self._set_threads()
        model = self._network()
        modules = {} if self._adapter is None else dict(model.network.named_modules())
        with attached(modules, self._adapter):
            return self._answer(requests, model)

    def _answer(self, requests: list[Pending], model: Model) -> list[Pending]:
        text = self._tokenizer()
        scorings: list[tuple[Pending, Pairs]] = []
        judged: list[tuple[Pending, RewardTokens]] = []
        batch = Batch(lambda: self._batcher.certain_waiting)
        generations: dict[Sample, Generation] = {}
        masks: dict[Sample, TokenMask] = {}
        for pending in requests:
            try:
                if isinstance(pending.request, RewardRequest):
                    judged.append((pending, reward_tokens(pending.request, text, model)))
                elif isinstance(pending.request, ScoreRequest):
                    scorings.append((pending, pairs(pending.request, text, model)))
                else:
                    generation = batch.add(pending)
                    generation.start(samples(pending.request, text, model, generation.is_wanted, constrains=True))
                    masks.update(self._masks_of(generation.samples, text, model))
                    generations.update((sample, generation) for sample in generation.samples)
            except (BackendError, MissingExtraError) as error:  # this request fails alone
                pending.fail(error)
        self._score(model, scorings)
        for (pending, tokens), values in zip(judged, rewards(model, [each for _, each in judged]), strict=True):
            pending.answer(tokens.scores(values))
        plain = [sample for sample in generations if sample.sampling.num_beams == 1]
        for chunk in _chunks(plain, self.max_batch):
            decode(model, chunk, lambda sample: generations[sample].finished(), batch.streams.hand_out, masks)
        for chunk in _by_beams([sample for sample in generations if sample.sampling.num_beams > 1], self.max_batch):
            decode_beams(model, chunk, lambda sample: generations[sample].finished())
        return batch.set_aside()

    def _masks_of(
        self, samples: Sequence[Sample], text: ChatTokenizer, model: Model
    ) -> Iterator[tuple[Sample, TokenMask]]:
        """A mask for each sample with a constraint. Raises BackendError, MissingExtraError."""
        for sample in samples:
            if (constraint := sample.sampling.constraint) is not None:
                if self._masks is None:
                    self._masks = TokenMasks(text, model, size_setting(self.model, model.config, "vocab_size"))
                yield sample, self._masks.mask(constraint)

    def _score(self, model: Model, scorings: list[tuple[Pending, Pairs]]) -> None:
        everything = [pair for _, tokens in scorings for pair in tokens]
        sums = iter([value for chunk in _chunks(everything, self.max_batch) for value in score(model, chunk)])
        for pending, tokens in scorings:
            pending.answer(scores_of(tokens, [next(sums) for _ in tokens]))


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
