"""The bundled model as a .gguf file in float32, so that llama.cpp can run it; and llama.cpp's server in a process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from treeagent.backends.bench.peers import gguf_file


def write(folder: Path, file: Path) -> Path:
    """A checkpoint as ``file``; its tokenizer takes whole words first."""
    return gguf_file.write(folder, file, dtype="float32", splitter="llama-bpe")


PROGRAM = """
import sys, xllamacpp
given = xllamacpp.CommonParams()
given.model.path, given.model_alias = sys.argv[1], {"mini"}
given.hostnames, given.port = ["127.0.0.1"], 0
given.n_ctx, given.n_parallel, given.warmup = 4096, 4, False
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(given)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The API's base of a llama.cpp server in a process of its own, which ends with this one at the latest."""
    command = [sys.executable, "-c", PROGRAM, str(model)]
    with (
        tempfile.TemporaryFile("w+") as log,  # a pipe that nobody reads would fill up and stop the server
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            if not address:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start: {log.read()[-2000:]}")
            yield f"{address}/v1"
        finally:
            process.kill()
