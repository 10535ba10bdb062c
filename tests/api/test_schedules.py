"""Schedules: their values by hand, what they refuse, and objectives that have some."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibdsl import FibError
from fibdsl.schedules import Schedule, cosine, linear, piecewise, piecewise_linear

SPEC = """\
objective o {
  param a : log = 0.1 in (0, 1)
  param b : log = 0.2 in (0, 1]
  signal log_ratio
  levels token < trajectory
  at token { base clip(+a, -b) }
  reduce mean over token
  require gated_ratio in [0.5, 2]
}
"""
X = np.array([[0.5, -0.25, 0.05]])
BATCH = (X, np.zeros_like(X), np.ones_like(X), np.ones(X.shape, bool))


# --- values -------------------------------------------------------------------------------------


def test_linear() -> None:
    s = linear(0.3, 0.1, steps=1000)
    assert [s.at(n) for n in (0, 1000, 1001, 10**9)] == [0.3, 0.1, 0.1, 0.1]
    assert s.at(250) == pytest.approx(0.25, rel=1e-15)
    assert s.at(999) == pytest.approx(0.1002, rel=1e-15)
    assert s.bounds == (0.1, 0.3)
    assert s.turns == (0, 1000)


def test_cosine() -> None:
    s = cosine(1, 3, 4)
    quarter = math.sqrt(0.5)
    # 3 - 2 (1 + cos(pi n / 4)) / 2
    expected = [1, 2 - quarter, 2, 2 + quarter, 3, 3]
    assert [s.at(n) for n in range(6)] == pytest.approx(expected, rel=1e-15)
    assert (s.at(0), s.at(4)) == (1, 3)
    assert s.bounds == (1, 3)


def test_piecewise() -> None:
    s = piecewise({100: 0.1, 0: 0.2, 150: 0.3})
    assert [s.at(n) for n in (0, 99, 100, 149, 150, 10**6)] == [0.2, 0.2, 0.1, 0.1, 0.3, 0.3]
    assert s.bounds == (0.1, 0.3)
    # Where it jumps, and the last steps before.
    assert s.turns == (0, 99, 100, 149, 150)
    assert piecewise({0: 0.2}).at(7) == 0.2


def test_piecewise_linear() -> None:
    s = piecewise_linear({0: 0.1, 10: 0.3, 30: 0.2})
    assert [s.at(n) for n in (0, 10, 30, 31)] == [0.1, 0.3, 0.2, 0.2]
    assert (s.at(5), s.at(20)) == pytest.approx((0.2, 0.25), rel=1e-15)
    assert s.turns == (0, 10, 30)


@pytest.mark.parametrize("shape", [linear, cosine])
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.3), (0.3, 0.1), (0.1, 0.1), (-1e-300, 1e300)])
def test_no_step_leaves_the_bounds(shape: Any, start: float, end: float) -> None:
    s = shape(start, end, 997)
    values = [s.at(n) for n in range(1000)]
    assert s.bounds == (min(values), max(values)) == (min(start, end), max(start, end))
    assert values == sorted(values, reverse=start > end)


def test_they_are_values() -> None:
    assert linear(0.3, 0.1, 10) == linear(0.3, 0.1, steps=10) == piecewise_linear({0: 0.3, 10: 0.1})
    assert hash(linear(0.3, 0.1, 10)) == hash(linear(0.3, 0.1, 10))
    assert linear(0.3, 0.1, 10) != cosine(0.3, 0.1, 10)
    assert linear(1, 2, np.int64(3)) == linear(1.0, 2.0, 3)  # type: ignore[arg-type]
    assert eval(repr(cosine(0.3, 0.1, 10))) == cosine(0.3, 0.1, 10)
    with pytest.raises(FrozenInstanceError):
        linear(0.3, 0.1, 10).values = (1.0, 2.0)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear(0.3, 0.1, 0), "over 1 step or more"),
        (lambda: linear(0.3, 0.1, -1), "whole numbers, 0 or more, and not -1"),
        (lambda: linear(0.3, 0.1, 1.5), "whole numbers, 0 or more, and not 1.5"),  # type: ignore[arg-type]
        (lambda: linear(0.3, 0.1, True), "whole numbers, 0 or more, and not True"),
        (lambda: cosine(math.nan, 0.1, 10), "a finite number, not nan"),
        (lambda: cosine(0.1, math.inf, 10), "a finite number, not inf"),
        (lambda: cosine(0.1, 10**400, 10), "a finite number, not 1000"),
        (lambda: linear("0.1", 0.2, 10), "a finite number, not '0.1'"),  # type: ignore[arg-type]
        (lambda: linear(True, 0.2, 10), "a finite number, not True"),
        (lambda: piecewise({}), "ascend from 0"),
        (lambda: piecewise({1: 0.2}), "ascend from 0"),
        (lambda: piecewise({0: 0.2, "a": 0.1}), "whole numbers, 0 or more, and not 'a'"),  # type: ignore[dict-item]
        (lambda: Schedule((0, 5, 5), (1, 2, 3), "hold"), "ascend from 0"),
        (lambda: Schedule((0, 5), (1,), "hold"), "2 steps, but 1 values"),
        (lambda: Schedule((0, 5), (1, 2), "cubic"), "not 'cubic'"),
        (lambda: linear(0.3, 0.1, 10).at(-1), "whole numbers, 0 or more, and not -1"),
    ],
)  # fmt: skip
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- objectives ---------------------------------------------------------------------------------


def test_an_objective_with_a_schedule() -> None:
    schedule = linear(0.3, 0.1, steps=100)
    loaded = fibdsl.load_text(SPEC, a=schedule)
    changed = fibdsl.load_text(SPEC).with_params(a=schedule)
    for objective in (loaded, changed):
        assert objective.params == {"a": 0.3, "b": 0.2}
        assert objective.schedules == {"a": schedule}
    later = loaded.at_step(50)
    assert (later.params, later.schedules) == ({"a": pytest.approx(0.2), "b": 0.2}, {})
    assert loaded.at_step(10**6).params["a"] == 0.1
    # min(x, a), in log-ratios.
    np.testing.assert_allclose(
        later.evaluate(*BATCH).gated_ratio, np.exp([[0.2, -0.2, 0.05]]), rtol=1e-15
    )
    # A number takes the place of a schedule, and keeps the others.
    both = loaded.with_params(b=piecewise({0: 0.2, 9: 0.1}))
    assert both.schedules.keys() == {"a", "b"}
    assert both.at_step(9).params == {"a": pytest.approx(0.282), "b": 0.1}
    assert both.with_params(a=0.5).schedules.keys() == {"b"}
    assert both.semantic_hash == loaded.semantic_hash


def test_a_step_without_schedules_has_no_effect() -> None:
    with pytest.raises(ValueError, match="a step has no effect on objective 'o'"):
        fibdsl.load_text(SPEC).at_step(0)
    with pytest.raises(ValueError, match="whole numbers, 0 or more, and not -1"):
        fibdsl.load_text(SPEC, a=linear(0.3, 0.1, 10)).at_step(-1)


def test_all_steps_are_in_the_range() -> None:
    assert fibdsl.load_text(SPEC, b=linear(0.1, 0.6, 10)).params["b"] == 0.1
    with pytest.raises(FibError) as error:
        fibdsl.load_text(SPEC, a=linear(0.3, 1, 10), b=piecewise({0: 0.1, 5: 0, 9: 1.5}), c=1)
    assert sorted((d.code, d.message) for d in error.value.diagnostics) == [
        ("FIB107", "objective `o` has no parameter `c`"),
        ("FIB403", "a = 1 at step 10 is not in (0, 1)"),
        ("FIB403", "b = 0 at step 5 is not in (0, 1]"),
        ("FIB403", "b = 1.5 at step 9 is not in (0, 1]"),
    ]


@pytest.mark.parametrize(
    ("values", "step"),
    [
        # exp(0.7) = 2.01 is outside [0.5, 2], exp(0.69) = 1.99 is not.
        ({"a": linear(0.7, 0.1, 10)}, 0),
        ({"a": linear(0.1, 0.7, 10)}, 10),
        ({"a": piecewise_linear({0: 0.1, 10: 0.7, 20: 0.1})}, 10),
        ({"a": piecewise({0: 0.1, 5: 0.7, 6: 0.1})}, 5),
        ({"a": 0.2, "b": cosine(0.2, 0.8, 30)}, 30),
    ],
)
def test_promises_hold_where_a_schedule_turns(values: dict[str, Any], step: int) -> None:
    with pytest.raises(FibError) as error:
        fibdsl.load_text(SPEC, **values)
    [found] = error.value.diagnostics
    assert (found.code, found.line) == ("FIB501", 8)
    assert found.notes[-1].endswith(f", at step {step}")
    objective = fibdsl.load_text(SPEC, promises=False, **values)
    assert [d.code for d in objective.broken_promises] == ["FIB501"]
    assert [d.code for d in objective.at_step(step).broken_promises] == ["FIB501"]


# |G - 1| is at most the larger of a and b.
CLOSE = """\
objective close {
  param a : deviation = 0.15 in (0, 1)
  param b : deviation = 0.15 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(+a, -b) }
  reduce mean over token
  require trust_region tv <= a + 0.01
}
"""


def test_promises_hold_just_before_a_jump() -> None:
    a, b = piecewise({0: 0.1, 10: 0.3}), linear(0.1, 0.3, 10)
    with pytest.raises(FibError) as error:
        fibdsl.load_text(CLOSE, a=a, b=b)
    assert error.value.diagnostics[0].notes[-1] == "with a = 0.1, b = 0.28, at step 9"


def test_what_is_between_is_decided_when_it_gets_there() -> None:
    objective = fibdsl.load_text(CLOSE, a=linear(0.1, 0.3, 100), b=cosine(0.1, 0.3, 100))
    assert objective.at_step(50).params == pytest.approx({"a": 0.2, "b": 0.2})
    with pytest.raises(FibError) as error:
        objective.at_step(75)  # b is 0.3 - 0.1 (1 - sqrt(1/2)) = 0.271, and a is 0.25
    assert [d.code for d in error.value.diagnostics] == ["FIB501"]


def test_values_may_mend_what_the_defaults_break() -> None:
    text = CLOSE.replace("b : deviation = 0.15", "b : deviation = 0.2")
    with pytest.raises(FibError):
        fibdsl.load_text(text)
    assert fibdsl.load_text(text, b=0.1).params["b"] == 0.1
    assert fibdsl.load_text(text, b=piecewise({0: 0.1, 5: 0.16})).schedules
    with pytest.raises(FibError):
        fibdsl.load_text(text, a=0.16)
    # Another objective of the file has its defaults still.
    with pytest.raises(FibError):
        fibdsl.load_text(text + SPEC, objective="o", a=0.1)
