"""Random specs with gates of any kind, and the shipped ones: what is proved never fails, ranges
hold every batch, and what is refuted has a witness.

The judges are definitions (`general_checks.py`) on plain numpy, and no analysis code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

import fibdsl
from fibc.analysis.facts import Facts
from fibc.analysis.properties import PROPERTIES
from fibc.analysis.property import Verdict
from fibc.analysis.survey import survey
from fibc.gates.define import define
from fibc.gates.rule import GateRule
from fibc.ir.functions import value
from fibc.ir.interval import Interval, hull
from fibc.parse import parse
from fibc.typed import Promise
from fibdsl.diagnostics.diagnostic import Diagnostics
from fibdsl.resources import shipped_specs
from fibdsl.source import Source
from tests import deep
from tests.analysis import general_checks as checks
from tests.analysis.general_cases import flat, random_spec, random_tensors
from tests.analysis.general_subjects import ByNumpy, ByReference, Subject, Values
from tests.analysis.random_cases import split_in_two
from tests.meaning.batches import Tensors
from tests.property.gate_draws import GateDraws
from tests.property.nodes import Floats, call, name
from tests.property.specs import Definition, spec_text

BATCHES = 24
# Derivatives and ways between batches cost many evaluations a batch.
FEW = {"first_order_agreement": 6, "continuous": 4, "block_diagonal": 5}


@dataclass(frozen=True)
class Claim:
    """A promise and its verdict, at the values of the parameters or over their ranges."""

    promise: str
    verdict: Verdict
    over_ranges: bool
    facts: Facts

    def __str__(self) -> str:
        where = "over the ranges" if self.over_ranges else "at the values"
        return f"{self.verdict.status} {where}: {self.promise}"


def claims(subject: Subject) -> Iterator[Claim]:
    objective = subject.objective
    facts = Facts.at(objective.typed, objective.params)
    wide = Facts.over_ranges(objective.typed)
    for s in survey(facts):
        if s.promise.startswith("restorative") and not isinstance(subject, ByNumpy):
            continue  # of one gate, not of values: test_soundness.py has the like
        yield Claim(s.promise, s.at_values, False, facts)
        yield Claim(s.promise, s.over_ranges, True, wide)
    for f, over_ranges in ((facts, False), (wide, True)):
        G = hull(f.tight_ranges)
        yield _within(f, over_ranges, G)
        if not over_ranges:
            middle = (max(float(G.low), -9.0) + min(float(G.high), 9.0)) / 2
            yield _within(f, over_ranges, Interval(middle - 0.2, middle + 0.2))


def _within(facts: Facts, over_ranges: bool, range: Interval) -> Claim:
    promise = Promise("gated_ratio", facts.objective.span, within=range.exactly())
    verdict = PROPERTIES["gated_ratio"].decide(facts, promise)
    text = f"gated_ratio {float(range.low)!r} {float(range.high)!r}"
    return Claim(text, verdict, over_ranges, facts)


def violation(
    claim: Claim,
    subject: Subject,
    tensors: Tensors,
    rng: np.random.Generator,
    halves: bool = False,
) -> float:
    """How far the property fails on a batch, by its definition."""
    name, *words = claim.promise.split()
    refuted = claim.verdict.status == "refuted"
    match name, words:
        case "first_order_agreement", []:
            return checks.first_order_agreement(subject, tensors, refuted)
        case "continuous", []:
            if refuted:
                return checks.neighbours_jump(subject, tensors)
            return checks.jump(subject, tensors, rng)
        case "odd", []:
            return checks.odd(subject, tensors)
        case "lower_bound", []:
            return checks.lower_bound(subject, tensors)
        case "bounded", []:
            if refuted:
                return checks.grows(subject, tensors)
            values = subject.values(tensors).factor
            advantages = checks.counted(tensors, tensors["advantages"])
            scale = checks.scale_of(values)
            return checks.outside(values, advantages, claim.facts.ranges.factor, scale)
        case "gated_ratio", [low, high]:
            G = subject.values(tensors).gated_ratio
            within = Interval(float(low), float(high))
            return checks.outside(G, np.ones(len(G)), (within, within), checks.scale_of(G))
        case "block_diagonal", ["over", level]:
            return checks.block_diagonal(subject, tensors, level, rng)
        case "restorative", ["at", level]:
            assert isinstance(subject, ByNumpy)
            return checks.restorative(subject, tensors, level)
        case "trust_region", ["tv", "<=", bound, *_]:
            names = subject.objective.typed.level_names
            usual = "trajectory" if "trajectory" in names else names[-1]
            return checks.trust_region(subject, tensors, usual, float(bound))
        case "split_invariant", []:
            rows = np.arange(len(tensors["mask"]))
            parts = np.array_split(rows, 2) if halves else split_in_two(rng, tensors)
            return checks.split_invariant(subject, tensors, parts)
    raise AssertionError(claim.promise)


def with_params(subject: Subject, params: Mapping[str, float]) -> Subject:
    objective = subject.objective.with_params(**params)
    if isinstance(subject, ByNumpy):
        return ByNumpy(objective, subject.spec)
    return ByReference(objective)


def other_values(subject: Subject, rng: random.Random) -> Subject:
    found = {}
    for p in subject.objective.declared:
        low, high = float(p.range.low), float(p.range.high)
        high = high if np.isfinite(high) else max(2 * low, 4.0) + 1.0
        found[p.name] = rng.uniform(low + 1e-9, high - 1e-9)
    return with_params(subject, found)


def out_of_range(facts: Facts, subject: Subject, tensors: Tensors) -> str:
    """What leaves its range, of G and of what the advantage is multiplied with."""
    values: Values = subject.values(tensors)
    advantages = checks.counted(tensors, tensors["advantages"])
    for what, found, ranges in (
        ("G", values.gated_ratio, facts.ranges.by_advantage),
        ("G, taken tightly", values.gated_ratio, facts.tight_ranges),
        ("factor", values.factor, facts.ranges.factor),
    ):
        if far := checks.outside(found, advantages, ranges, checks.scale_of(found)):
            return f"{what} leaves its range {[str(r) for r in ranges]} by {far:g}"
    return ""


def search(subject: Subject, seed: int, count: int = BATCHES) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the verdicts, and how much was tried."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    batches = [random_tensors(generator) for _ in range(count)]
    tried = {"proved": 0, "refuted": 0, "batches": 0}
    wrong: list[str] = []
    for claim in claims(subject):
        name = claim.promise.split()[0]
        if claim.verdict.status == "proved":
            tried["proved"] += 1
            for index, tensors in enumerate(batches[: FEW.get(name, count)]):
                here = other_values(subject, rng) if claim.over_ranges else subject
                tried["batches"] += 1
                if far := violation(claim, here, tensors, generator):
                    at = dict(here.objective.params)
                    wrong.append(f"{claim} fails by {far:g} on batch {index} at {at}")
                    break
        elif claim.verdict.status == "refuted":
            tried["refuted"] += 1
            witness = claim.verdict.witness
            assert witness is not None
            tensors = flat(witness.tensors)
            points = [with_params(subject, f.values or {}) for f in claim.facts.samples]
            if not any(violation(claim, p, tensors, generator, halves=True) for p in points):
                wrong.append(f"{claim}, witness not confirmed: {witness.shows}")
    for over_ranges in (False, True):
        objective = subject.objective
        facts = (
            Facts.over_ranges(objective.typed)
            if over_ranges
            else Facts.at(objective.typed, objective.params)
        )
        for index, tensors in enumerate(batches):
            here = other_values(subject, rng) if over_ranges else subject
            if left := out_of_range(facts, here, tensors):
                wrong.append(
                    f"{left}, {over_ranges=}, batch {index}, {dict(here.objective.params)}"
                )
                break
    return wrong, tried


def drawn(seed: int) -> tuple[ByNumpy, str]:
    spec = random_spec(random.Random(seed))
    text = spec_text(spec)
    return ByNumpy(fibdsl.load_text(text, promises=False), spec), text


@pytest.mark.parametrize("seed", range(12))
def test_random_specs(seed: int) -> None:
    subject, text = drawn(seed)
    wrong, tried = search(subject, seed)
    assert not wrong, [text, *wrong]
    assert tried["batches"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", deep.cases(range(100, 180), 16))
def test_more_random_specs(seed: int) -> None:
    subject, text = drawn(seed)
    wrong, _ = search(subject, seed)
    assert not wrong, [text, *wrong]


OLDER = {"ppo", "grpo", "dapo", "gspo", "apc", "fiberpo", "fiberpo_domain"}
"""Without expressions: tests/analysis/test_soundness.py has the like."""
LARGE = {"fiberpo_overlays", "fiberpo_turns"}
"""Whose properties take seconds to decide."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in sorted(set(shipped_specs()) - OLDER)
    ],
)
def test_shipped_specs(name: str) -> None:
    subject = ByReference(fibdsl.load(name, promises=False))
    wrong, tried = search(subject, 0, 8)
    assert not wrong, wrong
    assert tried["proved"] >= 5


WRITTEN = {
    "sum_of_what_is_held": "signal log_ratio net after clip(0.2) levels token < trajectory "
    "at trajectory { aggregate sum over token base pass } at token { fiber drop }",
    "sum_in_a_gate": "signal log_ratio split levels token < trajectory "
    "at trajectory { aggregate sum over token base clip(0.3) } at token { fiber clip(0.1) }",
    "sums_in_a_surrogate": "signal ratio levels token < trajectory "
    "surrogate exp(sum(clip(log_ratio, -0.1, 0.1) over trajectory))",
    "mean_in_a_surrogate": "signal ratio levels token < trajectory "
    "surrogate exp(mean(clip(log_ratio, -0.1, 0.1) over trajectory)) * min(ratio, 1.2)",
    "high_but_bounded": "signal ratio levels token surrogate 3e6 * ratio / (ratio + 1)",
    "as_large_as_numbers_are": "signal log_ratio levels token surrogate exp(k2(log_ratio))",
    "magnitudes": "signal ratio levels token surrogate abs(log_ratio) - max(log_ratio, -0.5)",
    "overlays": "signal log_ratio split after clip(2) levels token < trajectory "
    "at trajectory { base rollback(0.2) } at token { fiber clip(by_advantage(0.1, 0.2)) } "
    "bypass when advantage < 0 and log_ratio > 0 : min(ratio, 3) "
    "bypass when advantage > 0 and log_ratio < 0 : ratio",
    # What is not seen, and is so: the weight is put aside.
    "weighed_at_one": "signal ratio levels token < trajectory "
    "surrogate ratio * exp(old_logp) / exp(old_logp) weight 0.5",
    "not_weighed_at_one": "signal ratio levels token < trajectory surrogate logp weight log_ratio",
    "trajectories_that_are_no_level": "signal ratio levels token < expert by expert_id "
    "surrogate exp(mean(log_ratio over trajectory))",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_specs(name: str) -> None:
    text = f"objective {name} {{ {WRITTEN[name]} reduce mean over token }}"
    wrong, _ = search(ByReference(fibdsl.load_text(text)), 0, 16)
    assert not wrong, wrong


def test_what_is_seen_to_be_odd_is_odd() -> None:
    """Random bodies, all of which promise to be odd; most are refused."""
    seen = 0
    for seed in range(400):
        draws = GateDraws(random.Random(seed), 0, ["C"], ["w"], "", "cell")
        body = draws.body() if seed % 2 else draws.value(3)
        if seed % 4 == 0:
            body = call("sign", name("x")) * call("abs", body)
        gate = Definition("g", ("C", "w : pure"), body, odd=True)
        source = Source("<string>", str(gate))
        diagnostics = Diagnostics(source)
        file = parse(source, diagnostics, foreign=True)
        assert file is not None
        rule = define(file.gates[0], source, diagnostics)
        if diagnostics.found or rule is None:
            continue
        seen += 1
        rng = np.random.default_rng(seed)
        x = rng.normal(0.0, 0.4, 60)
        others = {"C": 0.2, "w": 1.3, "size": 3.0, "tokens": 5.0, "advantage": rng.choice([1, -1])}
        up, down = (gated(rule, side, others) for side in (x, -x))
        assert np.abs(up + down).max() <= 1e-12, str(gate)
    assert seen >= 40


def gated(rule: GateRule, x: Floats, others: Mapping[str, float]) -> Floats:
    inputs = [x if word == "x" else np.full_like(x, others[word]) for word in rule.inputs]
    *conditional, last = rule.cases
    found = np.broadcast_to(value(last.value, {}, inputs), x.shape)
    for case in reversed(conditional):
        assert case.condition is not None
        holds = value(case.condition, {}, inputs)
        found = np.where(holds, value(case.value, {}, inputs), found)
    return np.asarray(found)
