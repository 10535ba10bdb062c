"""The tables of docs/language.md about expressions and statements are true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fibdsl
from fibc import driver
from fibc.units import TOKEN_UNITS
from fibdsl.builtins import FUNCTIONS, REDUCTIONS
from fibdsl.diagnostics.rules import Severity
from fibdsl.resources import folder
from fibdsl.source import Source

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The rows of the one table whose first column has that heading."""
    pattern = rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)"
    [table] = re.findall(pattern, TEXT, re.MULTILINE)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in table.splitlines()
    ]


def code(cell: str) -> str:
    [text] = re.findall(r"^`(.+)`$", cell)
    return str(text)


def test_the_prelude_is_shown() -> None:
    [shown] = re.findall(r"^```prelude\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    prelude = (folder("grammar") / "prelude.fib").read_text(encoding="utf-8")
    assert prelude.endswith("edition 2026\n\n" + shown)


def test_every_name_at_the_token_is_listed() -> None:
    assert [code(row[0]) for row in rows("name at the token")] == list(TOKEN_UNITS)
    for name, _, space in rows("name at the token"):
        assert space == TOKEN_UNITS[code(name)].space


def test_every_function_is_listed() -> None:
    listed = [name for row in rows("function") for name in re.findall(r"`(\w+)\(", row[0])]
    assert sorted(listed) == sorted([*FUNCTIONS, *REDUCTIONS])


def test_values_of_estimators_are_those_listed() -> None:
    d = 0.7
    listed = dict(zip(("k1", "k2", "k3"), (-d, d**2 / 2, np.exp(d) - 1 - d), strict=True))
    for name, value in listed.items():
        assert at_one_token(f"{name}(log_ratio)", d)[0] == pytest.approx(value)


@pytest.mark.parametrize("row", rows("expression in x"), ids=lambda row: " ".join(row))
def test_values_and_slopes_at_special_points(row: list[str]) -> None:
    expression, x, value, slope = row
    found = at_one_token(re.sub(r"\bx\b", "log_ratio", code(expression)), float(x))
    assert found == pytest.approx((float(value), float(slope)))


@pytest.mark.parametrize("row", rows("correction"), ids=lambda row: row[0])
def test_weights_of_rollouts_check(row: list[str]) -> None:
    objective = fibdsl.load_text(SPEC.format(f"weight {code(row[1])}"))
    assert objective.typed.tensors == ("rollout_logp",)


def test_weights_of_rollouts_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    logp = -rng.random((4, 6)) - 0.5
    rollout = logp + rng.normal(0, 0.4, logp.shape)
    mask = np.ones(logp.shape, bool)
    mask[1, 4:] = False
    gaps = np.where(mask, logp - rollout, 0.0)
    length = mask.sum(1, keepdims=True)
    token, total = np.exp(gaps), np.exp(gaps.sum(1, keepdims=True))
    mean = np.exp(gaps.sum(1, keepdims=True) / length)
    wanted = (
        np.minimum(token, 2),
        np.minimum(total, 2),
        np.where((token >= 0.5) & (token <= 5), token, 0),
        np.where((mean >= 0.99) & (mean <= 1.01), mean, 0),
    )
    for row, weight in zip(rows("correction"), wanted, strict=True):
        objective = fibdsl.load_text(SPEC.format(f"weight {code(row[1])}"))
        # On fresh samples G is 1: the gradient is that of the weighted policy gradient.
        out = objective.evaluate(logp, logp, np.ones(logp.shape), mask, rollout_logp=rollout)
        weight = np.broadcast_to(weight, logp.shape)
        assert out.gradient == pytest.approx(np.where(mask, -weight, 0.0))
        assert out.metrics["weight/mean"] == pytest.approx(weight[mask].mean())


def test_aggregations_are_those_of_verl() -> None:
    """agg_loss of verl 0.9.1, of a loss that is -advantage at r = 1."""
    rng = np.random.default_rng(1)
    mask = np.ones((3, 5), bool)
    mask[0, 2:] = False
    A = np.where(mask, rng.normal(size=mask.shape), 0.0)
    sums, lengths = A.sum(1), mask.sum(1)
    wanted = {
        "token-mean": A.sum() / mask.sum(),
        "token-sum": A.sum(),
        "seq-mean-token-sum": sums.mean(),
        "seq-mean-token-sum-norm": sums.mean() / 64,
        "seq-mean-token-mean": (sums / lengths).mean(),
    }
    found = {}
    for mode, statement in rows("`loss_agg_mode`"):
        text = SPEC.format("param length : pure = 64 in [1, inf)")
        text = text.replace("reduce sum over token", code(statement))
        logp = np.full(mask.shape, -1.0)
        found[code(mode)] = -fibdsl.load_text(text).evaluate(logp, logp, A, mask).loss
    assert found == pytest.approx(wanted)


FITTING = (
    "min(ratio, 2)",
    "exp(log_ratio) - gated_ratio",
    "ratio - 1 + 0.5 * (gated_ratio - 1)",
    "log(ratio) - log_ratio",
    "prob * log_ratio / (logp - 1) + advantage",
    "ratio * ratio / exp(logp) + gated_ratio",
    "sqrt(1e-4 + log_ratio * log_ratio / 4) - 1",
    "log_ratio * log_ratio / (1 + abs(log_ratio)) + logp",
    "sigmoid(ratio) + tanh(log_ratio) + sign(ratio - 1)",
    "k1(log_ratio) + logp",
    "stopgrad(gated_ratio) * logp + advantage",
)
NOT_FITTING = (
    "ratio - log_ratio",
    "min(ratio, log_ratio)",
    "by_advantage(ratio, logp)",
    "exp(ratio)",
    "k2(ratio)",
    "log(log_ratio)",
    "sqrt(log_ratio)",
    "log_ratio * log_ratio + log_ratio",
)


@pytest.mark.parametrize("expression", FITTING)
def test_units_fit(expression: str) -> None:
    checked = driver.check(Source("o.fib", SPEC.format(f"penalty {expression}")))
    assert [d for d in checked.diagnostics if d.severity is Severity.ERROR] == []


@pytest.mark.parametrize("expression", NOT_FITTING)
def test_units_do_not_fit(expression: str) -> None:
    checked = driver.check(Source("o.fib", SPEC.format(f"penalty {expression}")))
    assert {"FIB302"} == {d.code for d in checked.diagnostics}


def test_what_is_written_out_means_the_same() -> None:
    """docs/proofs.md, What a spec means: names of gates and cases, let, use and extends."""
    grpo = fibdsl.load("grpo").semantic_hash
    written = """
        gate held(x, C) odd { inside: x when |x| <= C; outside: sign(x) * C otherwise; }
        objective other {
          param width : deviation = 0.2 in (0, 1)
          signal ratio
          levels token < trajectory
          at token { base held(width) pessimistic }
          reduce mean over trajectory, mean over token
        }"""
    assert fibdsl.load_text(written).semantic_hash == grpo
    reduce = "reduce mean over trajectory, mean over token"
    child = f'use "fibdsl:ppo.fib" objective o extends ppo {{ {reduce} }}'
    assert fibdsl.load_text(child).semantic_hash == grpo
    let = SPEC.format("let w = exp(old_logp - rollout_logp) weight truncate(w, 2)")
    out = SPEC.format("weight truncate(exp(old_logp - rollout_logp), 2)")
    assert fibdsl.load_text(let).semantic_hash == fibdsl.load_text(out).semantic_hash


SPEC = """objective o {{
  signal log_ratio
  levels token < trajectory
  at token {{ base pass }}
  {}
  reduce sum over token
}}
"""


def at_one_token(expression: str, log_ratio: float) -> tuple[float, float]:
    """Value and slope of an expression, as the surrogate of one token with advantage 1."""
    objective = fibdsl.load_text(SPEC.format(f"surrogate {expression}"))
    one = np.ones((1, 1))
    out = objective.evaluate(np.full((1, 1), -1.0), np.full((1, 1), -1.0 - log_ratio), one, one > 0)
    return -out.loss, -float(out.gradient[0, 0])
