"""The drafts of all rows of a round in arrays, as kernels write and read them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import overload

from .records import NO_DRAFT, Draft


class DraftArrays(Sequence[Draft]):
    """Drafts of one kind that may be cut, as a sequence that makes each :class:`Draft` when it is asked for."""

    __slots__ = ("confidences", "parents", "sizes", "tokens")

    def __init__(self, sizes: array[int], tokens: array[int], parents: array[int], confidences: array[float]) -> None:
        """``sizes``: nodes of each draft; the others hold the nodes of all drafts, one draft after another."""
        self.sizes, self.tokens, self.parents, self.confidences = sizes, tokens, parents, confidences

    @classmethod
    def empty(cls, drafts: int) -> DraftArrays:
        """Drafts without nodes."""
        return cls(array("i", bytes(4 * drafts)), array("i"), array("i"), array("d"))

    @classmethod
    def of(cls, drafts: Sequence[Draft]) -> DraftArrays:
        """Those of other drafts."""
        if isinstance(drafts, cls):
            return drafts
        arrays = cls.empty(0)
        for draft in drafts:
            arrays.sizes.append(len(draft.tokens))
            if draft.tokens:
                arrays.tokens.extend(draft.tokens)
                arrays.parents.extend(draft.parents)
                arrays.confidences.extend(draft.confidence)
        return arrays

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Draft]:
        end = 0
        for size in self.sizes:
            begin, end = end, end + size
            yield self._draft(begin, end)

    @overload
    def __getitem__(self, place: int) -> Draft: ...

    @overload
    def __getitem__(self, place: slice) -> list[Draft]: ...

    def __getitem__(self, place: int | slice) -> Draft | list[Draft]:
        if isinstance(place, slice):
            return list(self)[place]
        ends = list(accumulate(self.sizes))
        return self._draft(ends[place] - self.sizes[place], ends[place])

    def _draft(self, begin: int, end: int) -> Draft:
        tokens, parents, confidences = self.tokens[begin:end], self.parents[begin:end], self.confidences[begin:end]
        return Draft(tokens.tolist(), parents.tolist(), confidences.tolist())

    def parts(self, counts: Sequence[int], nodes: Sequence[int]) -> list[Draft]:
        """Of each draft so many of its nodes; ``nodes`` are those of all drafts, ascending in each."""
        parts: list[Draft] = []
        begin = taken = 0
        for size, count in zip(self.sizes, counts, strict=True):
            if not count:
                parts.append(NO_DRAFT)
            else:
                draft = self._draft(begin, begin + size)
                parts.append(draft if count == size else draft.keep(nodes[taken : taken + count]))
            begin += size
            taken += count
        return parts
