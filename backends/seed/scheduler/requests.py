"""What a question becomes: jobs of the scheduler, and an answer when the last of them is done.

Answers are handed out when the round that made them is over, so that whoever is told of the round is told first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from treeagent.backend import Reply, Request, ScoreRequest, Scores, Usage

from ...local.base import pairs, samples
from ...local.beam_search import BeamSearch
from ...local.request_queue import PendingRequest
from ...models.loader import Model
from ...models.tokenizer import ChatTokenizer
from .beam_job import BeamJob
from .jobs import DecodeJob, Job
from .score_job import ScoreJob

EngineRequest = PendingRequest[Request | ScoreRequest]
Defer = Callable[[Callable[[], None]], object]
"""Has something done when the round is over."""


def jobs_of(ticket: EngineRequest, text: ChatTokenizer, model: Model, later: Defer, *, single: bool) -> Iterator[Job]:
    """The jobs of a question; ``single``: of beams only the best one goes on after a pass. Raises BackendError."""
    if isinstance(ticket.question, ScoreRequest):
        yield from _scoring(ticket, ticket.question, text, model, later)
    else:
        yield from _generation(ticket, ticket.question, text, model, later, single=single)


def _scoring(
    ticket: EngineRequest, request: ScoreRequest, text: ChatTokenizer, model: Model, later: Defer
) -> Iterator[Job]:
    asked = pairs(request, text, model)
    lengths = tuple(len(continuation) for _, continuation in asked)
    usage = Usage(calls=1, prompt_tokens=(len(asked[0][0]) if asked else 0) + sum(lengths), completion_tokens=0)

    def answer(sums: list[float]) -> None:
        scores = Scores(tuple(sums), lengths, usage)
        later(lambda: ticket.answer(scores))

    if any(lengths):
        continuations = [continuation for _, continuation in asked]
        yield ScoreJob(asked[0][0], continuations, answer, ticket.fail, lambda: ticket.wanted)
    else:
        answer([0.0] * len(asked))


def _generation(
    ticket: EngineRequest, request: Request, text: ChatTokenizer, model: Model, later: Defer, *, single: bool
) -> Iterator[Job]:
    made = samples(request, text, model)
    left = len(made)

    def finished() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            tokens = sum(len(sample.tokens) + sample.others for sample in made)
            usage = Usage(calls=1, prompt_tokens=len(made[0].prompt), completion_tokens=tokens)
            completions = tuple(sample.completion for sample in made if sample.completion is not None)
            reply = Reply(completions, usage)
            later(lambda: ticket.answer(reply))

    def failed(error: BaseException) -> None:
        ticket.fail(error)
        ticket.dropped = True  # its other samples are of no use to anybody

    for sample in made:
        sample.wanted = lambda: ticket.wanted
        if sample.sampling.num_beams > 1:
            yield BeamJob(BeamSearch(sample, model.eos), finished, failed, single)
        else:
            yield DecodeJob(sample, finished, failed)
