"""The wheel holds what the tree holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "treeagent": "treeagent",
    "strategies": "treeagent/strategies",
    "tasks": "treeagent/tasks",
    "backends": "treeagent/backends",
    "prompts": "treeagent/prompts",
}
"""Folder of the house, and where it is installed."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist, built from a copy of the tracked tree."""
    out = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("tree") / "treeagent"
    for file in _tree():
        target = copy / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / file).read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def _tree() -> list[Path]:
    """Every file of the package folders, caches aside."""
    return [
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_the_wheel_holds_every_file_of_the_tree_and_nothing_else(built: Path) -> None:
    """A subpackage or data file left out of the map would work when editable and be missing when installed."""
    [wheel] = built.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {str(Path(FOLDERS[path.parts[0]], *path.parts[1:])) for path in _tree()}
    assert inside == expected


def test_the_wheel_is_small_enough_to_travel(built: Path) -> None:
    """The bundled models stay within their 20 MB."""
    [wheel] = built.glob("*.whl")
    assert wheel.stat().st_size < 20_000_000


@pytest.mark.exhaustive
def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """What a packager builds from the sdist is what we ship."""
    [sdist] = built.glob("*.tar.gz")
    [wheel] = built.glob("*.whl")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(sdist),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [again] = tmp_path.glob("*.whl")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
