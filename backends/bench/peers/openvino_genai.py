"""OpenVINO GenAI with its prefix cache: package openvino-genai; ``model`` is the folder that optimum-cli exports.

Option ``lookup``: tokens that it copies from the prompt at a time.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

PRECISION = {"float32": "f32", "bfloat16": "bf16"}


class OpenvinoPeer:
    """A pipeline of continuous batching."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.version = f"openvino-genai {metadata.version('openvino-genai')}"
        self._job = job
        self._lookup = job["options"].get("lookup")
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.enable_prefix_caching, scheduler.max_num_seqs = 1, True, job["at_once"]
        precision = PRECISION[job["dtype"]]
        self._make: Any = lambda: genai.LLMPipeline(
            job["model"], "CPU", scheduler_config=scheduler, INFERENCE_PRECISION_HINT=precision,
            KV_CACHE_PRECISION=precision, INFERENCE_NUM_THREADS=job["threads"],
            **({} if self._lookup is None else {"prompt_lookup": True}),
        )  # fmt: skip
        self._pipeline = self._make()
        self._fresh = True

    def reset(self) -> None:
        """Begin with an empty prefix cache, which can be had only with a new pipeline."""
        if not self._fresh:
            del self._pipeline
            self._pipeline = self._make()
        self._fresh = False

    def complete(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """Greedy tokens of prompts that come together."""
        config = genai.GenerationConfig()
        config.max_new_tokens, config.apply_chat_template = max_tokens, False
        config.stop_token_ids = set(self._job["eos"])
        if self._lookup is not None:
            config.num_assistant_tokens, config.max_ngram_size = self._lookup, 4
        width = max(map(len, prompts))
        ids, mask = (np.zeros((len(prompts), width), np.int64) for _ in range(2))  # (N, T), left-padded
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = prompt, 1
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(mask))
        return [list(tokens) for tokens in self._pipeline.generate(inputs, config).tokens]


open_peer = OpenvinoPeer
