"""What is known of each shipped spec: every verdict reasoned out by hand, every refutation judged
by the closed forms of the papers, the ends of G computed from the budgets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fibdsl
from fibc.analysis.facts import Facts
from fibc.analysis.survey import extents, survey
from fibdsl.cli.main import main
from fibdsl.files import read_tensors
from fibdsl.report import EvalReport
from tests.analysis import checks
from tests.analysis.checks import Floats, Tensors
from tests.closed_forms import Batch, fiberpo, hierarchy
from tests.meaning.forms import DOMAIN, GROUP, SHIPPED, TRAJECTORY

P, R, U = "proved", "refuted", "unknown"

# At the defaults, over the ranges.
TABLE: dict[str, dict[str, tuple[str, str]]] = {
    # G = 1 + clip(r - 1, ±B), B what the others of the state leave of n delta.
    "apc": {
        # At r = 1 a token may use all of n delta > 0.
        "first_order_agreement": (P, P),
        # max(0, .) and clip are continuous, also in their budget.
        "continuous": (P, P),
        # B depends on |r - 1| only.
        "odd": (P, P),
        # False: one of n tokens may be at 1 + n delta, n is any number. No small batch shows it.
        "bounded": (U, U),
        # B of one token moves with its neighbours, but with no other state.
        # r = 0.5, A > 0 is raised towards 1.
        "lower_bound": (R, R),
        "block_diagonal over token": (R, R),
        "block_diagonal over state": (P, P),
        # Beyond B it is clipped: slope 0.
        "restorative at token": (R, R),
        # The budget of definition 3.2 itself, whatever delta is.
        "trust_region tv <= 0.1 over state": (P, P),
        # states are cells of ids, rows cut them: the rest of a state looks like a state.
        "split_invariant": (R, R),
    },
    # min(r A, clip(r, 1 - e, 1 + e) A): each token by itself.
    **{
        name: {
            # e > 0, so that r itself is taken near 1.
            "first_order_agreement": (P, P),
            "continuous": (P, P),
            # For A >= 0 only the upper bound acts: r = 1.3 becomes 1.2, r = 0.7 stays.
            "odd": (R, R),
            # For A < 0 nothing bounds r from above.
            "bounded": (R, R),
            # min(r A, .) <= r A.
            "lower_bound": (P, P),
            "block_diagonal over token": (P, P),
            "block_diagonal over trajectory": (P, P),
            # Beyond its bound it is constant.
            "restorative at token": (R, R),
            # G is of one token, and the divisors are counts that may be given.
            "split_invariant": (P, P),
        }
        for name in ("ppo", "grpo", "dapo")
    },
    # s = exp(mean log r), clipped pessimistically, the same for all tokens of a row.
    "gspo": {
        # dG_i / dr_j = 1 / T for all i and j of a row.
        "first_order_agreement": (R, R),
        "continuous": (P, P),
        # Pessimistic, as PPO.
        "odd": (R, R),
        "bounded": (R, R),
        # s A <= (mean over the row of r A), but not for each token.
        "lower_bound": (R, R),
        "block_diagonal over token": (R, R),
        "block_diagonal over trajectory": (P, P),
        "restorative at trajectory": (R, R),
        # Dropped: slope 0 at any residual.
        "restorative at token": (R, R),
        # Rows are whole in either part.
        "split_invariant": (P, P),
    },
    # log G = g(S+; C+) - g(S-; C-) + clip(x+ - S+; e) - clip(x- - S-; e)
    "fiberpo": {
        "first_order_agreement": (P, P),
        # g meets at C and at (1 + 1/T) C.
        "continuous": (P, P),
        # C+ and C- differ.
        "odd": (R, R),
        # |log G| <= max(C+, C-) + 2 e, at most 3 over the ranges.
        "bounded": (P, P),
        # The gates do not look at the advantage.
        "lower_bound": (R, R),
        "block_diagonal over token": (R, R),
        "block_diagonal over trajectory": (P, P),
        # Slope -T beyond C.
        "restorative at trajectory": (P, P),
        # A clip.
        "restorative at token": (R, R),
        # exp(0.24) - 1 = 0.27125; with budgets near 1 |G - 1| comes near e^3 - 1.
        "trust_region tv <= 0.272": (P, R),
        "split_invariant": (P, P),
    },
    "fiberpo_domain": {
        "first_order_agreement": (P, P),
        "continuous": (P, P),
        "odd": (R, R),
        "bounded": (P, P),
        # The gates do not look at the advantage.
        "lower_bound": (R, R),
        "block_diagonal over token": (R, R),
        # The gates of group and domain couple rows; beyond the domain there is no gate.
        "block_diagonal over trajectory": (R, R),
        "block_diagonal over group": (R, R),
        "block_diagonal over domain": (P, P),
        "restorative at domain": (P, P),
        "restorative at group": (P, P),
        "restorative at trajectory": (P, P),
        "restorative at token": (R, R),
        # exp(0.46) - 1 = 0.58407.
        "trust_region tv <= 0.585": (P, R),
        # A part of a domain has another aggregate.
        "split_invariant": (R, R),
    },
}

REFUTED = [
    (name, promise) for name, row in TABLE.items() for promise in row if row[promise][0] == R
]


def facts_of(name: str) -> Facts:
    objective = fibdsl.load(name)
    return Facts.at(objective.typed, objective.params)


@pytest.mark.parametrize("name", TABLE)
def test_every_verdict(name: str) -> None:
    found = {s.promise: (s.at_values.status, s.over_ranges.status) for s in survey(facts_of(name))}
    assert found == TABLE[name]


# --- refutations --------------------------------------------------------------------------------


def closed_batch(tensors: Tensors) -> Batch:
    keys = {n: np.asarray(t, np.int64) for n, t in tensors.items() if n not in checks.TOKENS}
    logp, old_logp, A = (np.asarray(tensors[n], np.float64) for n in checks.TOKENS[:3])
    return Batch(logp, old_logp, A, np.asarray(tensors["mask"], bool), keys)


def by_closed_form(name: str) -> checks.GatedRatio:
    return lambda tensors: SHIPPED[name].closed_form(closed_batch(tensors))[0]


def weighted_loss(name: str, tensors: Tensors) -> float:
    """The closed form's loss, not divided by the number of outermost cells."""
    valid = np.asarray(tensors["mask"], bool)
    outer = SHIPPED[name].objective.typed.reduce[0].level
    count = int(valid.sum()) if outer == "token" else int(valid.any(axis=1).sum())
    return SHIPPED[name].closed_form(closed_batch(tensors))[1] * count


def violated(name: str, promise: str, tensors: Tensors) -> float:
    objective, G = SHIPPED[name].objective, by_closed_form(name)
    match promise.split():
        case ["first_order_agreement"]:
            return checks.first_order_agreement(objective, tensors, G)
        case ["odd"]:
            return checks.odd(objective, tensors, G)
        case ["lower_bound"]:
            return checks.lower_bound(objective, tensors, G)
        case ["bounded"]:
            return checks.grows(objective, tensors, G)
        case ["block_diagonal", "over", level]:
            return checks.block_diagonal(objective, tensors, G, level, np.random.default_rng(0))
        case ["restorative", "at", level]:
            return checks.restorative(objective, tensors, level)
        case ["split_invariant"]:
            rows = np.array_split(np.arange(len(tensors["mask"])), 2)
            parts = [{n: t[half] for n, t in tensors.items()} for half in rows]
            apart = sum(weighted_loss(name, part) for part in parts) - weighted_loss(name, tensors)
            return abs(apart) if abs(apart) > 1e-9 else 0.0
    raise AssertionError(promise)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """The witness files that `fib explain NAME --witnesses DIR` wrote, by promise."""
    return {name: {} for name in TABLE} | {"": {"": tmp_path_factory.mktemp("witnesses")}}


def witness_file(
    shown: dict[str, dict[str, Path]],
    name: str,
    promise: str,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    if not shown[name]:
        assert main(["explain", name, "--witnesses", str(shown[""][""] / name), "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for entry in json.loads(out)["properties"]:
            if entry["witness_file"]:
                shown[name][entry["property"]] = Path(entry["witness_file"])
    return shown[name][promise]


def evaluated(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> EvalReport:
    assert main(["eval", name, "--batch", str(file), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return EvalReport.model_validate_json(out)


@pytest.mark.parametrize(("name", "promise"), REFUTED)
def test_the_witness_is_a_batch_file_that_breaks_the_property(
    shown: dict[str, dict[str, Path]],
    capsys: pytest.CaptureFixture[str],
    name: str,
    promise: str,
) -> None:
    file = witness_file(shown, name, promise, capsys)
    report = evaluated(name, file, capsys)
    tensors: dict[str, NDArray[Any]] = dict(read_tensors(file))
    G, loss = SHIPPED[name].closed_form(closed_batch(tensors))
    assert report.loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    mean = float(G[np.asarray(tensors["mask"], bool)].mean())
    assert report.metrics["gated_ratio/mean"] == pytest.approx(mean, rel=1e-9)
    assert violated(name, promise, tensors) > 0


def test_only_refuted_properties_have_witnesses(
    shown: dict[str, dict[str, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in TABLE:
        first = next(promise for n, promise in REFUTED if n == name)
        witness_file(shown, name, first, capsys)
        assert {(name, promise) for promise in shown[name]} == {r for r in REFUTED if r[0] == name}


def test_ppo_is_unbounded_where_the_advantage_is_negative(
    shown: dict[str, dict[str, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    """min(r A, clip(r) A) is r A for A < 0 and r > 1: the loss of a batch with A = -1 and r of a
    million and more is the mean of the ratios."""
    file = witness_file(shown, "ppo", "bounded", capsys)
    tensors = read_tensors(file)
    r = np.exp(tensors["logp"] - tensors["old_logp"])
    assert (tensors["advantages"] < 0).all()
    assert r.max() >= 1e6
    report = evaluated("ppo", file, capsys)
    A = tensors["advantages"]
    expected = float(-(np.maximum(r, 0.8) * A).mean())
    assert report.loss == pytest.approx(expected, rel=1e-12)
    assert report.loss > 1e5


# --- the range of G -----------------------------------------------------------------------------


def hand(tokens: list[list[float]], **keys: list[int]) -> Batch:
    x = np.array(tokens)
    shape = x.shape
    ids = {name: np.array(values) for name, values in keys.items()}
    return Batch(x, np.zeros(shape), np.ones(shape), np.ones(shape, bool), ids)


def check_end(name: str, expected: float, G: Floats, batch: Batch) -> None:
    """Token (0, 0) is at an end of the range, by the closed form and by the reference."""
    assert G[0, 0] == pytest.approx(expected, rel=1e-12)
    objective = fibdsl.load(name)
    found = objective.gated_ratio(
        batch.logp, batch.old_logp, batch.advantages, batch.mask, dict(batch.keys)
    )
    assert found[0, 0] == pytest.approx(expected, rel=1e-12)


def test_the_largest_ratio_of_fiberpo() -> None:
    """S+ = 0.2 passes, S- = 0.5 is zeroed, and both token clips are at epsilon: C+ + 2 epsilon."""
    batch = hand([[0.4, 0.4, -1.0, -1.0]])
    check_end("fiberpo", math.exp(0.2 + 2 * 0.02), fiberpo(batch, 0.2, 0.1, 0.02)[0], batch)


def test_the_smallest_ratio_of_fiberpo() -> None:
    """The mirror image: S- = 0.1 passes, S+ = 0.5 is zeroed: -(C- + 2 epsilon)."""
    batch = hand([[-0.2, -0.2, 1.0, 1.0]])
    check_end("fiberpo", math.exp(-(0.1 + 2 * 0.02)), fiberpo(batch, 0.2, 0.1, 0.02)[0], batch)


def domain_batch(sign: float, budgets: tuple[float, float, float]) -> Batch:
    """One domain of four groups, the first of four rows. On the way to token (0, 0) every aggregate
    of its channel is above the next coarser one by the budget, and every one of the other channel,
    0.5 in the domain (zeroed there), below by that gate's other budget."""
    domain, group, row = budgets
    others = {0.05: (0.05, 0.09), 0.03: (0.08, 0.15)}[domain]
    own_group, own_row = domain + group, domain + group + row
    other_group, other_row = 0.5 - others[0], 0.5 - sum(others)

    def cell(own: float, other: float) -> list[float]:
        return [sign * 2 * own, sign * 2 * own, -sign * 2 * other, -sign * 2 * other]

    rows = [cell(own_row, other_row)]
    rows += [cell((4 * own_group - own_row) / 3, (4 * other_group - other_row) / 3)] * 3
    rows += [cell((4 * domain - own_group) / 3, (2.0 - other_group) / 3)] * 3
    return hand(rows, uid=[0, 0, 0, 0, 1, 2, 3], data_source=[7] * 7)


@pytest.mark.parametrize(
    ("sign", "budgets", "log_G"),
    [
        # All + budgets pass, all - budgets of the fibers are used up downwards.
        (1.0, (0.05, 0.08 - 1e-12, 0.15 - 1e-12), 0.05 + 0.08 + 0.15 + 0.05 + 0.09 + 2 * 0.02),
        (-1.0, (0.03, 0.05 - 1e-12, 0.09 - 1e-12), -(0.03 + 0.05 + 0.09 + 0.08 + 0.15 + 2 * 0.02)),
    ],
)
def test_the_ends_of_fiberpo_domain(
    sign: float, budgets: tuple[float, float, float], log_G: float
) -> None:
    batch = domain_batch(sign, budgets)
    G = hierarchy(batch, [TRAJECTORY, GROUP, DOMAIN], 0.02)[0]
    assert math.log(G[0, 0]) == pytest.approx(log_G, abs=1e-9)
    objective = fibdsl.load("fiberpo_domain")
    found = objective.gated_ratio(
        batch.logp, batch.old_logp, batch.advantages, batch.mask, dict(batch.keys)
    )
    assert math.log(found[0, 0]) == pytest.approx(log_G, abs=1e-9)


RANGES = {
    "ppo": ((0.0, 1.2), (0.8, math.inf)),
    "grpo": ((0.0, 1.2), (0.8, math.inf)),
    "dapo": ((0.0, 1.28), (0.8, math.inf)),
    "gspo": ((0.0, 1.0004), (0.9997, math.inf)),
    "apc": ((0.0, math.inf), (0.0, math.inf)),
    "fiberpo": ((math.exp(-0.14), math.exp(0.24)),) * 2,
    "fiberpo_domain": ((math.exp(-0.44), math.exp(0.46)),) * 2,
}


@pytest.mark.parametrize("name", RANGES)
def test_the_range_of_the_gated_ratio(name: str) -> None:
    """Where A >= 0 and where A < 0, from the budgets; all but that of APC reached by batches."""
    found = extents(facts_of(name))
    for extent, (low, high) in zip(found, RANGES[name], strict=True):
        assert extent.low == pytest.approx(low, rel=1e-12)
        assert extent.high == pytest.approx(high, rel=1e-12)
        assert extent.exact == (name != "apc")
