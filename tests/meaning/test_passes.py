"""Every pass keeps the meaning of a program, and the verifier refuses broken ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc import driver, interp
from fibc.analysis.facts import Facts
from fibc.gates.builtin import builtin_gates
from fibc.ir import nodes as ir
from fibc.ir.scalar import Const, Param
from fibc.ir.verify import verify
from fibc.passes import PASSES, optimise
from fibc.passes.without_overflow import without_overflow
from fibdsl.diagnostics.errors import InternalError
from fibdsl.objective import Objective
from tests.meaning.batches import Tensors, random_tensors, spec

SHIPPED = ("ppo", "grpo", "dapo", "gspo", "apc", "fiberpo", "fiberpo_domain")
INLINE = {
    "unbounded": spec(
        "log_ratio split",
        "token < trajectory < group by uid",
        "at group { base rollback(+inf, -inf) }",
        "at trajectory { fiber clip(+inf, -0.1) }",
        "at token { fiber pass }",
        "reduce mean over group, mean over trajectory, sum over token",
    ),
    "dropped": spec(
        "log_ratio split",
        "token < turn by turn_id < trajectory < group by uid",
        "at trajectory { base rollback(+0.1 * 2, -(0.3 - 0.2), k = 2 * size + 1) pessimistic }",
        "at turn { fiber drop }",
        "at token { fiber drop }",
        "reduce mean over group, mean over token",
    ),
    "all_passes": spec(
        "ratio net",
        "token < trajectory",
        "at trajectory { base pass }",
        "at token { fiber pass }",
        "reduce mean over trajectory, mean over token",
    ),
    "unbounded_token": spec(
        "log_ratio net",
        "token < trajectory",
        "at trajectory { base drop }",
        "at token { fiber clip(+inf, -inf) pessimistic }",
        "reduce sum over token",
    ),
    "channels_apart": spec(
        "log_ratio split",
        "token < trajectory",
        "at trajectory { base rollback(+0.1, -0.05) }",
        "at token { fiber clip(+0.02, -0.01) }",
        "reduce mean over trajectory, mean over token",
    ),
    "one_side_unbounded": spec(
        "log_ratio net",
        "token < trajectory",
        "at trajectory { base clip(+0.02, -inf) }",
        "at token { fiber clip(+inf, -0.02) pessimistic }",
        "reduce mean over token",
    ),
    "experts": spec(
        "log_ratio split",
        "token < expert by expert_id",
        "at expert { aggregate mean over token base rollback(0.1, k = tokens) pessimistic }",
        "at token { fiber clip(+0.05, -0.04) pessimistic }",
        "reduce mean over trajectory, mean over token",
    ),
    "censored_trajectories": spec(
        "ratio",
        "token < trajectory < group by uid < domain by data_source",
        "at trajectory { base censor(0.1, over domain) pessimistic }",
        "at token { fiber clip(0.1) }",
        "reduce mean over token",
    ),
}
OBJECTIVES = {name: fibdsl.load(name) for name in SHIPPED} | INLINE


def equal(objective: Objective, a: ir.Program, b: ir.Program, tensors: Tensors) -> None:
    batch = objective.batch(**tensors)
    one, other = (interp.run(program, batch, objective.params) for program in (a, b))
    np.testing.assert_allclose(one.gated_ratio, other.gated_ratio, rtol=1e-13)
    assert one.loss == pytest.approx(other.loss, rel=1e-13, abs=1e-15)
    expected = interp.pullback(one, a.objective, -np.ones(1))
    gradient = interp.pullback(other, b.objective, -np.ones(1))
    np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-16)
    metrics = interp.metrics(one)
    assert list(metrics) == list(interp.metrics(other))
    assert interp.metrics(other) == pytest.approx(metrics, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("seed", range(3))
def test_the_optimised_program_means_the_same(name: str, seed: int) -> None:
    objective = OBJECTIVES[name]
    tensors = random_tensors(np.random.default_rng(seed), rows=8, trajectory_drift=0.2)
    program = driver.reference_program(objective.typed)
    equal(objective, program, optimise(program), tensors)


@pytest.mark.parametrize("step", PASSES, ids=lambda step: step.__name__)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_pass_alone_keeps_the_meaning(
    name: str, step: Callable[[ir.Program], ir.Program]
) -> None:
    objective = OBJECTIVES[name]
    program = driver.reference_program(objective.typed)
    done = verify(step(program), step.__name__)
    equal(
        objective,
        program,
        done,
        random_tensors(np.random.default_rng(7), rows=8, trajectory_drift=0.2),
    )
    assert step(done) == done


def test_what_the_passes_take_away() -> None:
    def kinds(name: str) -> list[str]:
        program = optimise(driver.reference_program(OBJECTIVES[name].typed))
        return [op.rule.name for op in program.ops if isinstance(op, ir.Gate)]

    # Regimes of an unbounded gate are still reported, of `pass` and `drop` there are none.
    assert kinds("all_passes") == []
    assert kinds("unbounded") == ["rollback", "clip"] * 2
    # The leans of the advantage: each channel has its upper and its lower half.
    assert kinds("dropped") == ["rollback"] * 4
    # A split signal is gated once at the token, in the channel that the token is in; the gates of
    # both channels are left to the metrics.
    program = optimise(driver.reference_program(OBJECTIVES["fiberpo"].typed))
    measured = {name for metric in program.metrics for name in metric.operands}
    gates = [op for op in program.ops if isinstance(op, ir.Gate) and op.level == "token"]
    assert [op.name for op in gates if op.name not in measured] == ["own.y.g"]
    # Two gates of different budgets stay two.
    apart = optimise(driver.reference_program(OBJECTIVES["channels_apart"].typed))
    assert not any(isinstance(op, ir.OwnChannel) for op in apart.ops)


def test_what_is_proved_not_to_overflow() -> None:
    def bounded(name: str) -> bool:
        typed = OBJECTIVES[name].typed
        reference = driver.reference_program(typed)
        program = without_overflow(reference, Facts.over_ranges(typed).ranges)
        [ratio] = [op for op in program.ops if isinstance(op, ir.GatedRatio)]
        return ratio.bounded

    assert bounded("fiberpo")
    assert bounded("fiberpo_domain")
    # Pessimism leaves one side open, and so does a gate that passes all.
    assert not bounded("gspo")
    assert not bounded("unbounded")


# --- the verifier -------------------------------------------------------------------------------

DOMAIN = driver.reference_program(fibdsl.load("fiberpo_domain").typed)


def changed(program: ir.Program, name: str, **fields: Any) -> ir.Program:
    """`program` with fields of one operation changed."""
    assert name in program.by_name
    ops = (replace(op, **fields) if op.name == name else op for op in program.ops)
    return replace(program, ops=tuple(ops))


BROKEN = {
    "defined twice": replace(DOMAIN, ops=(*DOMAIN.ops, DOMAIN.ops[-1])),
    "log_ratio is not defined before it": replace(DOMAIN, ops=DOMAIN.ops[1:]),
    "is not defined before it": replace(DOMAIN, ops=DOMAIN.ops[::-1]),
    "unknown level": changed(DOMAIN, "gated_ratio", level="galaxy"),
    "S.trajectory.plus is at another level": changed(
        DOMAIN, "u.token.plus", coarse="S.trajectory.plus"
    ),
    "belongs at the token": replace(
        DOMAIN, ops=(*DOMAIN.ops, ir.LogRatio("log_ratio_of_group", "group"))
    ),
    "domain is no parent": changed(DOMAIN, "K.y.trajectory.plus", x="y.domain.plus"),
    "token is no parent": changed(DOMAIN, "K.y.trajectory.plus", x="x.plus"),
    "not a parent of token": changed(DOMAIN, "sum.trajectory.group.plus", x="x.plus"),
    "not a parent of trajectory": changed(DOMAIN, "n.trajectory.group", level="domain"),
    "n.token.trajectory is not at group": changed(
        DOMAIN, "n.group.domain", members="n.token.trajectory"
    ),
    "budgets do not fit the gate": changed(DOMAIN, "y.domain.plus", lower=None),
    "budgets do not fit": changed(DOMAIN, "g.token.plus", rule=builtin_gates()["drop"]),
    "steepness does not fit": changed(DOMAIN, "y.domain.plus", steepness=None),
    "steepness does not": changed(DOMAIN, "g.token.plus", steepness=Const(2.0)),
    "unknown params": changed(DOMAIN, "y.domain.minus", upper=Param("c_plus")),
    "size is missing": changed(DOMAIN, "y.domain.minus", size=None),
    "root G is not defined": replace(DOMAIN, gated_ratio="G"),
    "root J is not defined": replace(DOMAIN, objective="J"),
    "root K is not defined": replace(DOMAIN, metrics=(ir.MeanOf("drift", "K"),)),
    "the gated ratio is not at the token": replace(DOMAIN, gated_ratio="S.group.plus"),
    "the objective is not at the batch": replace(DOMAIN, objective="S.group.plus"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_verifier_refuses(what: str) -> None:
    verify(DOMAIN, "lower")
    with pytest.raises(InternalError, match=f"after a_pass: .*{what}"):
        verify(BROKEN[what], "a_pass")


def test_the_verifier_refuses_unknown_params_of_a_neighbour_budget() -> None:
    apc = driver.reference_program(fibdsl.load("apc").typed)
    with pytest.raises(InternalError, match="unknown params"):
        verify(changed(apc, "budget.token", delta=Param("epsilon")), "a_pass")
