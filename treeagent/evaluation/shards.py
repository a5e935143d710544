"""Shards of an evaluation: K/N is the problems whose number leaves K when divided by N."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..taskfile.dataset import Data

_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of ``count`` parts of the problems."""

    count: int
    index: int
    """From 0 to ``count`` - 1, as the index of a Slurm array task from 0 and of an indexed Kubernetes job."""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a text such as ``3/16``. Raises ConfigError."""
        match = _FORM.fullmatch(text.strip())
        if match is None or int(match[2]) == 0:
            raise ConfigError(f"--shard: {text!r} is no shard: expected K/N with K from 0 to N - 1, such as 0/16")
        shard = cls(int(match[2]), int(match[1]))
        if shard.index >= shard.count:
            raise ConfigError(
                f"--shard: there is no shard {text!r}: shards are counted from 0, so the last of {shard.count} is "
                f"{shard.count - 1}/{shard.count}"
            )
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def __contains__(self, number: int) -> bool:
        return number % self.count == self.index

    def numbers(self, numbers: Collection[int]) -> set[int]:
        """Those of the problem numbers that are in this shard."""
        return {number for number in numbers if number in self}

    def part(self, data: Data) -> Data:
        """The rows of this shard, which may be none."""
        rows = tuple(row for row in data.rows if row.number in self)
        ungraded = sum(data.gold.text(row) is None for row in rows) if data.ungraded else 0
        return replace(data, rows=rows, ungraded=ungraded)


def absent(wanted: Collection[int], shards: Collection[Shard | None]) -> tuple[list[Shard], set[int]]:
    """The shards that are missing, and the problems in none of ``shards``; None is a folder with all problems.

    Missing shards have a name only where all shards are of one number; else the list is empty.
    """
    left = {number for number in wanted if not any(shard is None or number in shard for shard in shards)}
    counts = {shard.count for shard in shards if shard is not None}
    if len(counts) != 1:
        return [], left
    [count] = counts
    return [Shard(count, index) for index in sorted({number % count for number in left})], left
