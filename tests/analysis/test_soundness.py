"""Random specs on random batches: what is proved never fails, what is refuted has a witness.

The judges are those of `checks.py`: definitions, and no analysis code. Rounding in float64 is
allowed for and nothing else.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc import interp
from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.analysis.property import Verdict
from fibc.analysis.regimes import regimes
from fibc.analysis.survey import extents, survey
from fibc.analysis.witnesses.extremes import extreme_trials
from fibc.ir import nodes as ir
from fibc.ir.interval import Interval, hull
from fibc.typed import Promise
from fibdsl.objective import Objective
from tests import deep
from tests.analysis import checks
from tests.analysis.checks import Tensors
from tests.analysis.random_cases import random_batch, random_spec, split_in_two

SPECS = 36
BATCHES = 40
EXTREME = 12
# Jacobians and steps in between cost many evaluations a batch.
SLOW = 10


@dataclass(frozen=True)
class Claim:
    """A property of an objective and what the analysis says of it, at the values or over the
    ranges of the parameters."""

    objective: Objective
    promise: str
    verdict: Verdict
    over_ranges: bool
    ranges: tuple[Interval, Interval]

    def __str__(self) -> str:
        where = "over the ranges" if self.over_ranges else "at the values"
        return f"{self.verdict.status} {where}: {self.promise}"


def claims(objective: Objective, rng: random.Random) -> Iterator[Claim]:
    facts = Facts.at(objective.typed, objective.params)
    wide = Facts.over_ranges(objective.typed).tight_ranges
    for s in survey(facts):
        yield Claim(objective, s.promise, s.at_values, False, facts.tight_ranges)
        yield Claim(objective, s.promise, s.over_ranges, True, wide)
    G = hull(facts.tight_ranges)
    low, high = max(float(G.low), -50.0), min(float(G.high), 50.0)
    for inner in (0.6, 0.97, 1.2):
        middle, half = (high + low) / 2, (high - low) / 2 * inner
        yield _within(objective, facts, Interval(middle - half, middle + half))
    yield _within(objective, facts, G)


def _within(objective: Objective, facts: Facts, range: Interval) -> Claim:
    promise = Promise("gated_ratio", objective.typed.span, within=range.exactly())
    verdict = PROPERTIES["gated_ratio"].decide(facts, promise)
    text = f"gated_ratio {float(range.low)!r} {float(range.high)!r}"
    return Claim(objective, text, verdict, False, facts.tight_ranges)


def violation(
    claim: Claim,
    objective: Objective,
    tensors: Tensors,
    rng: np.random.Generator,
    halves: bool = False,
) -> float:
    """How far the property fails on a batch, by its definition."""
    name, *words = claim.promise.split()
    G = checks.by_reference(objective)
    match name, words:
        case "first_order_agreement", []:
            return checks.first_order_agreement(objective, tensors, G)
        case "continuous", []:
            return jump(objective, tensors, rng)
        case "odd", []:
            return checks.odd(objective, tensors, G)
        case "lower_bound", []:
            return checks.lower_bound(objective, tensors, G)
        case "bounded", []:
            if claim.verdict.status == "refuted":
                return checks.grows(objective, tensors, G)
            return out_of_range(objective, tensors, claim.ranges)
        case "gated_ratio", [low, high]:
            return checks.outside(objective, tensors, G, float(low), float(high))
        case "block_diagonal", ["over", level]:
            return checks.block_diagonal(objective, tensors, G, level, rng)
        case "restorative", ["at", level]:
            return checks.restorative(objective, tensors, level)
        case "trust_region", ["tv", "<=", bound, *over]:
            names = objective.typed.level_names
            usual = "trajectory" if "trajectory" in names else names[-1]
            tv = float(bound)
            gate = objective.typed.gates["token"]
            if over and gate.budget is not None:  # the budget of a censor, whatever its value is
                facts = Facts.at(objective.typed, objective.params)
                tv = facts.value(gate.budget.upper)
            return checks.trust_region(objective, tensors, G, over[1] if over else usual, tv)
        case "split_invariant", []:
            rows = np.arange(len(tensors["mask"]))
            parts = np.array_split(rows, 2) if halves else split_in_two(rng, tensors)
            return checks.split_invariant(objective, tensors, parts)
    raise AssertionError(claim.promise)


def out_of_range(
    objective: Objective, tensors: Tensors, ranges: tuple[Interval, Interval]
) -> float:
    """How far G leaves what the analysis says is its range, for advantages of either sign."""
    G, worst = checks.by_reference(objective), 0.0
    for favoured, values in zip((True, False), ranges, strict=True):
        low, high = float(values.low), float(values.high)
        worst = max(worst, checks.outside(objective, tensors, G, low, high, favoured))
    return worst


def jump(objective: Objective, tensors: Tensors, rng: np.random.Generator) -> float:
    """The largest jump of G left on a way from this batch to another, halved fifty times towards
    where G changes most."""
    s = checks.signal(objective, tensors)
    end = s * rng.uniform(0.0, 2.5) + rng.normal(0.0, 0.02, s.shape)
    end = end if checks.is_log(objective) else np.maximum(end, -0.99)
    mask = np.asarray(tensors["mask"], bool)

    def at(t: float) -> Any:
        batch = checks.with_signal(objective, tensors, s + t * (end - s))
        return checks.by_reference(objective)(batch)[mask]

    ends = np.linspace(0.0, 1.0, 5)
    values = [at(float(t)) for t in ends]
    changes = [float(np.abs(b - a).max()) for a, b in itertools.pairwise(values)]
    widest = int(np.argmax(changes))
    low, high = float(ends[widest]), float(ends[widest + 1])
    below, above = values[widest], values[widest + 1]
    for _ in range(40):
        middle = (low + high) / 2
        value = at(middle)
        if np.abs(value - below).max() >= np.abs(above - value).max():
            high, above = middle, value
        else:
            low, below = middle, value
    left = float(np.abs(above - below).max())
    rounding = 1e-11 * max(1.0, float(np.abs(s).max()), float(np.abs(end).max()))
    return left if left > 1e-7 * max(1.0, float(np.abs(above).max())) + rounding else 0.0


SLOW_ONES = ("first_order_agreement", "continuous", "block_diagonal", "restorative")


def random_objective(rng: random.Random) -> Objective:
    return fibdsl.load_text(random_spec(rng))


def other_values(objective: Objective, rng: random.Random) -> Objective:
    values = {
        p.name: rng.uniform(float(p.range.low) + 1e-9, float(p.range.high) - 1e-9)
        for p in objective.declared
    }
    return objective.with_params(**values)


def batches_for(
    objective: Objective, rng: np.random.Generator, count: int = BATCHES
) -> list[Tensors]:
    found: list[Tensors] = [random_batch(rng) for _ in range(count)]
    facts = Facts.at(objective.typed, objective.params)
    found += [
        t.built.tensors
        for t in itertools.islice(extreme_trials(facts), EXTREME)
        if t.built.tensors["mask"].size <= 400
    ]
    return found


def search(seed: int, count: int = BATCHES) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the verdicts on a random spec, and how much was tried."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    objective = random_objective(rng)
    tried = {"batches": 0, "claims": 0, "witnesses": 0}
    wrong = []
    batches = batches_for(objective, generator, count)
    small = [t for t in batches if t["mask"].size <= 64]
    few = small[:: max(1, len(small) // SLOW)]
    for claim in claims(objective, rng):
        tried["claims"] += 1
        if claim.verdict.status == "proved":
            slow = claim.promise.startswith(SLOW_ONES)
            some = few[:3] if claim.promise == "continuous" else few if slow else batches
            for index, tensors in enumerate(some):
                here = other_values(objective, rng) if claim.over_ranges else objective
                tried["batches"] += 1
                far = violation(claim, here, tensors, generator)
                if far:
                    wrong.append(
                        f"{claim} fails by {far:g} on batch {index} at {dict(here.params)}"
                    )
                    break
            if claim.promise.startswith("restorative"):
                wrong += not_falling(claim, few, rng)
        elif claim.verdict.status == "refuted":
            witness = claim.verdict.witness
            assert witness is not None
            tried["witnesses"] += 1
            points = [objective]
            if claim.over_ranges:
                facts = Facts.over_ranges(objective.typed)
                points = [replace(objective, params=f.values or {}) for f in facts.samples]
            if not any(
                violation(claim, p, witness.tensors, generator, halves=True) for p in points
            ):
                wrong.append(f"{claim}, witness not confirmed: {witness.shows}")
    for over_ranges in (False, True):
        facts = Facts.at(objective.typed, objective.params)
        facts = Facts.over_ranges(objective.typed) if over_ranges else facts
        for tensors in batches:
            here = other_values(objective, rng) if over_ranges else objective
            if far := out_of_range(here, tensors, facts.tight_ranges):
                wrong.append(f"G leaves its range by {far:g}, {over_ranges=}, {dict(here.params)}")
                break
    return wrong + unreachable_reached(objective, batches), tried


def not_falling(claim: Claim, batches: list[Tensors], rng: random.Random) -> list[str]:
    """Cells scaled to just beyond the budget of a gate proved restorative, whose gate does not
    fall."""
    level = claim.promise.split()[-1]
    for tensors in batches:
        here = other_values(claim.objective, rng) if claim.over_ranges else claim.objective
        for scaled, token, sign in checks.just_beyond(here, tensors, level):
            if not checks.gate_falls(here, scaled, level, token, sign):
                return [f"{claim}, but the gate on {token} does not fall at {dict(here.params)}"]
    return []


def unreachable_reached(objective: Objective, batches: list[Tensors]) -> list[str]:
    facts = Facts.at(objective.typed, objective.params)
    known = {(r.level, r.channel, r.sign, r.advantage, r.name): r.reach for r in regimes(facts)}
    gates = [op for op in objective.program.ops if isinstance(op, ir.Gate)]
    for tensors in batches:
        run, rounding = checks.interpreted(objective, tensors), checks.scale_of(objective, tensors)
        for op in gates:
            x, state = run.values[op.x], interp.gate_state(op, run)
            channel = "+" if ".plus" in op.name else "-" if ".minus" in op.name else ""
            lean = {"up": ">= 0", "down": "< 0"}.get(op.name.rpartition(".")[2], "")
            for value, index in zip(x, state.regime, strict=True):
                if abs(value) < 1e-11 * rounding:
                    continue  # a residual that is 0 but for rounding has no sign
                name = op.rule.pieces[int(index)].regime
                at = (op.level, channel, "+" if value >= 0 else "-", lean if op.side else "", name)
                if known.get(at, "unreachable") == "unreachable":
                    return [f"unreachable {at} is reached by {value}"]
    return []


@pytest.mark.parametrize("seed", deep.cases(range(SPECS), 12))
def test_proofs_hold_and_refutations_are_shown(seed: int) -> None:
    wrong, tried = search(seed)
    assert not wrong, [random_spec(random.Random(seed)), *wrong]
    assert tried["batches"] >= 40
    assert tried["claims"] >= 12


@pytest.mark.parametrize("seed", range(1000, 1015))
def test_ranges_are_exact_where_they_say_so(seed: int) -> None:
    """Both ends are reached by a batch that the reference evaluates."""
    objective = random_objective(random.Random(seed))
    facts = Facts.at(objective.typed, objective.params)
    batches = [t.built.tensors for t in extreme_trials(facts)]
    found = {True: [1.0], False: [1.0]}
    for tensors in batches:
        G = checks.by_reference(objective)(tensors)
        for favoured, values in found.items():
            here = tensors["mask"] & ((tensors["advantages"] >= 0) == favoured)
            values += [float(v) for v in (G[here].min(), G[here].max())] if here.any() else []
    for extent, values in zip(extents(facts), found.values(), strict=True):
        assert extent.low - 1e-9 <= min(values)
        assert max(values) <= extent.high * (1 + 1e-9)
        if extent.exact:
            assert min(values) == pytest.approx(extent.low, rel=1e-6, abs=2e-3)
            assert max(values) == pytest.approx(extent.high, rel=1e-6) or max(values) > 1e6


# --- found by this search, or beside it ---------------------------------------------------------


def verdicts(statements: str) -> dict[str, tuple[str, str]]:
    objective = fibdsl.load_text(f"objective o {{ {statements} }}")
    found = survey(Facts.at(objective.typed, objective.params))
    return {s.promise: (s.at_values.status, s.over_ranges.status) for s in found}


def test_an_objective_that_drops_everything_is_analysed() -> None:
    """G = 1 whatever r is: in no cell does anything depend on anything."""
    found = verdicts(
        "signal log_ratio levels token < trajectory at token { base drop } reduce mean over token"
    )
    assert found["block_diagonal over token"] == ("proved", "proved")
    assert found["bounded"] == ("proved", "proved")
    assert found["first_order_agreement"] == ("refuted", "refuted")


def test_a_rollback_falls_for_any_positive_k() -> None:
    """Slope -k, k in (0, 2): negative, though 0 is an end of the range. That it is zero beyond
    (1 + 1/k) C is no refutation."""
    found = verdicts(
        "param p : pure = 1 in (0, 2) signal log_ratio levels token "
        "at token { base rollback(0.2, k = p) } reduce mean over token"
    )
    assert found["restorative at token"] == ("proved", "proved")


def test_a_budget_is_not_above_itself() -> None:
    """clip(0.2) on r - 1 keeps |G - 1| at most 0.2 exactly, which as a float is more than 1/5."""
    objective = fibdsl.load_text(
        "objective o { signal ratio levels token at token { base clip(0.2) } "
        "reduce mean over token require trust_region tv <= 0.2 require gated_ratio in [0.8, 1.2] }"
    )
    assert objective.checked.diagnostics == ()


def test_the_witness_against_a_censor_is_beyond_what_is_left() -> None:
    """A deviation above delta passes where the others of the cell leave enough; only one that is
    clipped shows that the gate does not fall."""
    objective = fibdsl.load_text(
        "objective o { signal ratio levels token < trajectory < group by uid "
        "at token { fiber censor(0.287, over group) } at trajectory { fiber clip(0.18) } "
        "at group { base clip(0.19) } reduce mean over token }"
    )
    facts = Facts.at(objective.typed, objective.params)
    [found] = [s.at_values for s in survey(facts) if s.promise == "restorative at token"]
    assert found.status == "refuted"
    assert found.witness is not None
    assert checks.restorative(objective, found.witness.tensors, "token") > 0
