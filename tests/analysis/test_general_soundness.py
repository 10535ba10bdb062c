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
from fibc.ir.interval import Interval, hull
from fibc.typed import Promise
from fibdsl.resources import shipped_specs
from tests.analysis import general_checks as checks
from tests.analysis.general_cases import flat, random_spec, random_tensors
from tests.analysis.general_checks import ByNumpy, ByReference, Subject, Values
from tests.analysis.random_cases import split_in_two
from tests.meaning.batches import Tensors
from tests.property.specs import spec_text

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
    match name, words:
        case "first_order_agreement", []:
            return checks.first_order_agreement(subject, tensors)
        case "continuous", []:
            if claim.verdict.status == "refuted":
                return checks.neighbours_jump(subject, tensors)
            return checks.jump(subject, tensors, rng)
        case "odd", []:
            return checks.odd(subject, tensors)
        case "lower_bound", []:
            return checks.lower_bound(subject, tensors)
        case "bounded", []:
            values = subject.values(tensors).factor
            if claim.verdict.status == "refuted":
                return float(np.abs(values).max(initial=0.0)) // 1e5
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
@pytest.mark.parametrize("seed", range(100, 180))
def test_more_random_specs(seed: int) -> None:
    subject, text = drawn(seed)
    wrong, _ = search(subject, seed)
    assert not wrong, [text, *wrong]


OLDER = {"ppo", "grpo", "dapo", "gspo", "apc", "fiberpo", "fiberpo_domain"}
"""Without expressions: tests/analysis/test_soundness.py has the like."""


@pytest.mark.parametrize("name", sorted(set(shipped_specs()) - OLDER))
def test_shipped_specs(name: str) -> None:
    subject = ByReference(fibdsl.load(name, promises=False))
    wrong, tried = search(subject, 0, 12)
    assert not wrong, wrong
    assert tried["proved"] >= 5
