"""What was measured, for docs/objectives.md: `results.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.trainers.case import Case
from tests.trainers.results import Error

RECORD = Path(__file__).with_name("results.json")


def entry(case: Case) -> dict[str, Any]:
    """What a case says, without what was measured."""
    return {
        "id": case.id,
        "trainer": case.trainer,
        "loss": case.loss,
        "setting": case.setting,
        "about": case.about,
        "options": dict(case.options),
        "spec": case.spec,
        "params": dict(case.params),
        "statements": list(case.statements),
        "note": case.note,
    }


def measured(error: Error) -> dict[str, float]:
    """Relative errors, rounded up to a power of ten, so that they are the same everywhere."""
    return {"loss_error": _power(error.loss), "gradient_error": _power(error.gradient)}


def _power(error: float) -> float:
    return float(f"1e{max(-15, math.ceil(math.log10(error)))}") if error > 0 else 1e-15


def write(versions: dict[str, str], cases: Iterable[dict[str, Any]]) -> None:
    text = json.dumps({"versions": versions, "cases": list(cases)}, indent=1)
    RECORD.write_text(text + "\n", encoding="utf-8")


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found
