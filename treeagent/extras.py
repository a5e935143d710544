"""Extras: optional sets of libraries, and the one line that says how to install one that is missing.

Which library belongs to which extra is read from the metadata of the installed distribution, so ``pyproject.toml`` is
the only place that lists them, and extras of plug-in packages work alike.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from .errors import MissingExtraError

_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*;.*\bextra\s*==\s*['\"]([\w.-]+)['\"]")
"""A line of the metadata such as ``torch<2.14,>=2.6; extra == "local"``: the library and its extra."""


def require(what: str, *libraries: str) -> None:
    """Check that optional libraries are installed, without importing them.

    ``what`` needs them, as in ``option --plot``. A library inside a namespace is called as its distribution is:
    ``opentelemetry-sdk``. Raises MissingExtraError.
    """
    missing = [library for library in libraries if not _is_installed(library)]
    if missing:
        raise missing_extra(what, missing) or MissingExtraError(f"{what} needs {' and '.join(missing)}")


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library.replace("-", ".")) is not None
    except ModuleNotFoundError:  # not even the namespace is there
        return False


def from_import_error(what: str, error: ImportError, distribution: str | None = None) -> MissingExtraError | None:
    """The error to raise where importing ``what`` failed for want of a library of an extra; None for other reasons.

    ``distribution`` is the package that ``what`` comes from; its extras are looked at before those of treeagent.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    library = error.name.partition(".")[0]
    return missing_extra(what, [library], distribution or "treeagent") or missing_extra(what, [library])


def missing_extra(what: str, libraries: list[str], distribution: str = "treeagent") -> MissingExtraError | None:
    """The error that names the extra of these libraries; None when no extra of the distribution has the first."""
    extra = _extras(distribution).get(_normal(libraries[0]))
    if extra is None:
        return None
    missing = f"{' and '.join(libraries)}, which {'is' if len(libraries) == 1 else 'are'} not installed"
    return MissingExtraError(f"{what} needs {missing}. Run: {install_command(extra, distribution)}")


def install_command(extra: str, distribution: str = "treeagent") -> str:
    """The pip command that adds an extra: from the folder the distribution was installed from, else by its name."""
    source, editable = _source(distribution)
    return f"{_pip()} install {'-e ' if editable else ''}'{source}[{extra}]'"


def _extras(distribution: str) -> dict[str, str]:
    """The extra of each optional library of a distribution; the first that lists it."""
    extras: dict[str, str] = {}
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return {}
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            extras.setdefault(_normal(match[1]), match[2])
    return extras


def _normal(name: str) -> str:
    """A distribution's name as a module's."""
    return re.sub(r"[-.]+", "_", name).lower()


def _source(distribution: str) -> tuple[str, bool]:
    """What pip is to install, and whether the installation is an editable one (PEP 610)."""
    from urllib.request import url2pathname  # noqa: PLC0415  slow to import, and needed for this message only

    records = (each.read_text("direct_url.json") for each in metadata.distributions(name=distribution))
    record = json.loads(next((text for text in records if text), "{}"))
    address = urlsplit(record.get("url", ""))
    path = Path(url2pathname(address.path))
    if address.scheme != "file" or not path.exists():
        return distribution, False
    return "." if path == Path.cwd() else str(path), bool(record.get("dir_info", {}).get("editable"))


def _pip() -> str:
    """How the pip of this Python is called from this folder."""
    folder = Path(sys.executable).parent
    name = "pip.exe" if sys.platform == "win32" else "pip"
    if (active := shutil.which("pip")) and Path(active).parent == folder:
        return "pip"
    pip = folder / name
    if not pip.exists():
        return f"{sys.executable} -m pip"
    return str(pip.relative_to(Path.cwd()) if pip.is_relative_to(Path.cwd()) else pip)
