"""What expressions say, by numbers worked out by hand, and built-in gates in other words."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import fibdsl
from fibdsl.evaluation import Evaluation
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests.compiled.cases import Case, compiled, random_case, reference
from tests.meaning.batches import Tensors, of_log_ratios, random_tensors, spec

# --- gates in other words -----------------------------------------------------------------------

CLIP = {
    "min_max": "gate own(x, C) { max(min(x, C), -C) }",
    "function": "gate own(x, C) { clip(x, -C, C) }",
    "magnitude": "gate own(x, C) { sign(x) * min(|x|, C) }",
    "odd": "gate own(x, C) odd { sign(x) * min(|x|, C) }",
    "other_order": "gate own(x, C) { C when x > C; 0 - C when x < -C; x otherwise; }",
    "in_cases": """gate own(x, C) {
        pass:    x           when x <= C and -C <= x;
        clipped: sign(x) * C otherwise;
    }""",
    "by_or": "gate own(x, C) { clipped: sign(x) * C when x > C or x < -C; pass: x otherwise; }",
}
ROLLBACK = {
    "in_cases": """gate own(x, C, k : pure = size) {
        pass:     x                                   when x <= C and -C <= x;
        rollback: sign(x) * ((k + 1) * C - k * |x|)   when |x| - C < C / k;
        zeroed:   0                                   otherwise;
    }""",
    "min_max": """gate own(x, C, k : pure = size) {
        sign(x) * max(min(|x|, (k + 1) * C - k * |x|), 0)
    }""",
    "other_order": """gate own(x, C, k : pure = size) odd {
        0                                when |x| >= (1 + 1 / k) * C;
        x                                when C >= |x|;
        (k + 1) * C * sign(x) - x * k    otherwise;
    }""",
}
PASS = {"itself": "gate own(x) { x }", "twice": "gate own(x) { x when x >= 0; x otherwise; }"}
DROP = {"zero": "gate own(x) { 0 }", "nothing": "gate own(x) { x - x }"}
FAMILIES = {"clip": CLIP, "rollback": ROLLBACK, "pass": PASS, "drop": DROP}
CASES = [(gate, words) for gate, family in FAMILIES.items() for words in family]
SIGNALS = ("log_ratio split", "ratio net")


def hierarchy(signal: str, gates: dict[str, str], definition: str = "") -> Objective:
    """Gates at the levels from the token up to the coarsest of `gates`."""
    top = list(gates)[-1]
    statements = [
        f"at {level} {{ {'base' if level == top else 'fiber'} {gate} }}"
        for level, gate in gates.items()
    ]
    return loaded(
        f"{definition} objective o {{ signal {signal} levels token < trajectory < group by uid "
        f"{' '.join(statements)} reduce mean over trajectory, mean over token }}"
    )


@cache
def loaded(text: str) -> Objective:
    return fibdsl.load_text(text, promises=False)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("gate", "words"), CASES)
def test_gates_in_other_words(gate: str, words: str, signal: str) -> None:
    """At every level, with one budget, a pair, one by the advantage, pessimistic or not."""
    definition = FAMILIES[gate][words]
    budgets = {
        "clip": ["0.15", "+0.15, -0.04", "by_advantage(0.2, 0.05)"],
        "rollback": [
            "0.15",
            "+0.15, -0.04",
            "+by_advantage(0.2, 0.05), -0.1, k = size / 2 + tokens",
        ],
    }.get(gate, [""])
    for level, given in zip(("token", "trajectory", "group"), itertools.cycle(budgets)):
        if gate == "rollback" and level == "token":
            given += ", k = 4"
        call = f"({given})" if given else ""
        modifier = " pessimistic" if given.startswith("+0.15") else ""
        gates = {"token": "clip(0.07)", "trajectory": "clip(+0.1, -0.06)", "group": "clip(0.1)"}
        levels = list(gates)[: list(gates).index(level) + 1]
        built_in = {k: gates[k] for k in levels} | {level: f"{gate}{call}{modifier}"}
        own = built_in | {level: f"own{call}{modifier}"}
        agree(hierarchy(signal, built_in), hierarchy(signal, own, definition), f"{level} {given}")


def agree(one: Objective, other: Objective, context: str) -> None:
    for seed in range(2):
        tensors = random_tensors(np.random.default_rng(seed), rows=8, drift=0.15)
        expected, found = one.evaluate(**tensors), other.evaluate(**tensors)
        scale = max(1.0, float(np.abs(expected.gradient).max()))
        assert found.loss == pytest.approx(expected.loss, rel=1e-13, abs=1e-14), context
        assert np.abs(found.gated_ratio - expected.gated_ratio).max() <= 1e-13, context
        assert np.abs(found.gradient - expected.gradient).max() <= 1e-13 * scale, context
        # Names of cases may differ, and what has one case has no shares; the others agree.
        for name in found.metrics.keys() & expected.metrics.keys():
            assert found.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-13), name


@pytest.mark.parametrize(("gate", "words"), [("clip", "in_cases"), ("rollback", "in_cases")])
@pytest.mark.parametrize("signal", SIGNALS)
def test_labels_are_the_names_of_regimes(gate: str, words: str, signal: str) -> None:
    """A gate with the labels of the built-in one has all its metrics."""
    arguments = "(+0.15, -0.04)" if gate == "clip" else "(+0.15, -0.04, k = 3)"
    for modifier in ("", " pessimistic"):
        for level in ("token", "trajectory"):
            gates = {"token": "clip(0.07)", "trajectory": "clip(0.1)"}
            built_in = hierarchy(signal, gates | {level: f"{gate}{arguments}{modifier}"})
            own = hierarchy(
                signal, gates | {level: f"own{arguments}{modifier}"}, FAMILIES[gate][words]
            )
            tensors = random_tensors(np.random.default_rng(5), rows=9, drift=0.2)
            expected, found = built_in.evaluate(**tensors), own.evaluate(**tensors)
            assert found.metrics == pytest.approx(expected.metrics, abs=1e-13)


@pytest.mark.parametrize("words", ["min_max", "function", "magnitude", "odd", "in_cases", "by_or"])
def test_what_is_at_its_bound_passes(words: str) -> None:
    """x = +-0.5 exactly: G = 1 +- 0.5, with the slope of what passes; in generated code too."""
    objective = hierarchy("ratio", {"token": "own(0.5)"}, CLIP[words])
    tensors = of_log_ratios(np.log([[1.5, 0.5, 1.0, 2.0]]), uid=[1])
    tensors["logp"][0, :2] = np.log([1.5, 0.5])
    found = objective.evaluate(**tensors)
    r = np.array([1.5, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(found.gated_ratio[0], [1.5, 0.5, 1.0, 1.5], rtol=1e-15)
    np.testing.assert_allclose(found.gradient[0], -r * [1, 1, 1, 0] / 4, rtol=1e-15)
    case = torch_case(tensors)
    assert np.array_equal(
        compiled(objective.compile(backend=None), case, "padded").gradient, found.gradient
    )


def torch_case(tensors: Tensors, **others: Any) -> Case:
    words = ("logp", "old_logp", "advantages", "mask")
    logp, old_logp, advantages, mask = (torch.from_numpy(tensors[w].copy()) for w in words)
    keys = {name: torch.as_tensor(ids) for name, ids in tensors["keys"].items()}
    return Case(logp, old_logp, advantages, mask, keys, others)


# --- statements, by hand ------------------------------------------------------------------------


def evaluated(x: Any, advantages: Any, *statements: str, **others: Any) -> Evaluation:
    """Of one objective at the token of `signal ratio`, old log-probabilities -1."""
    text = spec("ratio net", "token < trajectory", *statements, "reduce sum over token")
    x = np.asarray(x, np.float64)
    batch = of_log_ratios(x, advantages)
    batch["logp"], batch["old_logp"] = x - 1.0, np.full_like(x, -1.0)
    found = text.evaluate(**batch, **others)
    assert isinstance(found, Evaluation)
    return found


X = np.array([[0.3, -0.2], [0.0, 0.1]])
A = np.array([[1.0, -2.0], [0.5, -1.0]])
R = np.exp(X)


def test_a_score_function() -> None:
    """sg[G] A log pi: the gradient is -G A."""
    found = evaluated(X, A, "at token { base clip(0.2) }", "surrogate stopgrad(gated_ratio) * logp")
    G = np.clip(R, 0.8, 1.2)
    assert found.loss == pytest.approx(-(G * A * (X - 1)).sum(), rel=1e-14)
    np.testing.assert_allclose(found.gradient, -G * A, rtol=1e-14)
    np.testing.assert_allclose(found.gated_ratio, G, rtol=1e-14)


def test_no_gradient_flows_through_a_weight() -> None:
    found = evaluated(X, A, "at token { base pass }", "weight min(ratio, 1.1) * advantage")
    w = np.minimum(R, 1.1) * A
    assert found.loss == pytest.approx(-(w * R * A).sum(), rel=1e-14)
    np.testing.assert_allclose(found.gradient, -w * A * R, rtol=1e-14)


def test_a_penalty_is_taken_from_each_term() -> None:
    """beta k3(ref - logp): exp(d) - 1 - d, whose slope in logp is 1 - exp(d)."""
    ref = np.array([[-1.2, -0.9], [-1.0, -1.5]])
    found = evaluated(
        X, A, "at token { base pass }", "penalty 0.5 * k3(ref_logp - logp)", ref_logp=ref
    )
    d = ref - (X - 1.0)
    assert found.loss == pytest.approx(-(R * A - 0.5 * (np.exp(d) - 1 - d)).sum(), rel=1e-14)
    np.testing.assert_allclose(found.gradient, -(R * A - 0.5 * (1 - np.exp(d))), rtol=1e-13)
    assert found.metrics["penalty/mean"] == pytest.approx(0.5 * (np.exp(d) - 1 - d).mean())


def test_the_first_bypass_that_holds_counts() -> None:
    found = evaluated(
        X,
        A,
        "at token { base clip(0.1) }",
        "bypass when advantage > 0 and log_ratio >= 0.3 : ratio",
        "bypass when log_ratio > 0 or log_ratio < -0.1 : min(ratio, 1.05)",
    )
    G = [[R[0, 0], R[0, 1]], [1.0, 1.05]]
    np.testing.assert_allclose(found.gated_ratio, G, rtol=1e-14)
    np.testing.assert_allclose(found.gradient, -np.array(G) * A * [[1, 1], [1, 0]], rtol=1e-14)
    assert found.metrics["bypassed"] == 0.75


def test_the_first_case_that_holds_counts() -> None:
    found = evaluated(
        X,
        A,
        "at token { base pass }",
        "surrogate { 3 * ratio when log_ratio >= 0 and advantage > 0; "
        "2 * ratio when advantage > 0 or log_ratio < 0; ratio otherwise; }",
    )
    factor = np.array([[3.0, 2.0], [3.0, 1.0]])
    np.testing.assert_allclose(found.gradient, -factor * R * A, rtol=1e-14)


def test_aggregates_are_over_the_tokens_of_the_cell() -> None:
    """A let, a mean in a sum, and how many tokens there are: row 0 has one token, row 1 two."""
    x = np.array([[0.3, np.nan], [0.0, 0.1]])
    tensors = of_log_ratios(x, [[1.0], [-1.0]], uid=[7, 7])
    tensors["mask"] = np.isfinite(x)
    objective = spec(
        "log_ratio net",
        "token < trajectory < group by uid",
        "let drift = mean(log_ratio over trajectory)",
        "surrogate sum(drift / sum(1 over trajectory) over group)",
        "reduce mean over trajectory, mean over token",
    )
    found = objective.evaluate(**tensors)
    # Over the group: each trajectory's mean once, .3 + .05; J = .35 * (1 - 1) / 2.
    assert found.loss == pytest.approx(0.0, abs=1e-16)
    weighted = spec(
        "log_ratio net",
        "token < trajectory < group by uid",
        "surrogate sum(mean(log_ratio over trajectory) over group)",
        "reduce sum over trajectory, sum over token",
    ).evaluate(**tensors)
    # Every token of the group: .3 + 2 * .05; A sums to 1 - 2.
    assert weighted.loss == pytest.approx(0.4, rel=1e-14)
    np.testing.assert_allclose(weighted.gradient, [[1.0, 0.0], [1.0, 1.0]], rtol=1e-14)


def test_sums_of_gates_and_a_gate_before_them() -> None:
    """The signal is clipped token by token, then summed: .2 + .1, -.2 + 0."""
    objective = spec(
        "log_ratio net after clip(0.2)",
        "token < trajectory",
        "at trajectory { aggregate sum over token base pass }",
        "at token { fiber drop }",
        "reduce sum over trajectory, mean over token / 4",
    )
    tensors = of_log_ratios([[0.5, 0.1], [-0.3, 0.0]], [[1.0], [2.0]])
    found = objective.evaluate(**tensors)
    G = np.exp([[0.3], [-0.2]])
    np.testing.assert_allclose(found.gated_ratio, np.broadcast_to(G, (2, 2)), rtol=1e-14)
    assert found.loss == pytest.approx(-(G[0, 0] + 2 * G[1, 0]) / 4, rel=1e-14)
    moving = np.array([[0, 1], [0, 1]])
    np.testing.assert_allclose(found.gradient, -moving * G * [[1], [2]] / 4, rtol=1e-14)


# --- in generated code --------------------------------------------------------------------------

# Corners of the generated gradient: nothing flows, aggregates, choices and numbers alone.
CORNERS = {
    "no_gradient_at_all": "surrogate stopgrad(gated_ratio)",
    "no_gradient_but_a_penalty": "surrogate old_prob penalty k2(log_ratio)",
    "penalty_of_an_aggregate": "penalty mean(prob over trajectory)",
    "penalty_of_the_log_ratio": "penalty log_ratio",
    "nested_aggregates": "surrogate mean(mean(logp over trajectory) over group) * ratio",
    "numbers_of_arithmetic": "surrogate min(ratio / 1.69, ratio)",
    "choice_by_parameters": "bypass when k1(h) >= -0.2 : min(ratio, 2)",
    "choice_by_parameters_alone": "bypass when k1(h) >= 0.2 : min(ratio, 2)",
    "number_as_surrogate": "surrogate 2",
    "number_as_penalty": "penalty 0.5",
    "number_as_weight": "weight 0.1 + 0.2",
    "parameter_as_weight": "weight h * h",
}


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("statement", CORNERS)
def test_generated_code(statement: str, layout: str) -> None:
    objective = spec(
        "log_ratio net",
        "token < trajectory < group by uid",
        "param h : log = 0.15 in (0, 1)",
        "at token { base clip(0.1) }",
        CORNERS[statement],
        "reduce mean over trajectory, mean over token",
    )
    case = random_case(6, 7, seed=1)
    expected = reference(objective, case)
    found = compiled(objective.compile(backend=None), case, layout)
    assert found.loss == pytest.approx(expected.loss, rel=1e-13)
    assert np.abs(found.gradient - expected.gradient).max() <= 1e-15
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-13, abs=1e-15)


def test_ppo_as_its_paper_prints_it() -> None:
    printed = """objective printed {
      param  epsilon : deviation = 0.2 in (0, 1)
      signal ratio
      levels token < trajectory
      surrogate by_advantage(
        min(ratio, clip(ratio, 1 - epsilon, 1 + epsilon)),
        max(ratio, clip(ratio, 1 - epsilon, 1 + epsilon)))
      reduce mean over token
      require lower_bound
    }"""
    tensors = random_tensors(np.random.default_rng(3), rows=8, drift=0.3)
    expected, found = fibdsl.load("ppo").evaluate(**tensors), loaded(printed).evaluate(**tensors)
    assert found.loss == pytest.approx(expected.loss, rel=1e-13)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-13)


@pytest.mark.parametrize("name", shipped_specs())
def test_nan_at_a_token_that_counts_is_not_hidden(name: str) -> None:
    objective = fibdsl.load(name)
    loss_fn = objective.compile(backend=None)
    for tensor in ("logp", "old_logp", "advantages"):
        tensors = random_tensors(np.random.default_rng(0), rows=3, empty_rows=0)
        i = tuple(np.argwhere(tensors["mask"])[0])
        tensors[tensor][i] = np.nan
        if name == "reinforce" and tensor == "old_logp":
            continue  # the old policy does not enter
        assert np.isnan(objective.evaluate(**tensors).loss)
        assert np.isnan(compiled(loss_fn, torch_case(tensors), "padded").loss)
