"""Turns requests into jobs, and the results of a request's jobs into its reply.

Replies are deferred to the end of the round, so that its listeners run before futures resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from treeagent.constraint import Constraint
from treeagent.request import Request, RewardRequest, ScoreRequest

from ...local.base import pairs, reply_of, samples, scores_of
from ...local.beam_search import BeamSearch
from ...local.request_queue import PendingRequest
from ...local.reward_tokens import reward_tokens
from ...local.text_streams import TextStreams
from ...local.token_masks import TokenMask, TokenMasks
from ...models.model import Model
from ...models.tokenizer import ChatTokenizer
from ..executor.compiled_steps import EndTokens
from ..verifiers.beam_coupled import BeamVerifier
from .beam_job import BeamJob
from .decode_job import DecodeJob
from .jobs import Job
from .known_rewards import KnownRewards
from .reward_job import RewardJob
from .score_job import ScoreJob

EngineRequest = PendingRequest[Request | ScoreRequest]
Defer = Callable[[Callable[[], None]], object]
"""Takes a function that is to be called at the end of the round."""


ENDS_KEPT = 256
"""Stop strings of so many kinds of requests are kept as tokens."""


class JobFactory:
    """Makes the jobs of requests to one model."""

    def __init__(
        self, tokenizer: ChatTokenizer, model: Model, beams: BeamVerifier, *, single_beam: bool, vocabulary: int
    ) -> None:
        """``single_beam``: of several beams only the best one is continued after a pass.

        ``vocabulary`` is the length of a row of logits.
        """
        self._tokenizer, self._model = tokenizer, model
        self._vocabulary = vocabulary
        self._masks: TokenMasks | None = None
        self._beams, self._single_beam = beams, single_beam
        self.rewards = KnownRewards()
        self._ends: dict[tuple[str, ...], EndTokens] = {}

    def jobs(self, pending: EngineRequest, defer: Defer, streams: TextStreams) -> Iterator[Job]:
        """The jobs of a request. Raises BackendError for a request that makes no sense."""
        if isinstance(pending.request, RewardRequest):
            yield from self._rewarding(pending, pending.request, defer)
        elif isinstance(pending.request, ScoreRequest):
            yield from self._scoring(pending, pending.request, defer)
        else:
            yield from self._generation(pending, pending.request, defer, streams)

    def _scoring(self, pending: EngineRequest, request: ScoreRequest, defer: Defer) -> Iterator[Job]:
        tokens = pairs(request, self._tokenizer, self._model)
        continuations = [continuation for _, continuation in tokens]

        def answer(sums: list[float]) -> None:
            scores = scores_of(tokens, sums)
            defer(lambda: pending.answer(scores))

        if any(continuations):
            yield ScoreJob(tokens[0][0], continuations, answer, pending.fail, pending.is_wanted, pending)
        else:
            answer([0.0] * len(tokens))  # nothing to compute

    def _rewarding(self, pending: EngineRequest, request: RewardRequest, defer: Defer) -> Iterator[Job]:
        text = reward_tokens(request, self._tokenizer, self._model)
        known = self.rewards.of(text)

        def answer(others: list[float]) -> None:
            rewards = [*known, *others]
            self.rewards.learn(text, rewards)
            defer(lambda: pending.answer(text.scores(rewards)))

        if len(known) < len(text.marks):
            yield RewardJob(text, len(known), answer, pending.fail, pending.is_wanted, pending)
        else:
            answer([])  # nothing to compute

    def _generation(
        self, pending: EngineRequest, request: Request, defer: Defer, streams: TextStreams
    ) -> Iterator[Job]:
        requested = samples(request, self._tokenizer, self._model, pending.is_wanted, constrains=True)
        masks = [self._mask(request.sampling.constraint) for _ in requested]
        streams.add(pending, requested)
        unfinished = len(requested)

        def finished() -> None:
            nonlocal unfinished
            unfinished -= 1
            if unfinished == 0:
                reply = reply_of(requested)
                defer(lambda: pending.answer(reply))

        ends = self._ends_of(request.sampling.stop)
        for sample, mask in zip(requested, masks, strict=True):
            if sample.sampling.num_beams > 1:
                run = BeamSearch(sample, self._model.eos)
                yield BeamJob(run, self._beams, finished, pending.fail, pending, single=self._single_beam)
            else:
                yield DecodeJob(sample, self._model.eos, finished, pending.fail, pending, mask, ends)

    def _ends_of(self, stop: tuple[str, ...]) -> EndTokens:
        """The tokens that end a text, and those that stop strings most likely are."""
        if stop not in self._ends:
            if len(self._ends) == ENDS_KEPT:
                self._ends.clear()
            self._ends[stop] = EndTokens(self._model.eos, map(self._tokenizer.part, stop))
        return self._ends[stop]

    def _mask(self, constraint: Constraint | None) -> TokenMask | None:
        """Raises BackendError, MissingExtraError."""
        if constraint is None:
            return None
        if self._masks is None:
            self._masks = TokenMasks(self._tokenizer, self._model, self._vocabulary)
        return self._masks.mask(constraint)
