"""Writes the batches that show findings as files that `fib eval` reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from fibdsl.diagnostics.diagnostic import Diagnostic

if TYPE_CHECKING:
    from fibc.analysis.witnesses.witness import Witness


def write(witnesses: Mapping[str, Witness], folder: str) -> dict[str, str]:
    """Writes FOLDER/OBJECTIVE.PROPERTY.safetensors for each witness; returns the paths.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    from fibdsl.files import write_tensors

    Path(folder).mkdir(parents=True, exist_ok=True)
    written = {}
    for name, witness in witnesses.items():
        path = Path(folder) / f"{_in_a_name(witness.name)}.safetensors"
        write_tensors(path, witness.tensors)
        written[name] = str(path)
    return written


def _in_a_name(text: str) -> str:
    """The text with what file names do not hold left out: `restorative at token`, say."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")


def write_witnesses(findings: Iterable[Diagnostic], folder: str) -> dict[Witness, str]:
    """Writes FOLDER/SPEC.OBJECTIVE.PROPERTY.safetensors for each finding that has a witness, with
    `-2`, `-3` ... behind names that come again; returns the paths.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    written: dict[Witness, str] = {}
    names: set[str] = set()
    for found in findings:
        witness = found.witness
        if witness is None or witness in written:
            continue
        # numpy is imported here and nowhere before.
        from fibdsl.files import write_tensors

        stem = re.sub(r"[^\w.-]+", "_", PurePath(found.source.path).stem).strip("_") or "spec"
        name = plain = f"{stem}.{witness.name}"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.add(name)
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"{name}.safetensors"
        write_tensors(path, witness.tensors)
        written[witness] = str(path)
    return written
