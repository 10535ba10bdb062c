"""The semantic hash, and what `compare` says of two objectives: reasoned by hand, shown."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc.analysis.compare import Change, Comparison, compare
from fibc.analysis.facts import Facts
from fibc.analysis.witnesses.witness import Witness
from fibc.gates.builtin import builtin_gates
from fibdsl.objective import Objective
from tests import deep
from tests.analysis import checks
from tests.analysis.mutants import TEXT, Mutant
from tests.analysis.random_cases import CHAINS, random_batch, random_spec
from tests.analysis.test_mutants import SPECS, mutant_text


def unpromised(text: str) -> Objective:
    """The objective of a spec without what it promises, so that a mutant of it can be evaluated."""
    return fibdsl.load_text(re.sub(r"^ *require .*$", "", text, flags=re.MULTILINE))


def facts_of(objective: Objective) -> Facts:
    return Facts.at(objective.typed, objective.params)


def compared(old: Objective, new: Objective) -> Comparison:
    return compare(facts_of(old), facts_of(new))


def edited(name: str, *edits: tuple[str, str]) -> Objective:
    return unpromised(mutant_text(Mutant(name, "", edits)))


def confirmed(old: Objective, new: Objective, witness: Witness | None) -> tuple[float, float]:
    """How far apart losses and gradients are on the witness, by the reference."""
    assert witness is not None
    a, b = (checks.evaluation(o, witness.tensors) for o in (old, new))
    return abs(a.loss - b.loss), float(np.abs(a.gradient - b.gradient).max())


# --- the hash: what does not matter -------------------------------------------------------------


def statements(name: str) -> tuple[str, list[str]]:
    """The head of a shipped spec and its statements, a line each, without comments."""
    lines = [re.sub(r"#.*", "", line).rstrip() for line in SPECS[name].splitlines()]
    lines = [line for line in lines if line]
    start = next(i for i, line in enumerate(lines) if line.startswith("objective"))
    assert lines[-1] == "}"
    return lines[start], lines[start + 1 : -1]


def stands_alone(text: str) -> bool:
    """Whether a spec is one objective, with a line a statement, that can stand in any order."""
    return not re.search(r"^(use|gate| *let) ", text, re.MULTILINE)


ALONE = [name for name, text in SPECS.items() if stands_alone(text)]


RENAMED = {
    "epsilon": "width",
    "epsilon_high": "a",
    "epsilon_low": "zz",
    "c_plus": "z_last",
    "c_minus": "a_first",
    "delta": "radius",
    "high": "top",
    "low": "bottom",
    "domain_plus": "z1",
    "domain_minus": "b",
    "group_plus": "y",
    "group_minus": "c",
    "trajectory_plus": "x",
    "trajectory_minus": "d",
    # levels; their keys stay
    "group": "prompt",
    "domain": "corpus",
    "state": "prefix",
}


def renamed(name: str, text: str) -> str:
    words = {**RENAMED, name: "another"}
    return re.sub(r'"[^"]*"|\w+', lambda m: words.get(m[0], m[0]), text)


@pytest.mark.parametrize("name", ALONE)
def test_layout_order_and_names_do_not_change_the_hash(name: str) -> None:
    expected = fibdsl.load(name).semantic_hash
    head, lines = statements(name)
    rng = random.Random(name)
    for _ in range(10):
        rng.shuffle(lines)
        shuffled = "\n".join([head, *lines, "}"])
        assert fibdsl.load_text(shuffled).semantic_hash == expected
        assert fibdsl.load_text(renamed(name, shuffled)).semantic_hash == expected
    spaced = re.sub(
        r"[ \t]+", "\n\n  ", "\n".join([head, *(x for x in lines if '"' not in x), "}"])
    )
    assert fibdsl.load_text(f"# a remark\n{spaced} # another").semantic_hash == expected


@pytest.mark.parametrize("name", ALONE)
def test_layout_and_order_are_no_difference_at_all(name: str) -> None:
    head, lines = statements(name)
    again = fibdsl.load_text("\n".join([head, *sorted(lines, reverse=True), "}"]))
    assert compared(fibdsl.load(name), again) == Comparison(Change.SAME)


def test_the_hashes_of_different_losses_differ() -> None:
    hashes = {name: fibdsl.load(name).semantic_hash for name in SPECS}
    assert len(set(hashes.values())) == len(SPECS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("clip(2 * 0.1)", "clip(0.2)"),
        ("clip(c / 4)", "clip(0.25 * c)"),
        ("clip(c + 0.1 + c / 2)", "clip(0.1 + c / 2 + c)"),
        ("clip(+c, -c)", "clip(c)"),
        ("rollback(c, k = 2 + 2)", "rollback(c, k = 8 / 2)"),
    ],
)
def test_arithmetic_in_other_words(one: str, other: str) -> None:
    a, b = (at_token(gate).semantic_hash for gate in (one, other))
    assert a == b


def at_token(gate: str) -> Objective:
    return fibdsl.load_text(
        "objective o { param c : log = 0.2 in (0.01, 0.9) signal log_ratio "
        f"levels token < trajectory at token {{ base {gate} }} reduce mean over token }}"
    )


def test_the_order_of_a_sum_of_two_parameters() -> None:
    def summed(budget: str) -> str:
        return fibdsl.load_text(
            "objective o { param c : log = 0.1 in (0, 1) param d : log = 0.2 in (0, 1) "
            f"signal log_ratio levels token at token {{ base clip({budget}) }} "
            "reduce mean over token }"
        ).semantic_hash

    assert summed("c + d") == summed("d + c")


# --- the hash: what matters ---------------------------------------------------------------------


def checks_without_promises(mutant: Mutant) -> bool:
    return not any(code < "FIB5" for code in mutant.codes)


MEANINGFUL = [m for m in TEXT if checks_without_promises(m)]
CONSTANTS = {
    # The value of the parameter in its place: the same loss at the defaults, no parameter.
    "fiberpo: +c_plus, -c_minus -> +c_plus, -0.1",
    "ppo: clip(epsilon) -> clip(0.2)",
    "apc: censor(delta, -> censor(0.1,",
    "gspo: -ratio(low) -> -ratio(0.9997)",
}
# The same loss by another route, which the hash does not see through.
UNKNOWN = {
    "ppo: signal ratio -> signal ratio split",
}


@pytest.mark.parametrize("mutant", MEANINGFUL, ids=lambda m: m.name)
def test_the_hash_of_a_mutant(mutant: Mutant) -> None:
    old, new = unpromised(SPECS[mutant.spec]), unpromised(mutant_text(mutant))
    same = mutant.same_loss and mutant.name not in UNKNOWN
    assert (old.semantic_hash == new.semantic_hash) == same


# Batches of four levels take seconds each; a few of those will do.
COMPARED = [m for i, m in enumerate(MEANINGFUL) if m.spec != "fiberpo_domain" or i % 5 == 0]


@pytest.mark.parametrize(
    "mutant", deep.cases(COMPARED, lambda i, _: i % 2 == 0), ids=lambda m: m.name
)
def test_mutants_are_told_apart(mutant: Mutant) -> None:
    old, new = unpromised(SPECS[mutant.spec]), unpromised(mutant_text(mutant))
    found = compared(old, new)
    if mutant.name in UNKNOWN:
        assert found.change is Change.UNKNOWN
    elif mutant.name in CONSTANTS:
        assert found.change is Change.INTERFACE
    elif mutant.same_loss:
        assert found.change in (Change.SAME, Change.INTERFACE)
    else:
        assert found.change is Change.VALUE
        loss, _ = confirmed(old, new, found.witness)
        assert loss > 1e-10


# --- verdicts, reasoned by hand -----------------------------------------------------------------


def test_another_budget_matters_beyond_the_old_one_only() -> None:
    """Up to S+ = 0.2 both pass alike; beyond, the one rolls back and the other does not yet."""
    old, new = fibdsl.load("fiberpo"), edited("fiberpo", ("= 0.20 in", "= 0.25 in"))
    found = compared(old, new)
    assert found.change is Change.VALUE
    assert found.where
    assert set(found.where) >= {"trajectory (+) in rollback", "trajectory (+) in zeroed"}
    assert all(" in " in regime for regime in found.where)
    assert "where all gates pass" not in " ".join(found.where)
    assert found.witness is not None
    s = checks.signal(old, found.witness.tensors)
    means = np.where(s > 0, s, 0.0).sum(axis=1) / found.witness.tensors["mask"].sum(axis=1)
    assert means.max() > 0.2
    assert confirmed(old, new, found.witness)[0] > 1e-10
    [line] = found.interface
    assert line.startswith("~ param c_plus")


def test_another_mean_matters_everywhere() -> None:
    old = fibdsl.load("fiberpo")
    new = edited("fiberpo", ("mean over trajectory, mean over token", "mean over token"))
    found = compared(old, new)
    assert found.change is Change.VALUE
    [where] = found.where
    assert where.startswith("in every regime: G is the same")
    assert "~ normalizer trajectory  ->  token" in found.interface
    assert confirmed(old, new, found.witness)[0] > 1e-10


def test_clip_for_rollback_matters_beyond_the_budget() -> None:
    old, new = fibdsl.load("fiberpo"), edited("fiberpo", ("rollback(+c_plus", "clip(+c_plus"))
    found = compared(old, new)
    assert found.change is Change.VALUE
    beyond = {f"trajectory ({c}) in {r}" for c in "+-" for r in ("rollback", "zeroed")}
    assert set(found.where) >= beyond
    assert "in every regime, also where all gates pass" not in found.where
    assert "- regime/trajectory/plus/rollback" in found.metrics
    assert "+ regime/trajectory/plus/clipped" in found.metrics


def test_dropping_a_level_matters_where_all_gates_pass() -> None:
    found = compared(fibdsl.load("fiberpo"), edited("fiberpo", ("clip(epsilon)", "drop")))
    assert found.change is Change.VALUE
    assert found.where == ("in every regime, also where all gates pass",)


def test_two_sided_for_pessimistic_matters_where_it_did_not_act() -> None:
    old, new = fibdsl.load("ppo"), edited("ppo", (" pessimistic", ""))
    found = compared(old, new)
    assert found.change is Change.VALUE
    assert confirmed(old, new, found.witness)[0] > 1e-10


def test_metrics_alone() -> None:
    """The trajectory is in no gate and no mean: without it only its drift is not reported."""
    found = compared(fibdsl.load("ppo"), edited("ppo", ("token < trajectory", "token")))
    assert found.change is Change.METRICS
    assert found.metrics == ("- drift/trajectory",)
    assert found.interface == ()


@pytest.mark.parametrize(
    ("edits", "lines"),
    [
        (
            [("= 0.2 in (0, 1)", "= 0.2 in (0, 2)")],
            [
                "~ param epsilon : deviation = 0.2 in (0, 1)  ->  "
                "epsilon : deviation = 0.2 in (0, 2)"
            ],
        ),
        (
            [("param  epsilon", "param width"), ("clip(epsilon)", "clip(width)")],
            [
                "- param epsilon : deviation = 0.2 in (0, 1)",
                "+ param width : deviation = 0.2 in (0, 1)",
            ],
        ),
        (
            [("clip(epsilon)", "clip(0.2)")],
            ["the parameters have other roles: at other values the losses differ"],
        ),
        (
            [("token < trajectory", "token < trajectory < group by uid")],
            ["+ key uid (level group)"],
        ),
    ],
)
def test_interface_alone(edits: list[tuple[str, str]], lines: list[str]) -> None:
    found = compared(fibdsl.load("ppo"), edited("ppo", *edits))
    assert found.change is Change.INTERFACE
    assert list(found.interface) == lines
    assert found.witness is None


def test_promises_are_no_difference_of_the_loss() -> None:
    found = compared(fibdsl.load("gspo"), unpromised(SPECS["gspo"]))
    assert found.change is Change.SAME
    assert found.promises == (
        "- require continuous",
        "- require block_diagonal over trajectory",
        "- require split_invariant",
    )


def test_what_cannot_be_told_is_unknown() -> None:
    """A token is in one channel only, so the same budgets in two channels are the same loss; no
    hash says so."""
    found = compared(fibdsl.load("dapo"), edited("dapo", ("signal ratio", "signal ratio split")))
    assert found.change is Change.UNKNOWN
    assert found.witness is None
    assert found.where == ()


def exclusive_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = builtin_gates()["clip"]
    first = replace(clip.pieces[0], inclusive=False)
    rule = replace(clip, name="openclip", pieces=(first, *clip.pieces[1:]))
    monkeypatch.setitem(builtin_gates(), "openclip", rule)


def test_another_slope_at_the_budget_is_a_matter_of_the_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At |x| = C the one passes, with slope 1, and the other is clipped, with slope 0; both are
    C."""
    exclusive_clip(monkeypatch)
    found = compared(at_token("clip(0.25)"), at_token("openclip(0.25)"))
    assert found.change is Change.GRADIENT


def test_a_difference_of_the_gradient_has_a_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    exclusive_clip(monkeypatch)
    old, new = at_token("clip(0.25)"), at_token("openclip(0.25)")
    found = compared(old, new)
    assert "`reduce`" not in " ".join(found.where)
    loss, gradient = confirmed(old, new, found.witness)
    assert loss < 1e-12
    assert gradient > 1e-3


# --- random pairs -------------------------------------------------------------------------------


def pair(seed: int) -> tuple[Objective, Objective]:
    """Two random specs, the second often the first in other words or with one word changed."""
    rng = random.Random(seed)
    text = random_spec(rng, rng.choice(CHAINS[:6]))
    match rng.choice(["words", "number", "word", "other"]):
        case "words":
            names = {"any": "some", "p": "factor", "c": "width", "h": "above", "group": "prompt"}
            again = re.sub(r"\b(any|p|c|h|group)\b", lambda m: names[m[0]], text)
        case "number":
            numbers = [m.span() for m in re.finditer(r"\d\.\d+", text)]
            low, high = rng.choice(numbers)
            again = f"{text[:low]}0.77{text[high:]}"
        case "word":
            word, other = rng.choice(
                [(" pessimistic", ""), ("mean", "sum"), ("clip", "rollback"), ("split", "net")]
            )
            again = text.replace(word, other, 1)
        case _:
            again = random_spec(rng, rng.choice(CHAINS[:6]))
    try:
        return fibdsl.load_text(text), fibdsl.load_text(again)
    except fibdsl.FibError:
        return fibdsl.load_text(text), fibdsl.load_text(text.replace("any", "same"))


def difference(old: Objective, new: Objective, seed: int) -> float:
    rng, worst = np.random.default_rng(seed), 0.0
    for _ in range(12):
        tensors: dict[str, Any] = random_batch(rng)
        a, b = (checks.evaluation(o, tensors) for o in (old, new))
        scale = max(1.0, abs(a.loss), float(np.abs(a.gradient).max()))
        apart = max(abs(a.loss - b.loss), float(np.abs(a.gradient - b.gradient).max())) / scale
        worst = max(worst, apart)
    return worst


@pytest.mark.parametrize(
    "seeds", deep.cases([range(start, start + 25) for start in range(0, 300, 25)], 3)
)
def test_equal_hashes_mean_equal_losses(seeds: range) -> None:
    equal = 0
    for seed in seeds:
        old, new = pair(seed)
        if old.semantic_hash == new.semantic_hash:
            equal += 1
            assert difference(old, new, seed) < 1e-11, f"{old.checked.source.text} / {seed}"
        values = [dict(o.params) for o in (old, new)]
        assert len(values[0]) == len(values[1])
    assert 2 <= equal < len(seeds)


@pytest.mark.parametrize("seed", deep.cases(range(40), 16))
def test_random_verdicts_are_true(seed: int) -> None:
    old, new = pair(1000 + seed)
    found = compared(old, new)
    if found.change in (Change.SAME, Change.METRICS, Change.INTERFACE):
        assert difference(old, new, seed) < 1e-11
    elif found.change is Change.VALUE:
        assert confirmed(old, new, found.witness)[0] > 1e-10
    elif found.witness is not None:
        assert confirmed(old, new, found.witness)[1] > 1e-10
