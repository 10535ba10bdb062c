"""How long `fib check` takes, as a whole process, beside the imports it cannot do without.

Goals on the machine the project is built on (2 cores): one spec in 0.35 s and in 2.5 times
`python -c "import lark, pydantic"`; 200 specs in 2 s. Runs are interleaved, so that what else the
machine does hits all of them; what is printed are medians. Run it by `make bench-check`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from fibdsl.resources import shipped_specs

_SPECS = 200


@dataclass(frozen=True)
class Line:
    """One measurement: seconds, and the goal where there is one."""

    name: str
    median: float
    fastest: float
    goal: float | None

    def __str__(self) -> str:
        verdict = "" if self.goal is None else "met" if self.median <= self.goal else "NOT MET"
        goal = "" if self.goal is None else f"<= {self.goal:.2f}"
        return f"{self.name:<42}{self.median:>8.3f}{self.fastest:>8.3f}  {goal:<9}{verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder)
        for number, path in enumerate(islice(cycle(shipped_specs().values()), _SPECS)):
            (many / f"{number}.fib").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        refuted = many / "refuted"
        refuted.mkdir()
        text = shipped_specs()["fiberpo"].read_text(encoding="utf-8")
        text = text.replace("[0.70, 1.40]", "[0.9, 1.1]")
        (refuted / "refuted.fib").write_text(text, encoding="utf-8")
        check = [sys.executable, "-m", "fibdsl", "check"]
        commands: dict[str, tuple[list[str], float | None]] = {
            "python -c pass": ([sys.executable, "-c", "pass"], None),
            "python -c 'import lark, pydantic'": (
                [sys.executable, "-c", "import lark, pydantic"],
                None,
            ),
            "fib check, one spec": ([*check, "fiberpo"], 0.35),
            "fib check, one spec of four levels": ([*check, "fiberpo_domain"], 0.35),
            "fib check, one spec with a refuted promise": ([*check, str(refuted)], None),
            f"fib check, {_SPECS} specs": (
                [*check, *(str(f) for f in sorted(many.glob("*.fib")))],
                2.0,
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.runs):
            for name, (command, _goal) in commands.items():
                start = time.perf_counter()
                subprocess.run(command, capture_output=True, check=False)
                times[name].append(time.perf_counter() - start)
    lines = [
        Line(name, statistics.median(times[name]), min(times[name]), goal)
        for name, (_, goal) in commands.items()
    ]
    base, one = lines[1].median, lines[2].median
    print(f"{'seconds, whole process':<42}{'median':>8}{'fastest':>8}  goal")
    print("\n".join(map(str, lines)))
    print(f"one spec / the imports: {one / base:.2f} (goal <= 2.5)")
    if options.json:
        result = {
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "runs": options.runs,
            "seconds": [asdict(line) for line in lines],
            "one spec / imports": round(one / base, 3),
        }
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15, help="of each command (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
