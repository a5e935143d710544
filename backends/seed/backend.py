"""Backend ``seed``: scheduled speculative decoding; the contract's face of :class:`.engine_core.EngineCore`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from treeagent.reasoning import DEFAULT_MARKS
from treeagent.reply import OnText, Reply, Round, Scores
from treeagent.request import Request, ScoreRequest

from ..local.base import LocalBackend
from ..models import catalog
from ..models.decoder import load_decoder
from ..models.model import Model
from .builder import EngineBuilder, EngineParts
from .config import EngineConfig
from .drafters.base import Drafter
from .engine_core import EngineCore
from .executor.architecture import check_files
from .executor.weights import WeightCache


class SeedBackend(LocalBackend):
    """Scheduled speculative decoding with a shared prefix cache.

    Args:
        model: a name (``mini``, ``smollm2``), a folder, a .gguf file or a hub id.
        draft: a smaller model with the same vocabulary, or ``twin``, the target itself in int8; for all drafters but
            ``none`` and tables alone.
        draft_dtype: type of the draft model's weights; None: int8 for a twin, else the target's.
        drafter: ``auto`` (``ngram``, with ``drafts_from`` ``merged``; with ``draft`` also the model), ``none``, a table
            (``ngram``, ``recycling``, ``stand``, ``suffix``), a shape of the model's drafts (``model``: a chain,
            ``dynamic``, ``rsd-c:2x2``, ``rsd-s:3x2``, ``mcsd:2x2``), both as in ``ngram+model``, or a function that
            makes a :class:`Drafter`.
        exit: early exit of a draft model with several exits. ``adaptive``: a token ends at the first exit where its
            largest probability exceeds 0.8, or another threshold (``adaptive:0.5``). A number: all tokens end after so
            many layers. None: ``adaptive``, at those exits that save time.
        verify: ``coupled`` (the text is plain decoding's, token for token) or ``recursive`` rejection (the text has
            the same distribution). ``rejection`` is another name of the latter.
        drafts_from: a folder with journals of earlier runs, whose texts the table learns at load, whatever their
            prompt, search or model was. No output depends on it.
        adapter, device, dtype, threads, chat, thinking: as of every local backend.
        kv_memory: megabytes (10^6 bytes) of keys and values, for the target and for the draft model each.
        state_memory: megabytes of states of a target whose layers have a recurrence; others have none.
        shelf: engines that are given the same one hold the weights of each model once.

    The remaining options are for research, see :class:`.config.ResearchOptions`.

    Raises ConfigError for options that make no sense, alone or together; loading raises ModelError.
    """

    name = "seed"
    fallback = "transformers"
    headline = (
        "tokens_per_second",
        "rows_per_round",
        "block_efficiency",
        "acceptance",
        "prefix_reuse",
        "drafter",
        "kernels",
        "kv_peak_bytes",
    )
    options: ClassVar = {
        **LocalBackend.options,
        "draft": str,
        "draft_dtype": str,
        "drafter": str,
        "exit": str,
        "policy": str,
        "verify": str,
        "drafts_from": str,
        "draft_tokens": int,
        "twin_prefix": str,
        "beam_draft": str,
        "beam_threshold": float,
        "beam_min": int,
        "beam_survivors": int,
        "kv_memory": float,
        "state_memory": float,
        "max_rows": int,
        "chunk": int,
        "graphs": bool,
    }

    def __init__(
        self,
        model: str = "mini",
        *,
        draft: str | None = None,
        draft_dtype: str | None = None,
        drafter: str | Callable[[], Drafter] = "auto",
        exit: str | None = None,
        policy: str = "rounds",
        verify: str = "coupled",
        drafts_from: str | None = None,
        draft_tokens: int | None = None,
        twin_prefix: str = "auto",
        beam_draft: str | None = None,
        beam_threshold: float | None = None,
        beam_min: int = 1,
        beam_survivors: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
        kv_memory: float = 2000.0,
        state_memory: float = 2000.0,
        max_rows: int = 256,
        chunk: int = 1024,
        graphs: bool = True,
        threads: int | None = None,
        chat: bool | None = None,
        thinking: str = DEFAULT_MARKS,
        adapter: str | None = None,
        shelf: WeightCache | None = None,
    ) -> None:
        super().__init__(model, device, dtype, threads, chat, thinking, adapter)
        self.config = EngineConfig.of(
            model=model,
            dtype=dtype,
            adapter=adapter,
            draft=draft,
            draft_dtype=draft_dtype,
            drafter=drafter,
            exit=exit,
            verify=verify,
            drafts_from=drafts_from,
            kv_memory=kv_memory,
            state_memory=state_memory,
            policy=policy,
            draft_tokens=draft_tokens,
            twin_prefix=twin_prefix,
            beam_draft=beam_draft,
            beam_threshold=beam_threshold,
            beam_min=beam_min,
            beam_survivors=beam_survivors,
            max_rows=max_rows,
            chunk=chunk,
            graphs=graphs,
        )
        self._use(EngineBuilder(shelf or WeightCache()))

    def _use(self, builder: EngineBuilder) -> None:
        """Let another builder load the models."""
        self.builder = builder
        self.core = EngineCore(
            self.config, self._build, builder.draft, engines=builder.engines, set_threads=self._set_threads
        )

    def _build(self) -> EngineParts:
        return self.builder.build(self.config, self._tokenizer(), self._load, self._device)

    def _load(self) -> Model:
        return load_decoder(catalog.resolve(self.model), self.dtype, self._device)

    def _offered(self, *, chat: bool) -> frozenset[str]:
        """Without ``seed`` where texts depend on what was drafted, and so on other requests."""
        depends = not self.config.coupled and self.config.drafter != "none"
        return (super()._offered(chat=chat) | {"constraints"}) - ({"seed"} if depends else set())

    def option_values(self) -> dict[str, Any]:
        """See :meth:`LocalBackend.option_values`."""
        values = {"device": self.device, "threads": self.threads, "chat": self.chat, "thinking": self.thinking}
        values |= self.config.options()
        return {option: values[option] for option in self.options}

    def describe(self) -> dict[str, Any]:
        """See :meth:`LocalBackend.describe`; ``drafts_from`` is left out, as it changes no output."""
        description = super().describe()
        description["options"].pop("drafts_from", None)
        return description

    def with_model(self, model: str) -> SeedBackend:
        """An engine of another target with the same options and the same draft model, which is in memory once.

        ``model`` may be the folder of an adapter: the target is the same then, and its weights are in memory once. Keys
        and values are each engine's own. Their rounds alternate. Raises ConfigError.
        """
        values = self.option_values() | {"drafter": self.config.drafter}
        other = type(self)(**(values | self._beside(model)))
        other._use(self.builder)
        return other

    def check_model(self) -> None:
        """See :class:`treeagent.Backend`; a model whose texts a sliding window would limit is left to the fallback."""
        check_files(catalog.resolve(self.model), self.model)

    def load(self) -> None:
        """Load the models and measure their passes now rather than at the first request. Raises ModelError."""
        self.core.load()

    async def generate(self, request: Request) -> Reply:
        """Complete a prompt. Raises BackendError."""
        return await self.core.generate(request)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """As :meth:`generate`; texts are handed out after every round, those of beams when they are complete."""
        return await self.core.generate(request, on_text)

    async def score(self, request: ScoreRequest) -> Scores:
        """Score continuations, which are tokenised together with the prompt. Raises BackendError."""
        return await self.core.score(request)

    def raise_priority(self, request: Request | ScoreRequest) -> None:
        """See :meth:`treeagent.Backend.raise_priority`; it holds from the next round on."""
        self.core.raise_priority(request)

    def early_rows(self) -> int | None:
        """See :class:`treeagent.Backend`; by the cost table and the measured time of rounds outside of passes."""
        return self.core.early_rows()

    def pass_seconds(self) -> float | None:
        """See :meth:`treeagent.Backend.pass_seconds`."""
        return self.core.pass_seconds()

    async def aclose(self) -> None:
        """Wait for the last round, then free models, keys and values; the next request loads them again."""
        await self.core.aclose()

    def reset(self, *, tables: bool = True) -> None:
        """Empty the prefix caches and, with ``tables``, forget what drafters have learnt, as if just loaded.

        The draft model's cache is emptied for all engines that use it. Raises BackendError while requests are running.
        """
        self.core.reset(tables=tables)

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Start measuring; the result gives the engine's figures since, see docs/reference/figures.md."""
        return self.core.meter()

    def rounds(self) -> Callable[[], list[Round]]:
        """Start recording rounds; each call of the result gives those that have ended since the last call."""
        return self.core.rounds()

    def check(self) -> None:
        """Raise AssertionError where the prefix cache contradicts itself; for tests, while no request is running."""
        if self.core.parts is not None:
            self.core.parts.scheduler.runner.forest.check()
