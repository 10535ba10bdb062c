"""The figures of Fibration Policy Optimization (arXiv 2603.08239), at points worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fibdsl
from fibdsl.evaluation import Evaluation
from fibdsl.objective import Objective
from tests import closed_forms
from tests.closed_forms import Batch
from tests.meaning.batches import of_log_ratios, spec


def two_levels(c_plus: float, c_minus: float, k: int, token: str) -> Objective:
    return spec(
        "log_ratio split",
        "token < trajectory",
        f"at trajectory {{ base rollback(+{c_plus}, -{c_minus}, k = {k}) }}",
        f"at token {{ fiber {token} }}",
        "reduce mean over trajectory, mean over token",
    )


def regime(evaluation: Evaluation) -> str:
    """The global regime of a single trajectory, in the names of figures 2 and 3."""
    acting = [
        name
        for sign in ("plus", "minus")
        for name in ("rollback", "zeroed")
        if evaluation.metrics[f"regime/trajectory/{sign}/{name}"] == 1
    ]
    return f"G-{'I' * (1 + len(acting))}" + (",r" if "rollback" in acting else "")


# Thresholds: + channel .20 and .30, - channel .10 and .15.
@pytest.mark.parametrize(
    ("s_plus", "s_minus", "log_w", "name"),
    [
        (0.15, 0.05, 0.15 - 0.05, "G-I"),
        (0.15, 0.12, 0.15 - (3 * 0.1 - 2 * 0.12), "G-II,r"),
        (0.15, 0.16, 0.15, "G-II"),
        (0.24, 0.05, (3 * 0.2 - 2 * 0.24) - 0.05, "G-II,r"),
        (0.24, 0.16, 3 * 0.2 - 2 * 0.24, "G-III,r"),
        (0.31, 0.12, -(3 * 0.1 - 2 * 0.12), "G-III,r"),
        (0.31, 0.16, 0.0, "G-III"),
    ],
)
def test_figure_2b(s_plus: float, s_minus: float, log_w: float, name: str) -> None:
    objective = two_levels(0.20, 0.10, 2, "drop")
    evaluation = objective.evaluate(**of_log_ratios([[2 * s_plus, -2 * s_minus]]))
    np.testing.assert_allclose(evaluation.gated_ratio, np.exp([[log_w, log_w]]), rtol=1e-14)
    assert regime(evaluation) == name


# Along r = (1 + 2a, 1 - a, 1 - a), on the simplex mean r = 1: S- leaves its thresholds .09 and .12
# at a = .126 and .165, S+ its .15 and .20 at a = .284 and .411.
@pytest.mark.parametrize(
    ("a", "name"),
    [(0.1, "G-I"), (0.15, "G-II,r"), (0.3, "G-III,r"), (0.25, "G-II"), (0.45, "G-III")],
)
def test_figure_3b(a: float, name: str) -> None:
    s_plus, s_minus = math.log1p(2 * a) / 3, -2 * math.log1p(-a) / 3
    base = {
        "G-I": s_plus - s_minus,
        "G-II,r": s_plus - (4 * 0.09 - 3 * s_minus),
        "G-II": s_plus,
        "G-III,r": 4 * 0.15 - 3 * s_plus,
        "G-III": 0.0,
    }[name]
    x = [[math.log1p(2 * a), math.log1p(-a), math.log1p(-a)]]
    evaluation = two_levels(0.15, 0.09, 3, "clip(0.025)").evaluate(**of_log_ratios(x))
    # Every residual is beyond .025 here (L-III), own and opposite channel alike.
    expected = np.exp(base + np.array([[0.05, -0.05, -0.05]]))
    np.testing.assert_allclose(evaluation.gated_ratio, expected, rtol=1e-13)
    assert regime(evaluation) == name
    assert evaluation.metrics["tokens_clipped"] == 1


@pytest.mark.parametrize(("a", "clipped"), [(0.01, 0), (0.03, 1 / 3), (0.1, 1)])
def test_figure_3a(a: float, clipped: float) -> None:
    # Residuals of the first token: 2/3 log(1 + 2a) and S-; of the others S-/2 and S+.
    objective = two_levels(0.15, 0.09, 3, "clip(0.025)")
    x = [[math.log1p(2 * a), math.log1p(-a), math.log1p(-a)]]
    metrics = objective.evaluate(**of_log_ratios(x)).metrics
    assert metrics["tokens_clipped"] == pytest.approx(clipped)


def test_figure_4() -> None:
    drift = np.array([[0.5, -0.2, 0.4, -0.1, 0.3, -0.15, 0.45, -0.25, 0.35, 0.25]])
    advantages = np.sign(drift)
    objective = two_levels(0.12, 0.05, 32, "clip(0.04)")
    seen = []
    for t in np.linspace(0, 2, 101):
        x = np.log1p(t * drift)
        evaluation = objective.evaluate(**of_log_ratios(x, advantages))
        batch = Batch(x, np.zeros_like(x), advantages, np.ones(x.shape, bool), {})
        G, loss = closed_forms.fiberpo(batch, 0.12, 0.05, 0.04, k=32.0)
        np.testing.assert_allclose(evaluation.gated_ratio, G, rtol=1e-12)
        assert evaluation.loss == pytest.approx(loss, rel=1e-12, abs=1e-14)
        local = ("L-I", "L-II")[evaluation.metrics["tokens_clipped"] > 0]
        seen.append((local, regime(evaluation).removesuffix(",r")))
    # The token gate acts before the trajectory's, and the - channel's budget is used up first.
    order = list(dict.fromkeys(seen))
    assert order == [("L-I", "G-I"), ("L-II", "G-I"), ("L-II", "G-II"), ("L-II", "G-III")]
    # Far out the base weight is gone: what is left of G is the token's own clips.
    assert set(np.round(np.log(evaluation.gated_ratio), 12).reshape(-1)) <= {0.08, -0.08}


def test_the_rollback_steepness_of_a_trajectory_is_its_length() -> None:
    fiberpo = fibdsl.load("fiberpo", c_plus=0.2, c_minus=0.1, epsilon=0.02)
    for length in (1, 2, 5):
        x = np.full((1, length), 0.21)
        log_w = (length + 1) * 0.2 - length * 0.21
        G = fiberpo.gated_ratio(**of_log_ratios(x))
        np.testing.assert_allclose(np.log(G), log_w, rtol=1e-12)
