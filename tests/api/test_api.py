"""The Python interface: loading, parameters, findings, and what importing it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fibdsl
from fibdsl import Diagnostic, FibError
from fibdsl.resources import shipped_specs

ONE = """\
objective %s {
  doc   "%s"
  param a : log = 0.1 in (0, 1)
  signal log_ratio
  levels token < trajectory
  at token { base clip(a) pessimistic }
  reduce mean over token
}
"""
GOOD = ONE % ("small", "one gate")
BAD = GOOD.replace("clip(a)", "clip(ab)").replace("over token", "over tokn")
TWO = ONE % ("first", "") + ONE % ("second", "the other")
X = np.array([[0.5, -0.25, 0.05]])
BATCH = (X, np.zeros_like(X), np.ones_like(X), np.ones(X.shape, bool))


def findings(error: pytest.ExceptionInfo[FibError]) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in error.value.diagnostics]


# --- loading ------------------------------------------------------------------------------------


def test_load_by_path_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.fib"
    path.write_text(GOOD, encoding="utf-8")
    for given in (path, str(path)):
        objective = fibdsl.load(given)
        assert (objective.name, objective.doc) == ("small", "one gate")
        assert objective.checked.source.path == str(path)
    shipped = fibdsl.load("fiberpo_domain")
    assert shipped.name == "fiberpo_domain"
    assert shipped.keys == ("uid", "data_source")
    by_path = fibdsl.load(shipped_specs()["fiberpo_domain"])
    assert by_path.source() == shipped.source()


def test_load_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fibdsl.load(tmp_path / "missing.fib")
    with pytest.raises(FileNotFoundError):
        fibdsl.load(tmp_path / "fiberpo")  # a shipped name, but in a folder
    latin = tmp_path / "latin.fib"
    latin.write_bytes(b"# \xe9")
    with pytest.raises(OSError, match=r"is not UTF-8 text \(byte 2\)"):
        fibdsl.load(latin)


def test_parameters_by_keyword_and_by_mapping() -> None:
    defaults = {"c_plus": 0.2, "c_minus": 0.1, "epsilon": 0.02}
    assert fibdsl.load("fiberpo").params == defaults
    assert fibdsl.load("fiberpo", epsilon=0.01).params == defaults | {"epsilon": 0.01}
    both = fibdsl.load("fiberpo", params={"c_plus": 0.15, "epsilon": 0.01}, c_minus=0.05)
    assert both.params == {"c_plus": 0.15, "c_minus": 0.05, "epsilon": 0.01}
    assert [p.name for p in both.declared] == list(defaults)
    assert [p.default for p in both.declared] == list(defaults.values())
    small = fibdsl.load_text(GOOD, a=0.25)
    # min(x, 0.25) for positive advantages, in log-ratios.
    np.testing.assert_allclose(
        small.evaluate(*BATCH).gated_ratio, np.exp([[0.25, -0.25, 0.05]]), rtol=1e-15
    )


def test_load_text_names_where_the_text_is_from() -> None:
    with pytest.raises(FibError) as error:
        fibdsl.load_text(BAD)
    assert {d.source.path for d in error.value.diagnostics} == {"<string>"}
    with pytest.raises(FibError, match=r"train\.py"):
        fibdsl.load_text(BAD, path="train.py")


def test_a_warning_does_not_stop_loading() -> None:
    objective = fibdsl.load_text(GOOD.replace("signal", "param b : log = 0.1 in (0, 1)\n  signal"))
    [warning] = objective.checked.diagnostics
    assert (warning.code, warning.severity) == ("FIB601", "warning")


def test_several_objectives() -> None:
    assert fibdsl.load_text(TWO, objective="second").doc == "the other"
    assert fibdsl.load_text(TWO, objective="first", a=0.5).params == {"a": 0.5}
    assert fibdsl.load_text(GOOD, objective="small").name == "small"
    with pytest.raises(FibError) as error:
        fibdsl.load_text(TWO)
    [found] = error.value.diagnostics
    assert (found.code, found.span) == ("FIB004", None)
    assert found.help is not None
    assert "`first`, `second`" in found.help
    with pytest.raises(FibError, match="did you mean `second`"):
        fibdsl.load_text(TWO, objective="secnd")


# --- findings -----------------------------------------------------------------------------------


def test_an_error_says_everything_at_once() -> None:
    with pytest.raises(FibError) as error:
        fibdsl.load_text(BAD, path="bad.fib")
    first, second = error.value.diagnostics
    assert isinstance(first, Diagnostic)
    assert (first.code, first.severity, first.line, first.column) == ("FIB101", "error", 6, 24)
    assert first.message == "unknown name `ab`"
    assert first.span is not None
    assert BAD[first.span.start : first.span.end] == "ab"
    assert (second.code, second.line) == ("FIB201", 7)
    assert second.help == "did you mean `token`?"
    text = str(error.value)
    for part in ("bad.fib:6:24", "bad.fib:7:20", "clip(ab)", "^^", "did you mean `token`?"):
        assert part in text


def test_check_files_and_folders(tmp_path: Path) -> None:
    good, bad = tmp_path / "a" / "good.fib", tmp_path / "b" / "bad.fib"
    for path, text in ((good, GOOD), (bad, BAD)):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
    assert fibdsl.check(good) == []
    assert fibdsl.check("fiberpo", "grpo") == []
    found = fibdsl.check(tmp_path)
    assert [(d.code, d.source.path) for d in found] == [("FIB101", str(bad)), ("FIB201", str(bad))]
    assert [d.code for d in fibdsl.check(good, str(bad))] == ["FIB101", "FIB201"]
    assert fibdsl.check() == []
    with pytest.raises(OSError, match="missing"):
        fibdsl.check(tmp_path / "missing.fib")


# --- parameters ---------------------------------------------------------------------------------


def test_with_params_makes_another_objective() -> None:
    objective = fibdsl.load_text(GOOD)
    other = objective.with_params(a=0.25)
    assert (objective.params, other.params) == ({"a": 0.1}, {"a": 0.25})
    assert other.with_params().params == {"a": 0.25}
    assert type(objective.with_params(a=np.float64(0.5)).params["a"]) is float


def test_with_params_checks_ranges_and_names() -> None:
    objective = fibdsl.load("fiberpo")
    with pytest.raises(FibError) as error:
        objective.with_params(epsilom=0.1, c_plus=1, c_minus=0.0)
    assert [d.code for d in error.value.diagnostics] == ["FIB107", "FIB403", "FIB403"]
    assert {m for _, m in findings(error)} == {
        "objective `fiberpo` has no parameter `epsilom`",
        "c_plus = 1 is not in (0, 1)",
        "c_minus = 0 is not in (0, 1)",
    }
    lines = {d.line for d in error.value.diagnostics if d.span}
    assert lines == {p for p, line in enumerate(_lines("fiberpo"), 1) if "param  c_" in line}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1.0, 0, -0.1])
def test_with_params_refuses_numbers_outside(value: float) -> None:
    with pytest.raises(FibError) as error:
        fibdsl.load_text(GOOD, a=value)
    assert [d.code for d in error.value.diagnostics] == ["FIB403"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_parameter_without_a_range_is_still_a_number(value: float) -> None:
    text = GOOD.replace(" in (0, 1)", "").replace("clip(a)", "clip(a * a + 0.1)")
    text = text.replace("a : log", "a : pure").replace("a * a + 0.1", "0.1")
    assert fibdsl.load_text(text, a=-5.0).params == {"a": -5.0}
    with pytest.raises(FibError) as error:
        fibdsl.load_text(text, a=value)
    assert [d.code for d in error.value.diagnostics] == ["FIB403"]


@pytest.mark.parametrize("value", ["0.1", None, True, [0.1]])
def test_with_params_refuses_what_is_no_number(value: object) -> None:
    with pytest.raises(FibError, match="`a` is a number, not") as error:
        fibdsl.load_text(GOOD).with_params(a=value)  # type: ignore[arg-type]
    assert [d.code for d in error.value.diagnostics] == ["FIB107"]


def test_with_params_decides_promises_again() -> None:
    objective = fibdsl.load("fiberpo")
    for load in (
        lambda: objective.with_params(c_plus=0.9),
        lambda: fibdsl.load("fiberpo", c_plus=0.9),
        lambda: fibdsl.load("fiberpo", params={"c_plus": 0.9}),
        lambda: fibdsl.compile("fiberpo", backend=None, c_plus=0.9),
    ):
        with pytest.raises(FibError) as error:
            load()
        [found] = error.value.diagnostics
        assert found.code == "FIB501"
        assert found.message.startswith("`gated_ratio` does not hold")
        assert found.witness is not None
        assert "require gated_ratio in [0.70, 1.40]" in _lines("fiberpo")[found.line - 1]
    # exp(0.27 + 0.02 + 0.02) = 1.363 is inside, exp(0.3 + 0.04) = 1.405 is not.
    assert objective.with_params(c_plus=0.27).params["c_plus"] == 0.27
    with pytest.raises(FibError):
        objective.with_params(c_plus=0.3)


# --- promises -----------------------------------------------------------------------------------

BROKEN = GOOD.replace("over token\n", "over token\n  require bounded\n")


def test_a_spec_that_breaks_a_promise_can_be_loaded_without_promises(tmp_path: Path) -> None:
    path = tmp_path / "mine.fib"
    path.write_text(BROKEN, encoding="utf-8")
    with pytest.raises(FibError) as error:
        fibdsl.load(path)
    assert [d.code for d in error.value.diagnostics] == ["FIB501"]
    objective = fibdsl.load(path, promises=False)
    [found] = objective.broken_promises
    assert (found.code, found.line) == ("FIB501", 8)
    assert found.witness is not None
    # The witness is a batch: where A < 0, nothing bounds exp(x) from above.
    logp, old_logp, advantages, mask = (
        found.witness.tensors[name] for name in ("logp", "old_logp", "advantages", "mask")
    )
    G = objective.evaluate(logp, old_logp, advantages, mask).gated_ratio
    assert G.max() >= 1e6
    assert (advantages[G >= 1e6] < 0).all()


def test_without_promises_other_errors_stay_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.fib"
    path.write_text(BROKEN.replace("clip(a)", "clip(ab)"), encoding="utf-8")
    with pytest.raises(FibError) as error:
        fibdsl.load(path, promises=False)
    assert [d.code for d in error.value.diagnostics] == ["FIB101"]
    with pytest.raises(FibError, match="is not in"):
        fibdsl.load("fiberpo", promises=False).with_params(epsilon=2)


def test_broken_promises_are_those_of_the_values() -> None:
    objective = fibdsl.load("fiberpo", promises=False)
    assert objective.broken_promises == ()
    # exp(0.9 + 0.02 + 0.02) = 2.56 is outside [0.7, 1.4].
    [found] = objective.with_params(c_plus=0.9).broken_promises
    assert found.code == "FIB501"
    assert objective.with_params(c_plus=0.9).with_params(c_plus=0.2).broken_promises == ()


def test_an_undecided_promise_is_broken_and_an_undecided_assumption_is_not() -> None:
    text = """\
objective o {
  signal ratio
  levels token < state by state_id
  at token { base censor(0.1, over state) }
  reduce mean over token
  %s bounded
}
"""
    with pytest.raises(FibError) as error:
        fibdsl.load_text(text % "require")
    assert [d.code for d in error.value.diagnostics] == ["FIB502"]
    assert fibdsl.load_text(text % "assume").broken_promises == ()


# --- what a spec means --------------------------------------------------------------------------


def test_the_hash_is_of_the_meaning() -> None:
    plain = fibdsl.load_text(GOOD).semantic_hash
    assert len(plain) == 16
    for alike in (
        GOOD.replace("small", "large").replace("one gate", "a gate"),
        GOOD.replace("clip(a)", "clip(+a, -a)"),
        GOOD.replace("clip(a)", "clip(2 * a / 2)"),
        GOOD.replace("a :", "eps :").replace("clip(a)", "clip(eps)"),
        GOOD.replace("pessimistic }", "pessimistic }  # a comment").replace("  ", " "),
        GOOD.replace("signal log_ratio", "signal log_ratio net"),
        GOOD.replace("over token\n", "over token\n  require continuous\n"),
        GOOD.replace("token < trajectory", "token < trajectory < group by uid"),
    ):
        assert fibdsl.load_text(alike).semantic_hash == plain, alike
    others = [
        GOOD.replace("= 0.1", "= 0.2"),
        GOOD.replace("clip(a)", "clip(2 * a)"),
        GOOD.replace(" pessimistic", ""),
        GOOD.replace("log_ratio", "log_ratio split"),
        GOOD.replace("mean over token", "sum over token"),
        GOOD.replace("mean over token", "mean over trajectory, mean over token"),
    ]
    found = {fibdsl.load_text(other).semantic_hash for other in others}
    assert len(found | {plain}) == len(others) + 1


def test_the_hash_is_of_the_spec_and_not_of_its_values() -> None:
    objective = fibdsl.load_text(GOOD)
    assert objective.with_params(a=0.25).semantic_hash == objective.semantic_hash


def _lines(name: str) -> list[str]:
    return shipped_specs()[name].read_text(encoding="utf-8").splitlines()


def test_a_parameter_may_be_named_self() -> None:
    text = GOOD.replace("param a", "param self").replace("clip(a)", "clip(self)")
    assert fibdsl.load_text(text).with_params(self=0.2).params == {"self": 0.2}


def test_compile_takes_parameters() -> None:
    torch = pytest.importorskip("torch")
    loss_fn = fibdsl.compile("fiberpo", backend=None, epsilon=0.01)
    assert loss_fn.params == {"c_plus": 0.2, "c_minus": 0.1, "epsilon": 0.01}
    out = loss_fn(*(torch.from_numpy(np.asarray(t)) for t in BATCH))
    expected = fibdsl.load("fiberpo", epsilon=0.01).evaluate(*BATCH)
    assert out.loss.item() == pytest.approx(expected.loss, rel=1e-13)


# --- the package --------------------------------------------------------------------------------


def test_names_of_the_package() -> None:
    assert dir(fibdsl) == sorted(fibdsl.__all__)
    for name in fibdsl.__all__:
        assert getattr(fibdsl, name) is not None
    with pytest.raises(AttributeError, match="module 'fibdsl' has no attribute 'train'"):
        fibdsl.train  # noqa: B018
    assert not hasattr(fibdsl, "__path_of_nothing__")


def test_errors_are_of_three_kinds() -> None:
    # Mistakes of a spec are FibError; bugs of ours are not, and neither hides as a ValueError.
    assert not issubclass(fibdsl.InternalError, FibError)
    assert not issubclass(FibError, ValueError | OSError)
    assert not issubclass(fibdsl.InternalError, ValueError | OSError)
