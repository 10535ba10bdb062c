"""Finds the data folders (grammar, specs) in a wheel and in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fibdsl.runtime import RUNTIME


def folder(name: str) -> Path:
    """The folder `name`: inside the installed package, else beside it in a checkout.

    Raises:
        FileNotFoundError: neither exists; the installation is broken.
    """
    package = Path(str(files("fibdsl")))
    for place in (package / name, package.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"fibdsl's {name!r} folder is missing beside {package}; reinstall fibdsl"
    )


def shipped_specs() -> dict[str, Path]:
    """The shipped objectives: name (the file's stem) to path, in alphabetical order."""
    return {path.stem: path for path in sorted(folder("specs").glob("*.fib"))}


def runtime_sources() -> list[str]:
    """The files of the runtime that are copied into every generated module, in order."""
    runtime = Path(str(files("fibdsl"))) / "runtime"
    return [(runtime / f"{name}.py").read_text(encoding="utf-8") for name in RUNTIME]
