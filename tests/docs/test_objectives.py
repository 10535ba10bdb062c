"""docs/objectives.md is made of the shipped specs, which are short and say where they come from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fibdsl.objectives_page import page
from fibdsl.resources import shipped_specs
from fibdsl.shipped import Family, shipped

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "objectives.md"
RECORD = ROOT / "tests" / "trainers" / "results.json"
OBJECTIVES = {objective.name: objective for objective in shipped()}


def recorded() -> Any:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else None


def test_the_page_of_objectives_is_that_of_the_specs(request: pytest.FixtureRequest) -> None:
    text = page(OBJECTIVES.values(), recorded())
    if request.config.getoption("--update-goldens"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def test_every_shipped_spec_has_a_row_and_a_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(#(\w+)\) \|", text, re.MULTILINE)
    assert {name for name, _ in rows} == {anchor for _, anchor in rows} == set(shipped_specs())
    assert len(rows) == len(shipped_specs())
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert [name for name in sections if name in OBJECTIVES] == [name for name, _ in rows]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_most_twenty_lines(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.lines <= 20
    # Counted again, in the text.
    text = shipped_specs()[name].read_text(encoding="utf-8")
    [body] = re.findall(rf"^objective {name} .*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert objective.lines == body.count("\n") + 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_says_what_it_is(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.objective.name == name
    assert objective.title
    assert re.search(r"arXiv \d{4}\.\d{5}", objective.paper)
    assert objective.comment.endswith((".", ")"))
    assert not objective.comment.startswith("#")


def test_families() -> None:
    """By hand: what the term of each looks at."""
    found = {f: {name for name, o in OBJECTIVES.items() if o.family is f} for f in Family}
    assert found[Family.RATIO] >= {"ppo", "grpo", "dapo", "dr_grpo", "two_sided", "sapo", "spo"}
    assert found[Family.SCORE] >= {"reinforce", "tis", "cispo", "dro", "dppo_tv", "aspo"}
    assert found[Family.TRAJECTORY] >= {"gspo", "gmpo", "fiberpo", "topr", "vespo", "gspo_token"}
    assert found[Family.CELLS] == {
        "apc",
        "fiberpo_domain",
        "fiberpo_experts",
        "fiberpo_turns",
        "gepo",
    }


CASE = {
    "trainer": "trl",
    "loss": "grpo",
    "setting": "token",
    "about": "",
    "note": "one; two",
    "spec": "ppo",
    "loss_error": 1e-12,
    "gradient_error": 1e-9,
}


def test_parity() -> None:
    cases = [CASE, {**CASE, "setting": "sequence", "note": "two", "loss_error": 1e-15}]
    cases.append({**CASE, "setting": "sequence", "about": "beta", "spec": "grpo", "note": ""})
    results = {"versions": {"trl": "1.16.0"}, "cases": cases}
    some = [OBJECTIVES[name] for name in ("ppo", "grpo", "dapo")]
    text = page(some, results)
    assert "3 cases, with TRL 1.16.0." in text
    counts = re.findall(r"^\| \[`(\w+)`\].* \| ([^|]*) \|$", text, re.MULTILINE)
    assert counts == [("ppo", "TRL 2"), ("grpo", "TRL 1"), ("dapo", "–")]
    assert "| TRL | `grpo` | all 2 | 1e-12 | 1e-9 | one; two |" in text
    assert "| TRL | `grpo` | sequence; beta | 1e-12 | 1e-9 | |" in text


def test_without_a_record_there_are_dashes() -> None:
    text = page([OBJECTIVES["ppo"]])
    assert re.search(r"^\| \[`ppo`\].* \| – \|$", text, re.MULTILINE)
    assert "| trainer |" not in text


def test_it_needs_no_torch() -> None:
    code = "import sys; from fibdsl.cli.main import main; main(['specs', '--markdown']); "
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
