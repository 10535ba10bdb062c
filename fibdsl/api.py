"""The functions of the Python interface: load a spec, check specs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fibc import driver
from fibdsl.diagnostics.diagnostic import Diagnostic, Diagnostics, closest, nearest
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.rules import PROMISES
from fibdsl.objective import Objective
from fibdsl.parameters import Assignment, Value
from fibdsl.resources import shipped_specs
from fibdsl.source import Source

if TYPE_CHECKING:
    from fibdsl.runtime.loss import FusedLoss


def load(
    path: str | Path,
    /,
    *,
    objective: str | None = None,
    params: Mapping[str, Value] | str | Path | None = None,
    promises: bool = True,
    **values: Value,
) -> Objective:
    """Loads and checks a spec.

    Args:
        path: a `.fib` file, or the name of a shipped spec (`fib specs` lists them).
        objective: which one, where the file holds several.
        params: values of the objective's parameters, numbers or schedules (`fibdsl.schedules`), by
            name; or a YAML file of them (docs/language.md). A file is read here, and by no function
            of its own: what may stand in it is known with the spec, and what is wrong with it is
            then said with its line.
        **values: values that win over those of `params`. The others have their defaults.
        promises: whether a `require` that is not proved is an error. Without, `broken_promises`
            of the objective has the findings, so that a witness can be evaluated.

    Raises:
        FibError: the spec or a value is wrong; `diagnostics` has every finding.
        OSError: a file cannot be read.
    """
    return loaded(read_source(path), objective, Assignment.of(params, values), promises)


def load_text(
    text: str,
    /,
    *,
    objective: str | None = None,
    path: str = "<string>",
    promises: bool = True,
    **values: Value,
) -> Objective:
    """Like `load`, from the text of a spec."""
    return loaded(Source(path, text), objective, Assignment(None, values), promises)


def check(
    *paths: str | Path, params: Mapping[str, Value] | str | Path | None = None
) -> list[Diagnostic]:
    """Every finding about these files (or, for a folder, the `.fib` files below it).

    Args:
        params: values as in `load`, at which promises are decided, for every objective that
            declares them. Lints are about the defaults all the same.

    Raises:
        OSError: a path cannot be read.
        ValueError: a folder without specs.
    """
    checked = [driver.check(read_source(file)) for file in spec_files(*paths)]
    return findings(checked, Assignment.of(params, {}))


def findings(files: Sequence[driver.Checked], assignment: Assignment) -> list[Diagnostic]:
    """Every finding about these files. What is assigned comes after the errors of specs, and
    promises after it: they are decided once there are values to decide them at.

    Raises:
        OSError: a file of values cannot be read.
    """
    if assignment.empty:
        return [d for checked in files for d in checked.diagnostics]
    others = [[d for d in c.diagnostics if d.code not in PROMISES] for c in files]
    if any(d.severity == "error" for found in others for d in found):
        return [d for found in others for d in found]
    plain = [Objective(c, typed, typed.defaults, False) for c in files for typed in c.objectives]
    try:
        objectives = assignment.applied(plain)
    except FibError as error:
        return [*(d for found in others for d in found), *error.diagnostics]
    found = []
    for checked, kept in zip(files, others, strict=True):
        together = Diagnostics(checked.source)
        together.found += kept
        for objective in objectives:
            if objective.checked is checked:
                together.found += objective.broken_promises
        found += together.in_order()
    return found


def spec_files(*paths: str | Path) -> list[Path]:
    """The files named, and for each folder the `.fib` files below it, in order.

    Raises:
        ValueError: a folder without specs.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(_specs_below(path)) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: no .fib file in this folder")
        files += inside
    return files


def _specs_below(top: Path) -> Iterator[Path]:
    """Specs in a folder and the folders below it, except hidden ones: `.git`, `.venv`."""
    for folder, inside, names in os.walk(top):
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(folder) / name for name in names if name.endswith(".fib"))


def compile(path: str | Path, *, backend: str | None = "inductor", **values: Value) -> FusedLoss:
    """`load(path, **values).compile(backend)`."""
    return load(path, params=values).compile(backend=backend)


def read_source(path: str | Path) -> Source:
    """The text of a file, or of the shipped spec of that name if there is no such file.

    Raises:
        OSError: neither can be read, or the file is not UTF-8 text.
    """
    file = Path(path)
    if not file.is_file() and file.name in shipped_specs() and str(file) == file.name:
        file = shipped_specs()[file.name]
    try:
        return Source(str(file), file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise OSError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except FileNotFoundError as error:
        near = closest(file.name, shipped_specs()) if str(file) == file.name else None
        if near is None:
            raise
        missing = f"{error.strerror}; the nearest shipped spec is `{near}`"
        raise FileNotFoundError(error.errno, missing, str(file)) from None


def loaded(source: Source, name: str | None, assignment: Assignment, promises: bool) -> Objective:
    """What `load` makes of a text."""
    checked = driver.check(source)
    choices = {o.name: o for o in checked.objectives}
    if name is None and len(choices) == 1:
        name = next(iter(choices))
    # Where there are values, promises are decided at these, below.
    later = None if assignment.empty else name
    errors = [
        d
        for d in checked.diagnostics
        if d.severity == "error"
        and (d.code not in PROMISES or (promises and (later is None or d.about != later)))
    ]
    if errors:
        raise FibError(errors)
    if name not in choices:
        asked = f"no objective `{name}` in this file"
        if not name:
            several = "several objectives" if choices else "no objective, only gates"
            asked = f"this file has {several}"
        found = Diagnostics(source)
        found.add("FIB004", asked, None, nearest(name or "", choices))
        raise FibError(found.found)
    objective = Objective(checked, choices[name], choices[name].defaults, promises)
    if assignment.empty:
        return objective
    [changed] = assignment.applied([objective])
    return changed
