"""The kernels of this folder as a library, compiled at first use and kept in the cache folder.

The compiler ($CC, cc, gcc or clang) reads files without headers of Python or torch. OpenMP's functions stay open
in the library and are those that torch has loaded, so that both use one set of threads. Where anything is missing,
:class:`NoKernels` says what, and callers use torch instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...models.catalog import cache_folder

_EXACT = ("-ffp-contract=off",)
UNITS = {
    **{"decoder.c": (), "ngram.c": _EXACT, "selection.c": _EXACT, "likeliest.c": ()},
    **{"multi_step.c": (), "token_draw.c": ()},
}
"""Files that are compiled, with flags of their own."""
HEADERS = tuple(
    f"{name}.h"
    for name in [
        *("attended_keys", "float_attention", "integer_attention", "rotation", "log_probabilities", "products"),
        *("steps", "structures", "ngram_table", "ngram_mixture", "fours"),
    ]
)
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
SWITCH = "TREEAGENT_KERNELS"
"""Environment variable: ``off`` turns the kernels off, and ``widen`` products in bfloat16."""

SECONDS = 120
"""Longest run of the compiler."""


class NoKernels(Exception):
    """The kernels cannot be used; the message says why."""


def load() -> ctypes.CDLL:
    """The library. Raises NoKernels."""
    if os.environ.get(SWITCH) == "off":
        raise NoKernels(f"{SWITCH}=off")
    library = _load(cache_folder() / "kernels")
    if isinstance(library, str):
        raise NoKernels(library)
    return library


def function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A short function of the library, with the types of what it returns and takes.

    It keeps Python's lock: another thread that took it meanwhile might keep it for milliseconds.
    """
    return ctypes.PYFUNCTYPE(result, *arguments)((name, library))


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """A short function of the library, and the types of what it returns and takes."""

    name: str
    result: Any
    arguments: tuple[Any, ...]


@cache
def optional(signature: Signature) -> Callable[..., Any] | None:
    """The :func:`function`; None where there is no library."""
    try:
        return function(load(), signature.name, signature.result, *signature.arguments)
    except NoKernels:
        return None


def multiplies_bfloat16(library: ctypes.CDLL) -> bool:
    """Whether pairs in bfloat16 are multiplied: the processor can (AVX512_BF16), and nobody asks to widen them."""
    return bool(library.bfloat16_products()) and os.environ.get(SWITCH) != "widen"


@cache
def _load(folder: Path) -> ctypes.CDLL | str:
    """The library, or why there is none."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        return "no C compiler"
    try:
        # the macros that are defined tell the compiler's version and the processor's instructions
        macros = _run([compiler, "-march=native", "-dM", "-E", "-x", "c", os.devnull])
        path = folder / f"{_digest(compiler, macros)}.so"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"failed with exit code {error.returncode} and without a word"]
        return f"{compiler}: {said[-1]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"


def _digest(compiler: str, macros: str) -> str:
    digest = hashlib.sha256(f"{compiler} {FLAGS} {UNITS} {macros}".encode())
    for name in (*UNITS, *HEADERS):
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:24]


def _compile(compiler: str, path: Path) -> None:
    """Compile and link in a folder beside ``path``, so that another process never sees half a library."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole, parts = Path(folder, path.name), []
        for name, flags in UNITS.items():
            parts.append(str(Path(folder, f"{name}.o")))
            _run([compiler, *FLAGS, *flags, "-c", str(Path(__file__).parent / name), "-o", parts[-1]])
        _run([compiler, "-shared", *parts, "-o", str(whole), "-lm"])
        whole.replace(path)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)  # noqa: S603  # no shell
    return done.stdout
