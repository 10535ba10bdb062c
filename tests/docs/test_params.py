"""What docs/language.md shows of parameter files and schedules is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fibdsl
from fibdsl import schedules

ROOT = Path(__file__).resolve().parents[2]
[SECTION] = re.findall(
    r"^## Parameter sets and schedules\n(.*?)^## ",
    (ROOT / "docs" / "language.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_file_is_one(tmp_path: Path) -> None:
    [(spec, text)] = re.findall(r"^```yaml (\w+)\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    path = tmp_path / "values.yaml"
    path.write_text(text, encoding="utf-8")
    objective = fibdsl.load(spec, params=path)
    assert objective.params == {"c_plus": 0.15, "c_minus": 0.1, "epsilon": 0.015}
    assert objective.schedules == {"c_minus": schedules.linear(0.1, 0.05, 1000)}


def test_both_columns_of_the_table_say_the_same(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `(\{.*?\})` \| `(\w+\(.*?\))` \|", SECTION, re.MULTILINE)
    assert len(rows) == 4
    path = tmp_path / "values.yaml"
    for text, python in rows:
        path.write_text(f"epsilon: {text}", encoding="utf-8")
        found = fibdsl.load("ppo", params=path).schedules["epsilon"]
        assert found == eval(python, vars(schedules))


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [source] = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    # Eagerly: what is tested here is the text, not Inductor.
    exec(source.replace(".compile()", ".compile(backend=None)"), {})
    [said] = re.findall(r"print\(.*\)  # (.+)", source)
    assert capsys.readouterr().out.strip() == said
