"""What a token of each row is worth: a row that ends before the others saves little of their time.

Tokens per second are the aim as long as all rows end together. A level of a search, however, ends with its last row,
and passes over the rows that are left are hardly shorter. Of t(R) seconds of a pass over R rows, a row adds
b = (t(R) - t(1)) / (R - 1). A token that is accepted ends its row a pass earlier, which saves b in any case, and of the
rest as much as the row is among the last ones:

    b + c (t(R) / R - b)    seconds, where tokens per second take t(R) / R

A row needs as many passes as it has room for tokens, over the tokens that it gets from a pass. c is 1 for rows that
need about the most; the more rows there are, and the more passes others need than a row does, the smaller is its c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..executor.pass_cost import PassCost
from ..records import SequenceState

STEADY = 8
"""Passes of one token each that count for a row's pace beside its own."""
FEW, POWER, MEAN = 4, 2.25, 1.5
"""c falls with a power of the rows, slowly up to a few, and is 1 from the mean over this number on.

Replayed by a table of seconds, recorded word problems of four groups of 16 rows take 1.05 times as long with drafts as
without if all c are 1 (1.07 in the worst group), 1.01 times with the power 2.25 (1.02), and 1.00 with 2.5. Where all
rows gain alike, 2.25 takes up to 3 % at 16 rows and 1 % at 4, and 10 % where all drafts are right.
"""


def row_worths(rows: Sequence[SequenceState], cost: PassCost) -> list[float]:
    """For each row what its tokens are worth, as a part of a token's seconds in a pass over all rows; 1 at most."""
    count = len(rows)
    if count < 2:
        return [1.0] * count
    texts = [(len(row.tokens) - row.prompt, row) for row in rows]
    passes = [max(row.limit - done, 1) * (row.passes + STEADY) / (done + STEADY) for done, row in texts]
    most, fall = max(passes), (count / FEW) ** POWER
    chances = [math.exp(fall * (1.0 - most / own)) for own in passes]
    mean, seconds = sum(chances) / count, cost(count)
    beside = min(1.0, max(0.0, (seconds - cost(1)) / (count - 1) * count / seconds))
    return [beside + (1.0 - beside) * min(1.0, MEAN * chance / mean) for chance in chances]
