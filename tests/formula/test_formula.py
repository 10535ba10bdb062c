"""Formulas: what they look like, that they say what the reference computes, and nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc.formula.formula import formula
from fibc.ir.functions import FUNCTIONS
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests.formula.evaluated import Evaluated
from tests.meaning.batches import Tensors, random_tensors
from tests.property.grammar import random_spec
from tests.property.specs import spec_text

MEANS = "J    = mean over trajectory of mean over token of term"
TOKENS = "J    = mean over token of term"

SHOWN = {
    "ppo": ["term = min(r A, clip(r, 1 − epsilon, 1 + epsilon) A)", TOKENS],
    "dapo": ["term = min(r A, clip(r, 1 − epsilon_low, 1 + epsilon_high) A)", TOKENS],
    "dr_grpo": [
        "term = min(r A, clip(r, 1 − epsilon, 1 + epsilon) A)",
        "J    = mean over trajectory of (sum over token of term) / length",
    ],
    "ppo_dual_clip": [
        "term = min(r, 1 + epsilon) A       where A ≥ 0",
        "       clip(r, 1 − epsilon, c) A   where A < 0",
        TOKENS,
    ],
    "gspo": [
        "S    = mean(log r over trajectory)",
        "term = min(exp(S) A, clip(exp(S), low, high) A)",
        MEANS,
    ],
    "gspo_token": [
        "u    = exp(sg(mean(log r over trajectory) − log r) + log r)",
        "term = min(u A, clip(u, low, high) A)",
        MEANS,
    ],
    "gmpo": [
        "x    = min(log r, epsilon)    where A ≥ 0",
        "       max(log r, −epsilon)   where A < 0",
        "S    = mean(x over trajectory)",
        "term = exp(S) A",
        MEANS,
    ],
    "fiberpo": [
        "x±   = max(±log r, 0)",
        "S±   = mean(x± over trajectory)",
        "y±   = rollback(S±; +c_plus, −c_minus, k = n(token in trajectory))",
        "       + clip(x± − S±, −epsilon, epsilon)",
        "term = exp(y⁺ − y⁻) A",
        MEANS,
    ],
    "fiberpo_overlays": [
        "x±   = max(±clip(log r, −20, 20), 0)",
        "S±   = mean(x± over trajectory)",
        "u±   = rollback(S±; delta / 2, k = n(token in trajectory))",
        "v±   = min(x± − S±, eps_neg)              where log r < 0",
        "       clip(x± − S±, −eps_neg, eps_neg)   otherwise",
        "y±   = u± + clip(x± − S±, −eps_pos, eps_pos)   where A ≥ 0",
        "       u± + v±                                 where A < 0",
        "G    = r              where A > 0 and log r < 0",
        "       min(r, c)      where A < 0 and log r > 0",
        "       exp(y⁺ − y⁻)   otherwise",
        "term = G A",
        MEANS,
    ],
    "apc": [
        "B    = max(0, delta n(token in state) − sum(|r − 1| over state) + |r − 1|)",
        "term = clip(r, 1 − B, 1 + B) A",
        TOKENS,
    ],
    "sapo": [
        "G    = 4 sigmoid(tau_pos (r − 1)) / tau_pos   where A ≥ 0",
        "       4 sigmoid(tau_neg (r − 1)) / tau_neg   where A < 0",
        "term = G A",
        MEANS,
    ],
    "cispo": ["term = sg(clip(r, 1 − epsilon_low, 1 + epsilon_high)) A log π", TOKENS],
    "dro": ["term = A log π − beta (log r)² / 2", TOKENS],
    "topr": [
        "w    = 1                                         where A ≥ 0",
        "       min(exp(sum(log r over trajectory)), 1)   where A < 0",
        "term = sg(w) A log π",
        "J    = mean over trajectory of sum over token of term",
    ],
    "vespo": [
        "S    = sum(clip(log r, −20, 20) over trajectory)",
        "u    = clip(S, −18.4207, 20)",
        "G    = exp(k_pos u + lambda_pos (1 − exp(u)))   where A ≥ 0",
        "       exp(k_neg u + lambda_neg (1 − exp(u)))   where A < 0",
        "term = sg(G) A log π",
        TOKENS,
    ],
}


@pytest.mark.parametrize("name", SHOWN)
def test_shown(name: str) -> None:
    assert formula(fibdsl.load(name).program).lines == SHOWN[name]


# --- it says what the reference computes --------------------------------------------------------

GATES = """
gate kinked(y, C) odd { y when |y| <= C; 2 * sign(y) * C - y when |y| < 2 * C; 0 otherwise; }
gate soft(x, tau : pure) { x - x * tanh(x) / tau }
gate leaning(x, a, b) { -a when advantage < 0 and x < 0; min(x, b) otherwise; }
"""
PARAMS = {"p": ": deviation = 0.2 in (0, 1)", "b": ": log = 0.04 in (0, 1)"}
MORE = [
    """signal ratio levels token < trajectory
    at token { base kinked(+p, -0.5 * p) pessimistic } reduce sum over token""",
    """signal log_ratio split levels token < turn by turn_id < trajectory < group by uid
    at group { base rollback(+b, -0.03, k = tokens) pessimistic aggregate mean over token }
    at trajectory { fiber soft(2) } at turn { fiber pass } at token { fiber clip(+b, -0.02) }
    reduce mean over group, sum over trajectory / 3, mean over token""",
    """signal log_ratio net after leaning(by_advantage(b, 0.1), 0.3) pessimistic
    levels token < trajectory < group by uid
    at group { base clip(+ratio(1.1), -ratio(0.8)) aggregate sum over trajectory }
    at trajectory { fiber leaning(b, 2 * b) aggregate sum over token }
    at token { fiber clip(inf) } reduce mean over token""",
    """signal log_ratio split after clip(+b, -0.05) pessimistic levels token < expert by expert_id
    at expert { base soft(by_advantage(2, 3)) } at token { fiber kinked(b) pessimistic }
    reduce mean over trajectory, mean over token""",
    """signal ratio net levels token < trajectory < group by uid
    at trajectory { base censor(0.1, over group) pessimistic } at token { fiber clip(0.2) }
    reduce mean over token""",
    """signal ratio levels token < trajectory < group by uid
    at token { base clip(p) pessimistic }
    bypass when prob > 0.9 or (advantage < 0 and ratio > 2) : min(ratio, 3)
    surrogate gated_ratio * sqrt(1 + sigmoid(gated_ratio)) / mean(ratio over group)
    weight mask(exp(mean(old_logp - rollout_logp over trajectory)), 0.8, 1.3)
    penalty { 0 when advantage > 0; 0.1 * k3(ref_logp - logp) + 0.2 * k2(log_ratio) otherwise; }
    reduce mean over token""",
    """signal ratio levels token < trajectory
    at token { base pass }
    let shifted = advantage - mean(advantage over trajectory)
    surrogate ratio * shifted / max(|advantage|, 0.01) * sum(by_advantage(1, 0) over trajectory)
    penalty 0.1 * k1(log_ratio) * tanh(mean(by_advantage(ratio, 2) over trajectory))
    reduce mean over token""",
]


def objectives() -> Iterator[Objective]:
    for name in shipped_specs():
        yield fibdsl.load(name)
    for index, statements in enumerate(MORE):
        used = set(re.findall(r"\w+", statements))
        params = [f"param {name} {of}" for name, of in PARAMS.items() if name in used]
        text = f"{GATES} objective more_{index} {{ {' '.join(params)} {statements} }}"
        yield fibdsl.load_text(text, promises=False)


OBJECTIVES = {objective.name: objective for objective in objectives()}


def batch(objective: Objective, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors = random_tensors(rng, drift=0.3, zero_advantages=0.1)
    for name in objective.tensors:
        apart = rng.normal(0.0, 0.2, tensors["mask"].shape)
        tensors[name] = np.minimum(tensors["old_logp"] + apart, -1e-3)
    return {**tensors, "keys": {key: tensors["keys"][key] for key in objective.keys}}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_what_the_reference_computes(name: str) -> None:
    objective = OBJECTIVES[name]
    found = formula(objective.program)
    for seed in range(3):
        tensors = batch(objective, seed)
        evaluated = Evaluated(found, objective.typed.levels, objective.params, tensors)
        assert evaluated.objective == pytest.approx(-objective.evaluate(**tensors).loss, rel=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(30))
def test_random_specs(seed: int) -> None:
    """Gates of one's own and expressions wherever they may stand."""
    objective = fibdsl.load_text(spec_text(random_spec(random.Random(seed))), promises=False)
    tensors = batch(objective, seed)
    found = formula(objective.program)
    evaluated = Evaluated(found, objective.typed.levels, objective.params, tensors)
    expected = -objective.evaluate(**tensors).loss
    assert evaluated.objective == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert not re.search(r"%|\w\.[a-z]|where\(", "\n".join(found.lines))


STEP = 1e-5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_derivative_is_the_gradient(name: str) -> None:
    """By differences, what stands in sg held fixed; not where a token is at a kink."""
    objective = OBJECTIVES[name]
    tensors = batch(objective, 7)
    found = formula(objective.program)
    expected = objective.evaluate(**tensors).gradient

    def evaluated(logp: Any, fixed: Evaluated | None = None) -> Evaluated:
        moved = {**tensors, "logp": logp}
        return Evaluated(found, objective.typed.levels, objective.params, moved, fixed)

    here = evaluated(tensors["logp"])
    compared = 0
    for place in np.argwhere(tensors["mask"])[::3]:
        step = np.zeros_like(tensors["logp"])
        step[tuple(place)] = STEP
        ahead, behind = (evaluated(tensors["logp"] + s, here).objective for s in (step, -step))
        if abs(ahead - 2 * here.objective + behind) < 1e-8:
            slope = (ahead - behind) / (2 * STEP)
            assert slope == pytest.approx(-expected[tuple(place)], rel=1e-4, abs=1e-6)
            compared += 1
    assert compared > 3


# --- what it is written in ----------------------------------------------------------------------

SYMBOLS = {"r", "π", "π_old", "π_ref", "π_rollout", "A", "log", "exp", "sg", "n", "k", "term", "J"}
WORDS = {"where", "otherwise", "and", "or", "mean", "sum", "over", "in", "of", "by", "rollback"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_names_that_it_explains(name: str) -> None:
    """Parameters, levels, functions, names defined before: no value of the program."""
    objective = OBJECTIVES[name]
    found = formula(objective.program)
    known = SYMBOLS | WORDS | set(FUNCTIONS) | set(objective.params)
    known |= set(objective.typed.level_names) | {"trajectory"}
    for d in found.definitions:
        if d.name.endswith("±"):
            known |= {d.name[:-1] + sign for sign in "±⁺⁻"}
        names = re.findall(r"[^\W\d]\w*[±⁺⁻]?", re.sub("[²³]", "", d.right))
        assert [n for n in names if n not in known] == []
        known.add(d.name)
    assert re.fullmatch(r"[\w\s|,;:.()±⁺⁻²³^+−<>≤≥=/]*", "".join(found.lines))


def test_parameters_with_names_of_symbols_are_quoted() -> None:
    text = """objective mine { param A : log = 0.1 in (0, 1) param x : log = 0.1 in (0, 1)
    signal log_ratio split levels token < trajectory
    at trajectory { base clip(+A, -0.5 * x) } at token { fiber drop } reduce sum over token }"""
    assert formula(fibdsl.load_text(text).program).lines == [
        "u±   = max(±log r, 0)",
        "S±   = mean(u± over trajectory)",
        "y±   = clip(S±; +'A', −x / 2)",
        "term = exp(y⁺ − y⁻) A",
        "J    = sum over token of term",
    ]


CELLS = """objective mine { param b : log = 0.1 in (0, 1)
signal log_ratio levels token < trajectory < domain by data_source
at domain { base rollback(+budget, -0.6 * budget) budget per cell { math: 0.05, else: b / 2 } }
at trajectory { fiber pass } at token { fiber pass } reduce mean over token }"""


def test_budgets_of_cells() -> None:
    objective = fibdsl.load_text(CELLS)
    found = formula(objective.program)
    assert found.lines[2:-2] == [
        "budget(domain) = 0.05    where data_source is math",
        "                 b / 2   otherwise",
        "y              = rollback(S_domain; +budget(domain), −0.6 budget(domain), "
        "k = n(trajectory in domain))",
        "                 − S_domain + log r",
    ]
    tensors = batch(objective, 0)
    tensors["cells"] = {"data_source": {"math": int(tensors["keys"]["data_source"][0])}}
    evaluated = Evaluated(found, objective.typed.levels, objective.params, tensors)
    expected = -objective.evaluate(**tensors).loss
    assert evaluated.objective == pytest.approx(expected, rel=1e-9)


# --- one meaning, one formula -------------------------------------------------------------------

OWN = """
gate held(z, bound) odd { inside: z when |z| <= bound; bound * sign(z) otherwise; }
gate pulled(z, bound, n : pure = tokens) odd {
  z when |z| <= bound;
  sign(z) * bound - n * (z - sign(z) * bound) when |z| < bound + bound / n;
  0 otherwise;
}
"""
SPLIT = "param p : log = 0.2 in (0, 1) signal log_ratio split levels token < trajectory"
CLIP = "at token { fiber clip(0.02) } reduce mean over token"
TOKEN = "signal ratio levels token < trajectory"
PASS = f"param p : ratio = 2 in (1, 9) {TOKEN} at token {{ base pass }} reduce mean over token"
NET = "signal log_ratio levels token < turn by turn_id < trajectory"

SAME = [
    [
        f"{SPLIT} at trajectory {{ base rollback(p / 2) }} {CLIP}",
        f"{SPLIT} at trajectory {{ base rollback(+0.5 * p, -(p / 4 + p / 4), k = tokens) }} {CLIP}",
        f"{SPLIT} at trajectory {{ base pulled(p * 0.5) }} {CLIP}",
        f"{SPLIT} < group by uid at trajectory {{ base rollback(p / 2) }} {CLIP}",
    ],
    [
        f"{TOKEN} at token {{ base clip(0.2) pessimistic }} reduce mean over token",
        f"{TOKEN} at token {{ base clip(+ratio(1.2), -ratio(0.8)) pessimistic }} "
        "reduce mean over token",
        f"{TOKEN} at token {{ base held(+0.2, -0.2) pessimistic }} reduce mean over token",
        f"{PASS} surrogate by_advantage(min(ratio, 1.2), max(0.8, ratio))",
    ],
    [
        f"{PASS} weight truncate(ratio, p) penalty 0.1 * k2(log_ratio)",
        f"{PASS} weight exp(min(log_ratio, log(p))) penalty log_ratio * log(ratio) / 20",
        f"{PASS} let cut = min(ratio, p) weight cut penalty 0.05 * log_ratio * log_ratio",
    ],
    [
        f"{PASS} surrogate stopgrad(ratio) * logp",
        f"{PASS} weight ratio surrogate logp",
    ],
    [
        f"{NET} at trajectory {{ base clip(0.1) }} at turn {{ fiber pass }} "
        "at token { fiber clip(inf) } reduce mean over token",
        f"{NET} at trajectory {{ base clip(0.1) }} at turn {{ fiber clip(inf) }} "
        "at token { fiber pass } reduce mean over token",
    ],
]


@pytest.mark.parametrize("bodies", SAME, ids=[str(index) for index in range(len(SAME))])
def test_one_meaning_one_formula(bodies: list[str]) -> None:
    shown = {
        "\n".join(formula(fibdsl.load_text(f"{OWN} objective any {{ {body} }}").program).lines)
        for body in bodies
    }
    assert len(shown) == 1


def test_a_difference_is_seen() -> None:
    shown = [
        tuple(formula(fibdsl.load_text(f"{OWN} objective any {{ {body} }}").program).lines)
        for bodies in SAME
        for body in bodies[:1]
    ]
    assert len(set(shown)) == len(shown)
