"""Wrong files of values: what `fib check SPEC --params FILE` prints for each is its golden;
`--update-goldens` rewrites them. The first word of a file's name is that of its spec."""

from pathlib import Path

import pytest

import fibdsl
from fibdsl import Diagnostic, FibError
from fibdsl.cli.main import main

BAD = Path(__file__).parent / "bad_params"
NAMES = sorted(path.stem for path in BAD.glob("*.yaml"))


def spec_of(name: str) -> str:
    return f"{name.partition('_')[0]}.fib"


@pytest.mark.parametrize("name", NAMES)
def test_golden(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(BAD)
    status = main(["check", spec_of(name), "--params", f"{name}.yaml"])
    output = f"{capsys.readouterr().out}exit status: {status}\n"
    golden = BAD / f"{name}.golden"
    if request.config.getoption("--update-goldens"):
        golden.write_text(output, encoding="utf-8")
    assert output == golden.read_text(encoding="utf-8")
    assert status == 1


def test_every_golden_has_its_file() -> None:
    assert sorted(path.stem for path in BAD.glob("*.golden")) == NAMES


def findings(name: str) -> list[Diagnostic]:
    return fibdsl.check(BAD / spec_of(name), params=BAD / f"{name}.yaml")


# What to find where, counted by hand in the files.
AT = [
    ("one_unknown_name", [("FIB107", 1, 1), ("FIB107", 2, 1)]),
    ("one_no_number", [("FIB107", 1, 4), ("FIB107", 2, 10)]),
    ("one_no_value", [("FIB107", 1, 1), ("FIB107", 2, 10)]),
    ("one_not_finite", [("FIB107", 1, 4), ("FIB107", 2, 10)]),
    ("one_yaml_numbers", [("FIB107", 2, 4), ("FIB107", 3, 10)]),
    ("one_out_of_range", [("FIB403", 1, 4), ("FIB403", 2, 10)]),
    ("one_wrong_space", [("FIB301", 1, 25), ("FIB107", 2, 31)]),
    ("one_twice", [("FIB107", 3, 1)]),
    ("one_twice_a_step", [("FIB107", 1, 36)]),
    ("one_two_forms", [("FIB107", 1, 1), ("FIB107", 2, 1)]),
    ("one_unknown_form", [("FIB107", 1, 6), ("FIB107", 2, 12), ("FIB107", 2, 42)]),
    ("one_form_of_a_number", [("FIB107", 1, 14), ("FIB107", 2, 23)]),
    ("one_no_steps", [("FIB107", 1, 42), ("FIB107", 2, 48)]),
    ("one_steps_are_whole", [("FIB107", 1, 27), ("FIB107", 1, 38), ("FIB107", 1, 47)]),
    ("one_no_step_0", [("FIB107", 1, 6)]),
    ("one_leaves_the_range", [("FIB403", 1, 31), ("FIB403", 5, 9), ("FIB403", 6, 9)]),
    ("one_an_alias", [("FIB107", 2, 10)]),
    ("one_not_yaml", [("FIB107", 2, 10)]),
    ("one_a_list", [("FIB107", 1, 1)]),
    ("one_control_character", [("FIB107", 1, 7)]),
    ("one_another_objective", [("FIB107", 2, 1)]),
    ("one_everything", [("FIB403", 2, 15), ("FIB301", 2, 25), ("FIB107", 3, 14),
                        ("FIB107", 3, 30), ("FIB107", 4, 3)]),
    ("two_in_each", [("FIB403", 1, 19)]),
    ("two_an_objective_without_values", [("FIB107", 1, 8)]),
    ("two_of_none", [("FIB107", 1, 1), ("FIB107", 2, 10)]),
    ("two_objective_and_name", [("FIB107", 2, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "places"), AT)
def test_place(name: str, places: list[tuple[str, int, int]]) -> None:
    found = findings(name)
    assert [(d.code, d.line, d.column) for d in found] == places
    assert {Path(d.source.path).name for d in found} == {f"{name}.yaml"}


def test_a_promise_is_broken_at_the_step_where_it_is() -> None:
    """c + epsilon is above 0.5 after step 50, where c is 0.25, until epsilon jumps at 80."""
    [found] = findings("one_breaks_a_promise")
    assert (found.code, found.line, Path(found.source.path).name) == ("FIB501", 13, "one.fib")
    assert found.notes[-1].startswith("with c = 0.2")
    assert found.notes[-1].endswith(", epsilon = 0.25, at step 79")


def test_several_objectives_take_what_they_declare() -> None:
    # exp(0.9) = 2.46
    for name in ("two_of_both", "two_in_one"):
        [found] = findings(name)
        assert (found.code, found.line) == ("FIB501", 23)
    path = BAD / "two.fib"
    second = fibdsl.load(path, objective="second", params=BAD / "two_of_both.yaml", c=0.5)
    assert second.params == {"epsilon": 0.3, "c": 0.5}


def test_one_of_two_objectives() -> None:
    """What is not for it is a mistake, and so is a file in which nothing is."""
    for name, message in (
        ("two_of_both", "objective `first` has no parameter `c`"),
        ("two_in_one", "there is nothing about objective `first` in this file"),
    ):
        with pytest.raises(FibError) as error:
            fibdsl.load(BAD / "two.fib", objective="first", params=BAD / f"{name}.yaml")
        [found] = error.value.diagnostics
        assert (found.code, found.message) == ("FIB107", message)


def test_values_that_are_wrong_are_refused_by_load() -> None:
    with pytest.raises(FibError) as error:
        fibdsl.load(BAD / "one.fib", params=BAD / "one_everything.yaml", promises=False)
    assert list(error.value.diagnostics) == findings("one_everything")
