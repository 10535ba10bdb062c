"""Where a `use` leads: the file that is meant, or what is wrong with its path."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

from fibdsl.diagnostics.diagnostic import closest, nearest
from fibdsl.resources import folder, shipped_specs

PACKAGED = "fibdsl:"
"""What the path of a shipped spec starts with."""

_ROOTS = ("pyproject.toml", ".git")
"""What the folder of a project has in it; nothing outside it is used."""

_MANY = 8
"""More names than these are not listed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file.

    Attributes:
        file: where it is; None for a text that is in no file.
        shown: how messages name it.
    """

    file: Path | None
    shown: str

    @staticmethod
    def of(path: str) -> Place:
        """The place of the file that is being checked."""
        try:
            file = Path(path).resolve() if Path(path).is_file() else None
        except (OSError, RuntimeError, ValueError):
            file = None
        return Place(file, path)

    @property
    def identity(self) -> str:
        return self.shown if self.file is None else str(self.file)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a path leads nowhere, and how to mend it."""

    message: str
    help: str


def find(path: str, here: Place) -> Place | Trouble:
    """The file that `use "path"` means in the file at `here`."""
    if path.startswith(PACKAGED):
        return _shipped(path.removeprefix(PACKAGED))
    if here.file is None:
        return Trouble(
            "this text is not in a file, so nothing is beside it",
            f'write it to a file, or use a shipped spec: `use "{PACKAGED}fiberpo.fib"`',
        )
    if not path:
        return Trouble("a path is missing", 'write `use "gates.fib"` for a file beside this one')
    try:
        return _beside(path, here, here.file.parent)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Trouble(f"`{path}` cannot be read: {reason}", "mend the path")


def _shipped(name: str) -> Place | Trouble:
    shipped = shipped_specs()
    stem = name.removesuffix(".fib")
    if stem in shipped and name.endswith(".fib"):
        return Place(shipped[stem].resolve(), f"{PACKAGED}{name}")
    if name == "":
        help = f'write `use "{PACKAGED}fiberpo.fib"`; `fib specs` lists them'
        return Trouble("the name of a shipped spec is missing", help)
    close = closest(name, [f"{spec}.fib" for spec in shipped])
    help = f"did you mean `{PACKAGED}{close}`?" if close else "`fib specs` lists them"
    return Trouble(f"no shipped spec is called `{name}`", help)


def _beside(path: str, here: Place, start: Path) -> Place | Trouble:
    meant = (start / path).resolve()
    inside = meant.is_relative_to(_root(start))
    if path.startswith("~") or Path(path).is_absolute():
        relative = Path(os.path.relpath(meant, start)).as_posix()
        return Trouble(
            f"`{path}` is a path of this machine",
            f'write `use "{relative}"`'
            if inside and not path.startswith("~")
            else 'write a path from this file, as in `use "gates.fib"`',
        )
    if not inside:
        return Trouble(
            f"`{path}` lies outside the project",
            f"copy it into the project, the nearest folder above with a {' or a '.join(_ROOTS)}",
        )
    if meant.is_dir():
        file = next((p.name for p in _specs_in(meant)), "gates.fib")
        return Trouble(
            f"`{path}` is a folder",
            f'name a file in it, as in `use "{posixpath.join(path, file)}"`',
        )
    if not meant.is_file():
        return Trouble(f"there is no file `{path}`", _near(path, meant, here))
    if meant.is_relative_to(folder("specs").resolve()):
        return Place(meant, f"{PACKAGED}{meant.name}")
    return Place(meant, os.path.normpath(os.path.join(os.path.dirname(here.shown), path)))


def _near(path: str, meant: Path, here: Place) -> str:
    """What a path to no file was perhaps meant to be."""
    if "\\" in path:
        return "write `/` between folders"
    name = posixpath.basename(path)
    word, colon, rest = path.partition(":")
    if colon and closest(f"{word}:", [PACKAGED]):
        return f"did you mean `{PACKAGED}{rest}`?"
    shipped = [f"{spec}.fib" for spec in shipped_specs()]
    if path in shipped:
        return f'write `use "{PACKAGED}{path}"` for the shipped spec'
    if not meant.parent.is_dir():
        return f"there is no folder `{posixpath.dirname(path)}` beside this file"
    files = [p.name for p in _specs_in(meant.parent) if p != here.file]
    close = f"{name}.fib" if f"{name}.fib" in files else closest(name, files)
    if close is not None:
        return f"did you mean `{posixpath.join(posixpath.dirname(path), close)}`?"
    close = closest(path, shipped)
    if close is not None:
        return f"did you mean `{PACKAGED}{close}`?"
    if 0 < len(files) <= _MANY:
        return nearest(name, files)
    return "give its path from the folder of this file"


def _specs_in(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("*.fib")) if path.is_file()]


def _root(start: Path) -> Path:
    """The folder of the project that a folder is in; itself if it is in none."""
    for place in (start, *start.parents):
        if any((place / name).exists() for name in _ROOTS):
            return place
    return start
