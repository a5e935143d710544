"""Join the folders of an evaluation's shards to the folder of the whole evaluation.

Everything is read and compared before anything is written, and the folders of the shards stay as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, JournalError
from .outcomes import Outcome, first_difference, read
from .run import FILE, JOURNALS, REPEATS, journal_name, open_outcomes
from .shards import Shard, absent

_MEASURED = (
    "seconds",
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "dollars",
    "early_hits",
    "early_misses",
    "early_tokens",
    "early_seconds",
    "judge_calls",
    "judge_prompt_tokens",
    "judge_completion_tokens",
)
"""What a resumed run or the load of a machine may change in an outcome; all else is determined by the settings."""


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """The folder of a shard, or of an evaluation of all problems."""

    path: Path
    shard: Shard | None
    settings: dict[str, Any]
    """Those of the whole evaluation: without the shard."""
    outcomes: dict[int, Outcome]

    @classmethod
    def read(cls, path: Path) -> ShardFolder:
        """Read a folder. Raises JournalError where it is none of an evaluation, or damaged."""
        file = path / FILE
        if not file.is_file():
            raise JournalError(f"{path} is no folder of an evaluation: there is no {FILE} in it")
        settings, outcomes, _ = read(file)
        text = settings.pop("shard", None)
        try:
            shard = None if text is None else Shard.parse(str(text))
            wanted = set(settings["data"]["rows"])
        except (ConfigError, KeyError, TypeError) as error:
            raise JournalError(f"{file}:1: the settings 'shard' or 'data.rows' are damaged") from error
        foreign = min(set(outcomes) - wanted, default=None)
        if foreign is not None:
            raise JournalError(f"{file}: problem {foreign} is none of the evaluation's; the file is damaged")
        return cls(path, shard, settings, outcomes)

    @property
    def wanted(self) -> set[int]:
        """Numbers of all problems of the evaluation."""
        return set(self.settings["data"]["rows"])

    @property
    def unfinished(self) -> set[int]:
        """Numbers of the folder's own problems without an outcome."""
        own = self.wanted if self.shard is None else self.shard.numbers(self.wanted)
        return own - set(self.outcomes)


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged evaluation and what it lacks."""

    settings: dict[str, Any]
    outcomes: list[Outcome]
    """In the order of the problems."""
    wanted: int
    notes: tuple[str, ...]
    """Missing shards, problems without an outcome, and shards that were given twice, each as a line."""

    @property
    def complete(self) -> bool:
        """Whether every problem was run and none failed."""
        return len(self.outcomes) == self.wanted and all(outcome.error is None for outcome in self.outcomes)


def merge(paths: Sequence[Path], out: Path) -> list[Merged]:
    """Join evaluations in ``out``; the first of the list, then each further repeat.

    ``out`` may hold some of it already. Raises ConfigError for a folder that is given twice, and JournalError for
    settings or answers that differ and for a folder that cannot be read; nothing is written then.
    """
    _check_places(paths, out)
    names = {folder.name for path in paths for folder in (path / REPEATS).glob("*") if (folder / FILE).is_file()}
    places = [Path(), *(Path(REPEATS, name) for name in sorted(names, key=lambda name: (len(name), name)))]
    joined: list[tuple[Path, list[ShardFolder], dict[int, tuple[Path, Outcome]]]] = []
    for place in places:
        known = [path / place for path in paths if place == Path() or (path / place / FILE).is_file()]
        folders = [ShardFolder.read(path) for path in known]
        kept = [ShardFolder.read(out / place)] if (out / place / FILE).is_file() else []
        joined.append((out / place, folders, _join([*folders, *kept])))
    return [_write(target, folders, chosen) for target, folders, chosen in joined]


def _check_places(paths: Sequence[Path], out: Path) -> None:
    """Raise ConfigError for a folder that is given twice, or as the result too."""
    places: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in places:
            raise ConfigError(f"the folder {path} is given twice: give each folder once")
        places[path.resolve()] = path
    if out.resolve() in places:
        raise ConfigError(f"--out: {out} is one of the folders to merge: give another one")


def _join(folders: Sequence[ShardFolder]) -> dict[int, tuple[Path, Outcome]]:
    """By number the outcome of every problem with its folder, a verdict before a failure. Raises JournalError."""
    first = folders[0]
    chosen: dict[int, tuple[Path, Outcome]] = {}
    for folder in folders:
        difference = first_difference(first.settings, folder.settings)
        if difference is not None:
            key, before, now = difference
            raise JournalError(
                f"{first.path} and {folder.path} are of different evaluations: {key} is {before} in the first and "
                f"{now} in the second"
            )
        for number, outcome in folder.outcomes.items():
            path, other = chosen.get(number, (folder.path, outcome))
            if other.error is None and outcome.error is None:
                _check_equal(path, other, folder.path, outcome)
            if number not in chosen or (other.error is not None and outcome.error is None):
                chosen[number] = folder.path, outcome
    return dict(sorted(chosen.items()))


def _check_equal(path: Path, outcome: Outcome, other_path: Path, other: Outcome) -> None:
    """Raise JournalError where two outcomes of one problem differ in more than what is measured."""
    first, second = asdict(outcome), asdict(other)
    for name in first:
        if name not in _MEASURED and first[name] != second[name]:
            raise JournalError(
                f"problem {outcome.number} ({outcome.input}) has two outcomes: its {name} is "
                f"{_short(first[name])} in {path} and {_short(second[name])} in {other_path}. Leave out one of the "
                "folders"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _write(out: Path, folders: Sequence[ShardFolder], chosen: dict[int, tuple[Path, Outcome]]) -> Merged:
    """Write what ``out`` does not hold yet, of each problem its journal first. Raises JournalError."""
    settings, wanted = folders[0].settings, folders[0].wanted
    with closing(open_outcomes(out, settings)) as store:
        try:
            (out / JOURNALS).mkdir(exist_ok=True)
            for number in sorted(wanted - set(chosen)):
                for folder in folders:
                    if not (out / JOURNALS / journal_name(number)).exists():
                        _place(folder.path, out, number, link=False)  # it grows where the evaluation continues
            for number, (path, outcome) in chosen.items():
                known = store.known.get(number)
                if path != out and (known is None or (known.error is not None and outcome.error is None)):
                    _place(path, out, number, link=outcome.error is None)
                    store.add(outcome)
        except OSError as error:
            raise JournalError(f"cannot write {error.filename2 or error.filename}: {error.strerror}") from error
    return Merged(settings, [outcome for _, outcome in chosen.values()], len(wanted), tuple(_notes(folders, chosen)))


def _place(path: Path, out: Path, number: int, *, link: bool) -> None:
    """Link or copy the journal of a problem, where there is one, over what is there. Raises OSError."""
    source, target = path / JOURNALS / journal_name(number), out / JOURNALS / journal_name(number)
    if not source.is_file():
        return
    partial = target.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    linked = False
    if link:
        with suppress(OSError, NotImplementedError):  # another file system, or one without links
            os.link(source, partial)
            linked = True
    if not linked:
        shutil.copyfile(source, partial)
    partial.replace(target)


def _notes(folders: Sequence[ShardFolder], chosen: dict[int, tuple[Path, Outcome]]) -> list[str]:
    """What a user should know of the shards."""
    wanted = folders[0].wanted
    notes = []
    seen: dict[Shard, Path] = {}
    for folder in folders:
        if folder.shard is not None and folder.shard in seen:
            notes.append(
                f"shard {folder.shard} is in {seen[folder.shard]} and in {folder.path}; their answers are equal"
            )
        elif folder.shard is not None:
            seen[folder.shard] = folder.path
    shards, left = absent(wanted, [folder.shard for folder in folders])
    left -= set(chosen)
    shards = [shard for shard in shards if shard.numbers(left)]
    if left and shards:
        names = ", ".join(map(str, shards[:8])) + (", ..." if len(shards) > 8 else "")
        notes.append(f"missing: {len(shards)} shard(s), {names}, with {len(left)} of {len(wanted)} problems")
    elif left:
        numbers = ", ".join(map(str, sorted(left)[:8])) + (", ..." if len(left) > 8 else "")
        notes.append(f"missing: {len(left)} of {len(wanted)} problems are in no folder: {numbers}")
    for folder in folders:
        if unfinished := folder.unfinished - set(chosen):
            notes.append(f"{folder.path} is not finished: {len(unfinished)} of its problems have no outcome yet")
    return notes
