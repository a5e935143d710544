"""llama.cpp's server in this process: package xllamacpp; ``model`` is a GGUF file, whose numbers are its own."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any
from urllib.request import Request, urlopen

import xllamacpp


class LlamacppPeer:
    """A server with a slot for every prompt that comes at once."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.version = f"xllamacpp {metadata.version('xllamacpp')}"
        settings = xllamacpp.CommonParams()
        settings.n_parallel, settings.n_ctx = job["at_once"], job["at_once"] * job["context"]
        counts = [(part, "n_threads", job["threads"]) for part in (settings.cpuparams, settings.cpuparams_batch)]
        for part, name, value in [(settings.model, "path", job["model"]), *counts]:
            setattr(part, name, value)
        settings.n_gpu_layers, settings.cache_ram_mib, settings.verbosity = 0, 0, 0
        settings.kv_unified = True
        self._make: Any = lambda: xllamacpp.Server(settings)
        self._server = self._make()
        self._fresh = True

    def reset(self) -> None:
        """Begin with empty slots, which can be had only with a new server."""
        if not self._fresh:
            del self._server
            self._server = self._make()
        self._fresh = False

    def complete(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """Greedy tokens of prompts that come together."""

        def ask(prompt: list[int]) -> list[int]:
            content = {"prompt": prompt, "n_predict": max_tokens, "temperature": 0, "return_tokens": True}
            request = Request(f"{self._server.listening_address}/completion", json.dumps(content).encode())  # noqa: S310
            with urlopen(request) as reply:  # noqa: S310  # the server of this process
                return list(json.load(reply)["tokens"])

        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(ask, prompts))


open_peer = LlamacppPeer
