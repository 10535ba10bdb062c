"""What must not depend on the depth of the hierarchy (theory section 5).

Gates that all pass telescope to G = r. Levels above the coarsest gated one only group: adding them
changes nothing. Where coarser cells are singletons, the aggregate S of the trajectory is also that
of the group and the domain, so the *base* gate at the domain sees S itself and every finer residual
is 0 (up to the token). A budget at the trajectory of such a chain therefore bounds nothing, and
"four levels with infinite coarse budgets are two levels" holds in two forms:

- the domain carries the two-level budget (with `k = tokens`), group and trajectory are unbounded:
  exactly the two-level result;
- domain and group are unbounded, whatever the trajectory's budget: the two-level result with
  `base pass`, which is FiberPO's wherever FiberPO's trajectory gate passes.
"""

from __future__ import annotations

import numpy as np
import pytest

import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests.meaning.batches import Tensors, jacobian, log_ratios, of_log_ratios, random_tensors, spec

CHAIN = (
    "token",
    "turn by turn_id",
    "trajectory",
    "group by uid",
    "domain by data_source",
    "campus by campus",
)
REDUCE = "reduce mean over trajectory, mean over token"


def passing(depth: int, gate: str) -> Objective:
    """`depth` levels, of which the turn is the last to be left out, each with `gate`."""
    chain = CHAIN if depth == len(CHAIN) else (CHAIN[0], *CHAIN[2 : depth + 1])
    names = [level.split()[0] for level in chain]
    gates = [f"at {name} {{ fiber {gate} }}" for name in names[:-1]]
    gates.append(f"at {names[-1]} {{ base {gate} }}")
    return spec("log_ratio split", " < ".join(chain), *gates, REDUCE)


@pytest.mark.parametrize("depth", range(2, 7))
@pytest.mark.parametrize("gate", ["pass", "clip(9)", "rollback(+9, -8, k = 3)", "clip(+inf, -inf)"])
@pytest.mark.parametrize("seed", range(3))
def test_passing_gates_telescope(depth: int, gate: str, seed: int) -> None:
    tensors = random_tensors(np.random.default_rng(seed), rows=12)
    mask = tensors["mask"]
    objective = passing(depth, gate)
    ratio = np.exp(log_ratios(tensors)[mask])
    np.testing.assert_allclose(objective.gated_ratio(**tensors)[mask], ratio, rtol=2e-15)
    J = jacobian(objective, tensors)
    np.testing.assert_allclose(J, np.diag(ratio), rtol=4e-15, atol=0)
    weights = mask / np.maximum(mask.sum(1, keepdims=True), 1) / (mask.sum(1) > 0).sum()
    policy_gradient = -(weights * tensors["advantages"])[mask] * ratio
    evaluation = objective.evaluate(**tensors)
    np.testing.assert_allclose(evaluation.gradient[mask], policy_gradient, rtol=4e-15)
    assert evaluation.loss == pytest.approx(policy_gradient.sum(), rel=1e-13)


def same(a: Objective, b: Objective, tensors: Tensors) -> None:
    one, other = a.evaluate(**tensors), b.evaluate(**tensors)
    assert np.array_equal(one.gated_ratio, other.gated_ratio)
    assert np.array_equal(one.gradient, other.gradient)
    assert one.loss == other.loss
    shared = one.metrics.keys() & other.metrics.keys()
    assert {k: one.metrics[k] for k in shared} == {k: other.metrics[k] for k in shared}


GROUPED = ("ppo", "grpo", "gspo", "fiberpo", "fiberpo_domain")
COARSER = ("group by uid", "domain by data_source", "campus by campus")


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("seed", range(3))
def test_coarser_levels_without_gates_only_group(name: str, seed: int) -> None:
    path = shipped_specs()[name]
    text = path.read_text(encoding="utf-8")
    line = next(part for part in text.splitlines() if part.strip().startswith("levels "))
    tensors = random_tensors(np.random.default_rng(seed), rows=10, trajectory_drift=0.2)
    plain = fibdsl.load_text(text)
    chain = line
    for level in ("trajectory", *COARSER):
        if f" {level}" in chain:
            continue
        chain = f"{chain.partition('#')[0].rstrip()} < {level}"
        same(plain, fibdsl.load_text(text.replace(line, chain)), tensors)


def singletons(seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors = random_tensors(rng, rows=12, trajectory_drift=0.3)
    tensors["keys"] = {"uid": rng.permutation(12) - 4, "data_source": rng.permutation(12) * 10**15}
    return tensors


def four_levels(domain: str, group: str, trajectory: str) -> Objective:
    return spec(
        "log_ratio split",
        "token < trajectory < group by uid < domain by data_source",
        f"at domain {{ base {domain} }}",
        f"at group {{ fiber {group} }}",
        f"at trajectory {{ fiber {trajectory} }}",
        "at token { fiber clip(0.02) }",
        REDUCE,
    )


def two_levels(trajectory: str) -> Objective:
    return spec(
        "log_ratio split",
        "token < trajectory",
        f"at trajectory {{ base {trajectory} }}",
        "at token { fiber clip(0.02) }",
        REDUCE,
    )


UNBOUNDED = "rollback(+inf, -inf)"
FIBERPO = fibdsl.load("fiberpo", c_plus=0.2, c_minus=0.1, epsilon=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_singleton_cells_with_the_budget_at_the_domain_are_two_levels(seed: int) -> None:
    tensors = singletons(seed)
    chain = four_levels("rollback(+0.2, -0.1, k = tokens)", UNBOUNDED, UNBOUNDED)
    expected, found = FIBERPO.evaluate(**tensors), chain.evaluate(**tensors)
    assert np.array_equal(found.gated_ratio, expected.gated_ratio)
    assert found.loss == expected.loss
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-13, atol=1e-17)
    regimes = {k: v for k, v in expected.metrics.items() if k.startswith("regime/trajectory")}
    signs = ("plus", "minus")
    assert sum(regimes[f"regime/trajectory/{sign}/pass"] for sign in signs) < 2
    assert regimes == {
        k.replace("domain", "trajectory"): v
        for k, v in found.metrics.items()
        if k.startswith("regime/domain")
    }


@pytest.mark.parametrize("seed", range(6))
def test_singleton_cells_with_unbounded_domains_pass_every_trajectory(seed: int) -> None:
    tensors = singletons(seed)
    chain = four_levels(UNBOUNDED, UNBOUNDED, "rollback(+0.2, -0.1)")
    passed = two_levels("pass")
    same(passed, chain, tensors)

    mask = tensors["mask"]
    x = log_ratios(tensors)
    count = np.maximum(mask.sum(1), 1)
    inside = (np.maximum(x, 0).sum(1) / count <= 0.2) & (np.maximum(-x, 0).sum(1) / count <= 0.1)
    assert inside[mask.any(1)].any()
    assert not inside.all()
    agree = chain.gated_ratio(**tensors) == FIBERPO.gated_ratio(**tensors)
    assert agree[inside].all()
    assert not agree[~inside].all()


def test_children_count_once_unless_told_otherwise() -> None:
    # One group of a long and a short trajectory: the mean over children is (.06 + .18) / 2 = .12,
    # the mean over tokens (3 * .06 + .18) / 4 = .09.
    tensors = of_log_ratios([[0.06, 0.06, 0.06], [0.18, 0.0, 0.0]], uid=[5, 5])
    tensors["mask"] = np.array([[1, 1, 1], [1, 0, 0]])
    gates = (
        "at group { %s base clip(0.1) }",
        "at trajectory { fiber drop }",
        "at token { fiber drop }",
    )
    for aggregate, y in (
        ("", 0.1),
        ("aggregate mean over trajectory", 0.1),
        ("aggregate mean over token", 0.09),
    ):
        objective = spec(
            "log_ratio split",
            "token < trajectory < group by uid",
            gates[0] % aggregate,
            *gates[1:],
            "reduce mean over token",
        )
        G = objective.gated_ratio(**tensors)
        np.testing.assert_allclose(G[tensors["mask"] == 1], np.exp(y), rtol=1e-15)
        drift = objective.evaluate(**tensors).metrics["drift/group/plus"]
        assert drift == pytest.approx(0.12 if y == 0.1 else 0.09)
