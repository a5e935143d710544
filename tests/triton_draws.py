"""Draws by the Triton kernel, held against the host's; :mod:`triton_cases` asks for them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def choose(case: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Tokens of rows with settings of all kinds, and how far their scores are from the host's; ties are frequent."""
    from treeagent.backends.sampling.philox import TEXT, gumbel
    from treeagent.backends.sampling.sampler import choose_rows
    from treeagent.backends.seed.kernels.token_choice import choose_tokens
    from treeagent.request import Sampling

    chance, generator = random.Random(case["seed"]), torch.Generator().manual_seed(case["seed"])
    rows, size = case.get("rows", 6), case.get("size", 120)
    logits = (6 * torch.randn(rows, size, generator=generator)).round().div(2)
    logits = (
        logits + torch.randn(rows, size, generator=generator) * torch.rand(rows, 1, generator=generator).round()
    ).to(getattr(torch, case.get("dtype", "float32")))
    logits[:, 3::7] = -torch.inf
    kinds = ([0, 0.5, 1.0, 2.0], [None, 1, 5, 40, 10**6], [None, 0.3, 0.9, 1.0], [None, 0.0, 0.05])
    settings = [[chance.choice(kind) for kind in kinds] for _ in range(rows)]
    samplings = [Sampling(temperature=t, top_k=k, top_p=p, min_p=m) for t, k, p, m in settings]
    streams = [chance.getrandbits(64) for _ in range(rows)]
    positions = [chance.randrange(10**5) for _ in range(rows)]
    purpose = TEXT + case.get("wrong", 0)
    drawn, scores = choose_tokens(logits.to(device), samplings, streams, positions, purpose, case.get("block", 64))
    wide = logits.float().numpy()
    expected = choose_rows(wide, samplings, streams, positions)
    worst = 0.0
    for row, (token, score) in enumerate(zip(drawn.tolist(), scores.tolist(), strict=True)):
        if heat := samplings[row].temperature:
            noise = gumbel(streams[row], positions[row], np.array([token]), purpose)[0]
            worst = max(worst, abs(score - (np.float64(wide[row, token]) / heat + noise)))
    logits[0, 5], logits[1], logits[2 % rows, 7] = torch.nan, -torch.inf, torch.inf
    four = (samplings[:4], streams[:4], positions[:4])
    strange = choose_tokens(logits[:4].to(device), *four, purpose, 64)[0].tolist() if rows > 3 else []
    return {"drawn": drawn.tolist(), "expected": expected.tolist(), "worst": worst, "strange": strange}


def draw_trial(dtype: str) -> dict[str, Any]:
    """The trial of draws at load, of the right kernel and of one that always draws the first token."""
    from treeagent.backends.seed.executor import token_choice
    from treeagent.backends.seed.kernels import token_choice as kernel

    what = (torch.device("cpu"), getattr(torch, dtype), 120)
    token_choice.TRIAL = (token_choice.TRIAL[0], token_choice.TRIAL[3])
    fault, right = token_choice.draw_trial(*what), kernel.choose_tokens
    kernel.choose_tokens = lambda logits, *rest: (torch.zeros(len(logits), dtype=torch.int64), None)
    broken = token_choice.draw_trial(*what)
    kernel.choose_tokens = right
    return {"fault": fault, "broken": broken}


def trees(case: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """Verdicts of coupled verification over random draft trees, by draws on the host and by the launch for all nodes.

    ``wrong`` shifts the position of every node's noise by one.
    """
    from unittest.mock import patch

    from treeagent.backends.seed.executor import logits as logits_module
    from treeagent.backends.seed.executor import token_choice
    from treeagent.backends.seed.executor.logits import Logits
    from treeagent.backends.seed.kernels import token_choice as kernel
    from treeagent.backends.seed.records import Draft, SequenceState
    from treeagent.backends.seed.verifiers.base import DraftCheck
    from treeagent.backends.seed.verifiers.coupled import Coupled
    from treeagent.request import Sampling

    chance, generator = random.Random(case["seed"]), torch.Generator().manual_seed(case["seed"])
    checks: list[DraftCheck] = []
    rows = 1  # the first belongs to a prompt
    for nodes in case["nodes"]:
        parents = [max(-1, node - chance.randint(1, 3)) for node in range(nodes)]
        heat, most = chance.choice([0, 0.5, 1.0]), chance.choice([None, 3])
        sampling = Sampling(temperature=heat, top_k=most, top_p=chance.choice([None, 0.9]))
        state = SequenceState([1, 2, 3], 2, sampling, chance.getrandbits(64), 50)
        draft = Draft([chance.randrange(2) for _ in parents], parents, [0.5] * nodes)
        checks.append(DraftCheck(state, draft, rows))
        rows += nodes + 1
    tensor = 2 * torch.randn(rows, 9, generator=generator)
    tensor[:, 2:] -= 9  # drafts are often right
    if checks:
        tensor[checks[-1].first] = torch.nan
    launches: list[int] = []

    def count(logits: torch.Tensor, samplings: Any, streams: Any, positions: Any) -> Any:
        launches.append(len(logits))
        return right(logits, samplings, streams, [position + case.get("wrong", 0) for position in positions])

    right = kernel.choose_tokens
    host = Coupled().verify(checks, Logits(tensor))
    with (
        patch.object(kernel, "choose_tokens", count),
        patch.object(token_choice, "draws_on_device", lambda _: True),
        patch.object(logits_module, "draws_on_device", lambda _: True),
    ):
        there = Coupled().verify(checks, Logits(tensor.to(device)))
    longest = max((len(verdict.accepted) for verdict in host if verdict is not None), default=0)
    sampled = sum(len(check.draft.tokens) + 1 for check in checks if check.row.sampling.temperature > 0)
    return {"host": str(host), "device": str(there), "launches": launches, "longest": longest, "sampled": sampled}
