"""dG/dr of the generated code at and around r = 1, seen through the loss.

With four full rows of four tokens every weight mu_i is 1/16, a power of two, so that an advantage
of 1 on one token alone makes the gradient exactly -1/16 of that token's row of the Jacobian with
respect to log r.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fibdsl

SIDE = 4
TOKENS = SIDE * SIDE
KEYS = {
    "uid": torch.tensor([5, 5, -9, -9]),
    "data_source": torch.tensor([1, 1, 1, 1]),
    "state_id": torch.arange(SIDE).repeat(SIDE, 1),
}
SPECS = ["ppo", "grpo", "dapo", "apc", "fiberpo", "fiberpo_domain"]


def jacobian(loss_fn: Callable[..., Any], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """d G_i / d log r_j, (16, 16)."""
    rows = []
    for token in range(TOKENS):
        advantages = torch.zeros(TOKENS, dtype=torch.float64)
        advantages[token] = 1.0
        logp = torch.from_numpy(x.copy()).requires_grad_()
        old = torch.zeros(SIDE, SIDE, dtype=torch.float64)
        out = loss_fn(logp, old, advantages.view(SIDE, SIDE), torch.ones(SIDE, SIDE), KEYS)
        (gradient,) = torch.autograd.grad(out.loss, logp)
        rows.append(-TOKENS * gradient.numpy().reshape(-1))
    return np.stack(rows)


@pytest.mark.parametrize("spec", SPECS)
def test_exactly_the_identity_at_r_1(spec: str) -> None:
    J = jacobian(fibdsl.load(spec).compile(backend=None), np.zeros((SIDE, SIDE)))
    assert np.array_equal(J, np.eye(TOKENS))


@pytest.mark.parametrize("spec", SPECS)
def test_rows_that_mix_r_1_with_drift(spec: str) -> None:
    """Every gate passes, so G = r: the Jacobian is diagonal, off it exactly 0, on it r."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.004, (SIDE, SIDE))
    x[:, ::2] = 0.0
    J = jacobian(fibdsl.load(spec).compile(backend=None), x)
    assert np.array_equal(J - np.diag(np.diag(J)), np.zeros_like(J))
    assert np.abs(np.diag(J) - np.exp(x.reshape(-1))).max() <= 1e-15


@pytest.mark.parametrize("spec", ["fiberpo", "fiberpo_domain", "gspo"])
def test_a_token_at_r_1_has_the_limit_of_its_neighbours(spec: str) -> None:
    """Its trajectory drifts beyond the budgets; nothing may jump at r = 1."""
    loss_fn = fibdsl.load(spec).compile(backend=None)
    x = np.full((SIDE, SIDE), 0.3)
    x[:, 0] = 0.0
    at = jacobian(loss_fn, x)
    x[:, 0] = 1e-9
    assert np.abs(jacobian(loss_fn, x) - at).max() <= 1e-7


def test_blocks_are_the_cells_of_the_coarsest_level() -> None:
    x = np.random.default_rng(1).normal(0, 0.3, (SIDE, SIDE))
    J = jacobian(fibdsl.load("fiberpo").compile(backend=None), x)
    blocks = J.reshape(SIDE, SIDE, SIDE, SIDE)
    for row in range(SIDE):
        for other in range(SIDE):
            if row != other:
                assert not blocks[row, :, other].any()
    assert any((blocks[row, :, row] != 0).sum() > SIDE for row in range(SIDE))
