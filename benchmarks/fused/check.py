"""How long `fib check` takes, by the benchmark of its own (benchmarks/check_speed.py)."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import TypedDict

from benchmarks import check_speed


class CheckTime(TypedDict):
    """Seconds of `fib check` of one spec, and that over `python -c "import lark, pydantic"`."""

    seconds: float
    over_imports: float


def check_time(runs: int) -> CheckTime:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = Path(folder, "check.json")
        check_speed.main(["--runs", str(runs), "--json", str(out)])
        found = json.loads(out.read_text(encoding="utf-8"))
    seconds = {line["name"]: line["median"] for line in found["seconds"]}
    return {
        "seconds": seconds["fib check, one spec"],
        "over_imports": found["one spec / imports"],
    }
