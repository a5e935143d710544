"""The state of one completion while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

from treeagent.reasoning import Thinking
from treeagent.reply import Completion, Partial
from treeagent.request import Sampling
from treeagent.stable_text import stable_text

from .detokenizer import CONTEXT, Decode, IncrementalDetokenizer, decode_after


@dataclass(frozen=True, slots=True)
class ThinkingEnd:
    """How thinking that takes too long is ended."""

    budget: int
    """The most tokens of it."""
    tokens: tuple[int, ...]
    """What ends it."""


class Sample:
    """One completion while it is generated."""

    def __init__(
        self,
        prompt: tuple[int, ...],
        sampling: Sampling,
        stream: int,
        limit: int,
        decode: Decode,
        *,
        wanted: Callable[[], bool] = lambda: True,
        thinking: Thinking | None = None,
        end: ThinkingEnd | None = None,
    ) -> None:
        """``wanted`` is called before each step; once it is False, the sample is given up.

        ``thinking`` is cut off the text; the tokens are those of the whole completion.
        """
        self.prompt = prompt
        self.sampling = sampling
        self.stream = stream
        """Key of its noise."""
        self.tokens: list[int] = []
        """Generated so far, end-of-text token excluded."""
        self.completion: Completion | None = None
        """Set when it is finished."""
        self.limit = limit
        """The most tokens it may have."""
        self.other_tokens = 0
        """Tokens generated for it that are not its own: those of beams that were not chosen."""
        self._logprob: float | None = 0.0  # of all tokens drawn; None once that of one of them is unknown
        self._wanted = wanted
        self._drafted: list[int] | None = None  # places of the tokens that a draft had guessed
        self._decode = decode
        self._thinking = thinking
        self.thinking_tokens = 0
        """Tokens that are no part of the text, once it is finished."""
        self._end_of_thinking, self._forced = end, 0  # tokens of the end that were taken
        watched = bool(sampling.stop) or end is not None
        self._text = IncrementalDetokenizer(decode, prompt, sampling.stop, thinking) if watched else None

    @property
    def open(self) -> bool:
        """Whether it needs another token."""
        return self.completion is None and self._wanted()

    @property
    def takes_any(self) -> bool:
        """Whether its tokens are those that it is given, none put in their place."""
        return self._end_of_thinking is None

    def reader(self) -> TextReader:
        """A reader of the text while it grows."""
        return TextReader(self, self._text, IncrementalDetokenizer(self._decode, self.prompt, ()), self._thinking)

    def fork(self) -> Sample:
        """Another sample that has taken the same tokens."""
        twin = copy(self)
        twin.tokens = list(self.tokens)
        twin._drafted = None if self._drafted is None else list(self._drafted)
        twin._text = None if self._text is None else self._text.fork()
        return twin

    def mark_drafted(self, count: int) -> None:
        """The next ``count`` tokens are a draft's, perhaps more than are accepted before the end.

        Called with 0 where a drafter is in use, even if it never drafts.
        """
        if self._drafted is None:
            self._drafted = []
        if count:
            at = len(self.tokens)
            self._drafted += range(at, at + count)

    def finish_as(self, chosen: Sample, logprob: float, generated: int) -> None:
        """End with the tokens and completion of a finished fork, of ``generated`` tokens in all forks."""
        assert chosen.completion is not None  # noqa: S101  # it is finished
        self.tokens, self.thinking_tokens = chosen.tokens, chosen.thinking_tokens
        self.other_tokens = generated - len(chosen.tokens)
        self.completion = replace(chosen.completion, logprob=logprob)

    def accept(self, token: int, eos: frozenset[int], logprob: float | None = None) -> int:
        """Take the next token; sets ``completion`` at the end of text, at a stop string and at the token limit.

        ``logprob`` is its natural-log probability, untempered; None where the caller keeps the sum itself. Returns the
        token that was taken: another one where thinking is over its number of tokens.
        """
        if (forced := self._next_of_end()) is not None:
            token, logprob = forced, None
            if self._drafted is not None:  # this one is no draft's, and drafts end here
                self._drafted = [place for place in self._drafted if place < len(self.tokens)]
        self._logprob = None if self._logprob is None or logprob is None else self._logprob + logprob
        if token in eos:
            self._end("stop")
            return token
        self.tokens.append(token)
        if self._text is not None and self._text.push(token):
            self._end("stop")
        elif len(self.tokens) >= self.limit:
            self._end("length")
        return token

    def accept_all(self, tokens: Sequence[int], eos: frozenset[int], logprobs: Sequence[float]) -> list[int]:
        """Take tokens one after another, as :meth:`accept` does, until the end or another one than was given.

        Returns those that were taken.
        """
        taken: list[int] = []
        if self._end_of_thinking is not None:
            for token, logprob in zip(tokens, logprobs, strict=True):
                taken.append(self.accept(token, eos, logprob))
                if self.completion is not None or taken[-1] != token:  # what follows was drawn after another token
                    break
            return taken
        own, text, limit = self.tokens, self._text, self.limit
        for token, logprob in zip(tokens, logprobs, strict=True):
            taken.append(token)
            if self._logprob is not None:
                self._logprob += logprob
            if token in eos:
                self._end("stop")
                break
            own.append(token)
            if text is not None and text.push(token):
                self._end("stop")
                break
            if len(own) >= limit:
                self._end("length")
                break
        return taken

    def _next_of_end(self) -> int | None:
        """The next token of the end of thinking, where it is due."""
        end = self._end_of_thinking
        if end is None or self._text is None or self._forced >= len(end.tokens):
            return None
        if self._forced == 0 and (len(self.tokens) != end.budget or not self._text.is_thinking):
            return None
        self._forced += 1
        return end.tokens[self._forced - 1]

    def _end(self, why: str) -> None:
        if self._text is None:
            text = decode_after(self._decode, self.prompt[-CONTEXT:], self.tokens)
            drafted = self._confirmed(len(self.tokens))
            whole = Completion(text, tuple(self.tokens), why, self._logprob, drafted)
            self.completion = self._without_thinking(whole)
            return
        stopped = self._text.cut is not None or self._text.finish()
        text, tokens = self._text.before_cut(self.tokens)
        drafted = self._confirmed(len(tokens))
        ends = self._text.ends(len(tokens)) if drafted else None  # of use for showing which were drafted
        finish = "stop" if stopped else why
        self.completion = self._without_thinking(Completion(text, tokens, finish, self._logprob, drafted, ends))

    def _without_thinking(self, whole: Completion) -> Completion:
        """The completion with its thinking apart. Its tokens stay, and those of thinking end where the text begins."""
        split = None if self._thinking is None else self._thinking.split(whole.text)
        if split is None or split.reasoning is None:
            return whole
        self.thinking_tokens = split.tokens_outside(self._text_ends())
        ends = None if whole.ends is None else tuple(split.offset(end) for end in whole.ends)
        return replace(whole, text=split.text, ends=ends, reasoning=split.reasoning)

    def _text_ends(self) -> tuple[int, ...]:
        """Offset in the whole text after each token."""
        text = self._text
        if text is None:
            text = IncrementalDetokenizer(self._decode, self.prompt, ())
            for token in self.tokens:
                text.push(token)
            text.finish()
        return text.ends(len(self.tokens))

    def _confirmed(self, length: int) -> tuple[int, ...] | None:
        return None if self._drafted is None else tuple(place for place in self._drafted if place < length)


class TextReader:
    """Reads the text of one sample while it grows."""

    def __init__(
        self,
        sample: Sample,
        text: IncrementalDetokenizer | None,
        own: IncrementalDetokenizer,
        thinking: Thinking | None,
    ) -> None:
        """``own`` takes the tokens of a sample that has no ``text`` of its own, as nothing stops it."""
        self._sample, self._text, self._own, self._thinking = sample, text, own, thinking
        self._pushed = 0  # tokens that ``own`` has taken
        self._tokens = 0

    def read(self, index: int) -> Partial | None:
        """What the sample has, as completion number ``index``; None where nothing was added since the last call.

        The last one has the whole text.
        """
        sample, completion = self._sample, self._sample.completion
        tokens = len(sample.tokens) + sample.other_tokens
        if completion is None and (tokens == self._tokens or sample.sampling.num_beams > 1):
            return None
        self._tokens = tokens
        text = self._stable() if completion is None else completion.text
        return Partial(index, text, tokens, whole=completion is not None)

    def _stable(self) -> str:
        text = self._text
        if text is None:
            text = self._own
            for token in self._sample.tokens[self._pushed :]:
                text.push(token)
            self._pushed = len(self._sample.tokens)
        return stable_text(text.text, self._sample.sampling.stop, self._thinking)
