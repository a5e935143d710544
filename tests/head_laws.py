"""The exact law of texts of two tokens that a head drafts for under rejection, and many such texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from head_tools import engine
from numpy.typing import NDArray
from seed_tools import PROMPTS, Naive, ask
from toy_laws import softmax

from treeagent.request import Key, Request, Sampling

LAW = Sampling(temperature=1.3, max_tokens=2)


def binned(scores: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For every token 0 if it is among the likeliest, which have half of the law of these scores (V,), else 1; and the
    probabilities of both.
    """
    law = softmax(scores / LAW.temperature)
    order = np.argsort(-law)
    bins = np.zeros(len(law), dtype=np.int64)
    bins[order] = np.cumsum(law[order]) > 0.5
    return bins, np.bincount(bins, weights=law, minlength=2)


def drawn_texts(
    target: str, head: str, count: int, dtype: str = "float64"
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bins of the two tokens of texts (count, 2) by recursive rejection, and their exact law (2, 2)."""
    naive = Naive(target, "float64")
    prompt = naive.text.prompt(PROMPTS[3])
    first = naive.logits(prompt)[-1].numpy()
    every = torch.tensor([[*prompt, token] for token in range(len(first))])
    with torch.inference_mode():
        after = [binned(row[-1].numpy()) for row in naive.model.network(input_ids=every, use_cache=False).logits]
    bins, _ = binned(first)
    chances, law = softmax(first / LAW.temperature), np.zeros((2, 2))
    for token, chance in enumerate(chances.tolist()):
        law[bins[token]] += chance * (np.array([1.0, 0.0]) if token in naive.model.eos else after[token][1])
    backend = engine(target, head, dtype, drafter="rsd-c:2x2", verify="recursive", draft_tokens=6)
    ask(backend, Request(PROMPTS[3], Key(2, "propose", ""), LAW))  # from now on the prompt is read
    read = backend.meter()
    replies = ask(backend, *(Request(PROMPTS[3], Key(3, "propose", str(i)), LAW, 200) for i in range(count // 200)))
    assert read()["drafted"] > count
    assert read()["accepted"] > count / 20
    texts = np.zeros((count, 2), dtype=np.int64)
    for row, completion in zip(texts, (each for reply in replies for each in reply.completions), strict=True):
        tokens = [*completion.tokens, 0] if completion.finish == "stop" else completion.tokens
        row[0] = bins[tokens[0]]
        row[1] = 0 if len(tokens) == 1 else after[tokens[0]][0][tokens[1]]
    return texts, law
