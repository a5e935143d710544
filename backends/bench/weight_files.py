"""Measure files of quantised weights beside float32, and rows of two adapters in one pass beside two passes.

    python -m treeagent.backends.bench.weight_files --model smollm2 --json weights.json

The checkpoint is written as .gguf files of several types. Each is loaded in a process of its own by the engine, which
reports the memory that the process keeps after loading, and the seconds of passes with some rows, one new token each
after 280 of context. ``q4_k_m`` is the mixture of that name: widths that are no multiple of 256 have the types
that llama.cpp puts in their place, and the blocks of K types hold random bytes, which take the time of any others.
The types are measured in turn, so many times; a second call with the same ``--json`` adds to it. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TYPES = ("float32", "q8_0", "q4_0", "q4_1", "q5_1", "q4_k_m")
ROWS = (1, 8, 16)
PASSES = 25
"""Of each number of rows, after some that are not counted."""
WARM = 5
RANK = 16
"""Of the adapters, which change all linear layers."""
WIDE = {"attn_v": "Q6_K", "ffn_down": "Q6_K", "token_embd": "Q6_K", "output": "Q6_K"}
"""What ``q4_k_m`` has in the larger type."""
INSTEAD = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
"""Types of widths that are no multiple of 256."""


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a folder with a Llama, or its name (default: smollm2)")
    parser.add_argument("--types", default=",".join(TYPES), help=f"of {', '.join(TYPES)}, and adapters")
    parser.add_argument("--repeat", type=int, default=3, help="processes of each type (default: 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files", type=Path, help="folder that keeps the .gguf files for another call")
    parser.add_argument("--json", type=Path, help="what was measured")
    parser.add_argument("--one", nargs=2, metavar=("TYPE", "WHERE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if chosen.one is not None:
        kind, where = chosen.one
        measured = measure_adapters(Path(where)) if kind == "adapters" else measure(Path(where), chosen.threads)
        print(json.dumps(measured))
        return
    from ..models import catalog  # noqa: PLC0415  # brings torch, which --help can do without

    kinds = chosen.types.split(",")
    with tempfile.TemporaryDirectory(prefix="treeagent-weights-") as folder:
        model = Path(str(catalog.resolve(chosen.model)))
        where = {kind: write(model, kind, chosen.files or Path(folder)) for kind in kinds}
        said: dict[str, Any] = {"model": chosen.model, "threads": chosen.threads, "file_bytes": {}, "runs": {}}
        if chosen.json is not None and chosen.json.exists():
            said = json.loads(chosen.json.read_text(encoding="utf-8"))
        said["file_bytes"] |= {kind: path.stat().st_size for kind, path in where.items() if path.is_file()}
        for _ in range(chosen.repeat):
            for kind in kinds:
                measured = _in_process(kind, where[kind], chosen.threads)
                print(kind, json.dumps(measured), flush=True)
                said["runs"].setdefault(kind, []).append(measured)
                if chosen.json is not None:
                    chosen.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def write(model: Path, kind: str, folder: Path) -> Path:
    """The checkpoint as a file of a type; the checkpoint itself for ``float32`` and ``adapters``."""
    if kind in {"float32", "adapters"}:
        return model
    from .peers import gguf_file  # noqa: PLC0415  # the library gguf

    own, file = _mixed if kind == "q4_k_m" else None, folder / f"{kind}.gguf"
    return file if file.exists() else gguf_file.write(model, file, dtype="q8_0" if own else kind, quantise=own)


def measure(where: Path, threads: int) -> dict[str, Any]:
    """Memory in MiB that loading a model has added, and the seconds of passes by rows."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: F401, PLC0415  # its import is no part of the model's memory

    from ..local.heap import trim_heap  # noqa: PLC0415
    from ..seed.executor.trial_pass import TrialPass, run_trial, trial_segments  # noqa: PLC0415

    torch.set_num_threads(threads)
    before = _own_memory()
    runner = _runner(where)
    gc.collect()
    trim_heap()
    said: dict[str, Any] = {"kernels": runner.weights.kernels, "mebibytes": round(_own_memory() - before, 1)}
    for rows in ROWS:
        with trial_segments(runner, TrialPass(rows, shared=256)) as segments:
            seconds = [run_trial(runner, segments)[1] for _ in range(WARM + PASSES)]
        said |= _said(f"rows_{rows}", seconds[WARM:])
    return said


def measure_adapters(where: Path) -> dict[str, Any]:
    """Seconds of one pass with 8 rows of each of two adapters, and of two passes with 8 rows."""
    from ..seed.executor.joint_pass import forward_jointly  # noqa: PLC0415
    from ..seed.executor.trial_pass import TrialPass, trial_segments  # noqa: PLC0415

    first = _runner(where, seed=1)
    second = _runner(where, seed=2, weights=first.weights)
    trial = TrialPass(8, shared=256)
    together, apart = [], []
    with trial_segments(first, trial) as own, trial_segments(second, trial) as other:
        for _ in range(WARM + PASSES):
            began = time.perf_counter()
            forward_jointly([(first, own), (second, other)])
            middle = time.perf_counter()
            first.forward(own)
            second.forward(other)
            together.append(middle - began)
            apart.append(time.perf_counter() - middle)
    return _said("one_pass", together[WARM:]) | _said("two_passes", apart[WARM:])


def _said(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """The median, and the least, which other programs on the machine disturb least."""
    return {f"{name}_median": round(statistics.median(seconds), 5), f"{name}_least": round(min(seconds), 5)}


def _runner(where: Path, seed: int | None = None, weights: Any = None) -> Any:
    """Of a model, with a random adapter where there is a ``seed``."""
    import torch  # noqa: PLC0415

    from ..models.decoder import load_decoder  # noqa: PLC0415
    from ..models.low_rank import Adapter, LowRank  # noqa: PLC0415
    from ..seed.executor.model_runner import ModelRunner  # noqa: PLC0415
    from ..seed.executor.weights import Weights  # noqa: PLC0415

    device = torch.device("cpu")
    weights = weights or Weights(load_decoder(where, "float32", device), where)
    if seed is None:
        return ModelRunner(weights, 10**9)
    chance = torch.Generator().manual_seed(seed)
    shapes = {path: shape for path, shape in weights.linears.items() if path != "lm_head"}
    layers = {
        path: LowRank(torch.randn(RANK, ins, generator=chance) / 100, torch.randn(outs, RANK, generator=chance) / 100)
        for path, (outs, ins) in shapes.items()
    }
    return ModelRunner(weights, 10**9, adapter=Adapter(where, layers))


def _mixed(name: str, values: Any) -> tuple[Any, Any]:
    """A matrix as ``q4_k_m`` has it, of which every second layer has the larger type in some parts."""
    import gguf  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    kind = next((kind for part, kind in WIDE.items() if f"{part}." in name), "Q4_K")
    if name.startswith("blk.") and int(name.split(".")[1]) % 2:
        kind = "Q4_K"
    if values.shape[1] % 256:
        own = gguf.GGMLQuantizationType[INSTEAD[kind]]
        return gguf.quants.quantize(values, own), own
    own = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[own]
    data = np.random.default_rng(0).integers(0, 256, size=(values.size // block, size), dtype=np.uint8)
    for start in (208,) if kind == "Q6_K" else (0, 2):
        data[:, start : start + 2] = np.array([0.0001], dtype=np.float16).view(np.uint8)
    return data.reshape(len(values), -1), own


def _own_memory() -> float:
    """Resident memory of this process in MiB, without files that it reads."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = {
        name: int(said.split()[0]) for name, _, said in (line.partition(":") for line in lines) if "Rss" in name
    }
    return (kibibytes["RssAnon"] + kibibytes["RssShmem"]) / 1024


def _in_process(kind: str, where: Path, threads: int) -> Any:
    command = [sys.executable, "-m", "treeagent.backends.bench.weight_files", "--threads", str(threads)]
    done = subprocess.run(  # noqa: S603  # no shell
        [*command, "--one", kind, str(where)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
