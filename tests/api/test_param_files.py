"""Files of parameter values: every way to write a value, any name, whose a mapping is. What is
wrong with files is in tests/bad_params."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import fibdsl
from fibdsl import FibError
from fibdsl.schedules import cosine, linear, piecewise, piecewise_linear

SPEC = """\
objective %s {
  param a : log  = 0.1 in (0, 1)
  param f : pure = 2 in (-inf, inf)
  signal log_ratio
  levels token < trajectory
  at token { base clip(a) }
  reduce mean over token
}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "values.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, spec: str = SPEC % "o", **options: Any) -> fibdsl.Objective:
    path = folder / "spec.fib"
    path.write_text(spec, encoding="utf-8")
    return fibdsl.load(path, params=written(folder, text), **options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f: 3", 3.0),
        ("f: -3", -3.0),
        ("f: +0.5", 0.5),
        ("f: .5", 0.5),
        ("f: 5.", 5.0),
        ("f: 1e-3", 0.001),
        ("f: 1E3", 1000.0),
        ("f: 010", 10.0),
        ("f: 0.30000000000000004  # a comment", 0.1 + 0.2),
        ("f: 123456789012345678901234567890", 123456789012345678901234567890.0),
        ('"f": 3', 3.0),
        ("{f: 3}", 3.0),
        ("---\nf: 3\n", 3.0),
        ("\ufefff: 3", 3.0),
        ("f: { value: 3 }", 3.0),
        ("f:\n  value: 3\n  space: pure\n", 3.0),
        ("f: { space: 'pure', value: 3 }", 3.0),
    ],
)
def test_numbers(tmp_path: Path, text: str, value: float) -> None:
    objective = loaded(tmp_path, text)
    assert (objective.params, objective.schedules) == ({"a": 0.1, "f": value}, {})
    assert type(objective.params["f"]) is float


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("linear: { from: 0.3, to: 0.1, over: 1000 }", linear(0.3, 0.1, 1000)),
        ("cosine: { over: 10, to: 0.1, from: 0.3 }", cosine(0.3, 0.1, 10)),
        ("piecewise: { 0: 0.3, 500: 1e-1 }", piecewise({0: 0.3, 500: 0.1})),
        ("piecewise: { 500: 0.1, 0: 0.3 }", piecewise({0: 0.3, 500: 0.1})),
        (
            "piecewise_linear: { 0: 0.3, 5: 0.2, 9: 0.1 }",
            piecewise_linear({0: 0.3, 5: 0.2, 9: 0.1}),
        ),
        ("{ linear: { from: 0.3, to: 0.1, over: 1000 }, space: log }", linear(0.3, 0.1, 1000)),
    ],
)
def test_schedules(tmp_path: Path, text: str, schedule: fibdsl.schedules.Schedule) -> None:
    text = text if text.startswith("{") else f"{{ {text} }}"
    objective = loaded(tmp_path, f"a: {text}")
    assert objective.schedules == {"a": schedule}
    assert objective.params == {"a": 0.3, "f": 2.0}


def test_a_path_is_a_text_or_a_path(tmp_path: Path) -> None:
    path = written(tmp_path, "epsilon: 0.01")
    for given in (path, str(path), os.fspath(path)):
        assert fibdsl.load("fiberpo", params=given).params["epsilon"] == 0.01
    assert fibdsl.load("fiberpo", params=path, epsilon=0.02).params["epsilon"] == 0.02
    assert fibdsl.load("fiberpo", params=path, c_plus=linear(0.2, 0.1, 9)).schedules
    assert fibdsl.check("fiberpo", params=path) == []
    assert fibdsl.check("fiberpo", params={"epsilon": 0.01}) == []
    assert [d.code for d in fibdsl.check("fiberpo", params={"c_plus": 0.9})] == ["FIB501"]


NAMES = [
    *("value", "space", "linear", "cosine", "piecewise", "p0", "o_"),
    *(
        "_a",
        "__a",
        "model_config",
        "model_fields",
        "copy",
        "json",
        "class",
        "lambda",
        "self",
        "true",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_parameter(tmp_path: Path, name: str) -> None:
    spec = (SPEC % "o").replace("param a ", f"param {name} ").replace("clip(a)", f"clip({name})")
    for text in (f"{name}: 0.25", f"{name}: {{ value: 0.25 }}", f"o: {{ {name}: 0.25 }}"):
        assert loaded(tmp_path, text, spec).params == {name: 0.25, "f": 2.0}
    scheduled = loaded(tmp_path, f"{name}: {{ linear: {{ from: 0.3, to: 0.1, over: 9 }} }}", spec)
    assert scheduled.schedules.keys() == {name}


def test_whose_a_mapping_is(tmp_path: Path) -> None:
    spec = SPEC % "o" + SPEC % "a"
    by_objective = "o: { a: 0.25 }\na: { f: 3 }\n"
    # `a` is an objective and a parameter: what `o` is decides.
    assert loaded(tmp_path, by_objective, spec, objective="o").params == {"a": 0.25, "f": 2}
    assert loaded(tmp_path, by_objective, spec, objective="a").params == {"a": 0.1, "f": 3}
    assert loaded(tmp_path, "a: 0.25", spec, objective="o").params["a"] == 0.25
    assert loaded(tmp_path, "o: {}", spec, objective="o").params == {"a": 0.1, "f": 2}
    with pytest.raises(FibError, match="nothing about objective `a`"):
        loaded(tmp_path, "o: {}", spec, objective="a")


def test_a_wrong_entry_of_another_objective_is_found_too(tmp_path: Path) -> None:
    spec = SPEC % "first" + SPEC % "second"
    with pytest.raises(FibError) as error:
        loaded(tmp_path, "first: { a: 0.2 }\nsecond: { a: 2, g: 1 }\n", spec, objective="first")
    found = [(d.code, d.line, d.column) for d in error.value.diagnostics]
    assert found == [("FIB403", 2, 14), ("FIB107", 2, 17)]


def test_everything_at_once(tmp_path: Path) -> None:
    with pytest.raises(FibError) as error:
        loaded(tmp_path, "a: 2\n", f=True, g=1)
    found = [(d.code, Path(d.source.path).name, d.line) for d in error.value.diagnostics]
    assert sorted(found) == [
        ("FIB107", "spec.fib", 1),
        ("FIB107", "spec.fib", 1),
        ("FIB403", "values.yaml", 1),
    ]


def test_depth_and_size_are_no_matter(tmp_path: Path) -> None:
    pieces = ", ".join(f"{n}: 0.{n % 9 + 1}" for n in range(300))
    objective = loaded(tmp_path, f"a: {{ piecewise: {{ {pieces} }} }}")
    assert objective.at_step(250).params["a"] == pytest.approx(0.8)
    for depth in (100, 5000):
        with pytest.raises(FibError):
            loaded(tmp_path, f"a: {'[' * depth}{']' * depth}")
