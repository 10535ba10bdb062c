"""`budget per cell`: the reference against closed forms, and what a wrong batch is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc.batch import BatchError
from tests import closed_forms
from tests.closed_forms import Batch, Level, random_batch
from tests.meaning.batches import Tensors, of_log_ratios, spec, tensors_of
from tests.meaning.forms import GROUP, TRAJECTORY, real

DOMAINS = """
objective domains {
  param math : log = 0.05 in (0, 1)
  signal log_ratio split
  levels token < trajectory < group by uid < domain by data_source
  at domain {
    base rollback(+budget, -0.6 * budget)
    budget per cell { math: math, code: 2 * math, else: 0.02 }
  }
  at group      { fiber rollback(+0.08, -0.05) }
  at trajectory { fiber rollback(+0.15, -0.09) }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
"""
NO_ELSE = DOMAINS.replace(", else: 0.02", "")
MATH, CODE = 2**62, -7
CELLS = {"data_source": {"math": MATH, "code": CODE}}


def domain(math: float) -> Level:
    """The level of DOMAINS as the closed form has it: what is .6 * 2 * c there is 1.2 * c here."""
    pairs = {MATH: (math, 0.6 * math), CODE: (2 * math, 1.2 * math), None: (0.02, 0.012)}
    return ("data_source", pairs, None, "children")


def named(batch: Batch) -> Batch:
    """The batch with domains called by the ids of CELLS and by 11."""
    number = np.unique(batch.keys["data_source"], return_inverse=True)[1]
    ids = np.array([MATH, CODE, 11])[number % 3]
    return replace(batch, keys={**batch.keys, "data_source": ids})


def batches() -> list[Batch]:
    rng = np.random.default_rng(3)
    made = [
        random_batch(rng, 9, 7, drift=0.15, trajectory_drift=0.1, n_domains=4, empty_rows=1)
        for _ in range(12)
    ]
    return [named(batch) for batch in (*made, real("near"), real("far"))]


def test_the_closed_form() -> None:
    objective = fibdsl.load_text(DOMAINS)
    regimes = set()
    for batch in batches():
        G, loss = closed_forms.hierarchy(batch, [TRAJECTORY, GROUP, domain(0.05)], 0.02)
        result = objective.evaluate(**vars(batch), cells=CELLS)
        np.testing.assert_allclose(result.gated_ratio, G, rtol=1e-12)
        assert result.loss == pytest.approx(loss, rel=1e-12, abs=1e-15)
        regimes |= {name for name, v in result.metrics.items() if "/domain/" in name and v}
    assert {f"regime/domain/plus/{r}" for r in ("pass", "zeroed")} <= regimes


def test_each_domain_is_fiberpo_domain_with_its_budget() -> None:
    objective = fibdsl.load_text(DOMAINS)
    for batch in batches():
        whole = objective.gated_ratio(**vars(batch), cells=CELLS)
        ids = batch.keys["data_source"]
        for number, budget in ((MATH, 0.05), (CODE, 0.1), (11, 0.02)):
            plain = fibdsl.load("fiberpo_domain", domain_plus=budget, domain_minus=0.6 * budget)
            rows = ids == number
            if rows.any():
                part = {
                    name: {k: v[rows] for k, v in value.items()} if name == "keys" else value[rows]
                    for name, value in vars(batch).items()
                }
                G = plain.gated_ratio(**part)
                np.testing.assert_allclose(whole[rows], G, rtol=1e-12)


def test_entries_follow_the_parameters() -> None:
    batch = batches()[0]
    objective = fibdsl.load_text(DOMAINS, math=0.01)
    G, _ = closed_forms.hierarchy(batch, [TRAJECTORY, GROUP, domain(0.01)], 0.02)
    np.testing.assert_allclose(objective.gated_ratio(**vars(batch), cells=CELLS), G, rtol=1e-12)


def test_budgets_as_they_are() -> None:
    objective = fibdsl.load_text(DOMAINS)
    for batch in batches()[:4]:
        values = np.select(
            [batch.keys["data_source"] == i for i in (MATH, CODE)], [0.05, 0.1], 0.02
        )
        expected = objective.evaluate(**vars(batch), cells=CELLS)
        per_token = np.where(batch.mask, values[:, None], np.nan)
        for budget in (values, per_token):
            result = objective.evaluate(**vars(batch), budgets={"domain": budget})
            np.testing.assert_array_equal(result.gradient, expected.gradient)
            assert result.metrics == expected.metrics


def test_by_hand() -> None:
    """Two domains of one token each, S = .09, k = 1: .10 lets it pass, .06 rolls it back to .03."""
    objective = spec(
        "log_ratio net",
        "token < trajectory < domain by data_source",
        "at domain { base rollback(budget) budget per cell { math: 0.10, else: 0.06 } }",
        "at trajectory { fiber drop }",
        "at token { fiber drop }",
        "reduce mean over token",
    )
    batch = of_log_ratios([[0.09], [0.09]], data_source=np.array([5, 6]))
    for math, expected in ((5, [0.09, 0.03]), (6, [0.03, 0.09]), (7, [0.03, 0.03])):
        G = objective.gated_ratio(**batch, cells={"data_source": {"math": math}})
        np.testing.assert_allclose(np.log(G[:, 0]), expected, rtol=1e-13)


def test_ids_within_a_trajectory() -> None:
    """Turn 0 of every trajectory has the budget of `first`."""
    objective = spec(
        "log_ratio net",
        "token < turn by turn_id < trajectory",
        "at trajectory { base pass }",
        "at turn { fiber clip(+2 * budget, -budget) budget per cell { first: 0.01, else: 0.5 } }",
        "at token { fiber drop }",
        "reduce mean over token",
    )
    x = np.array([[0.1, 0.3], [0.3, 0.1]])  # trajectory means .2, turns .1 off
    batch = of_log_ratios(x, turn_id=np.array([[0, 1], [0, 1]]))
    G = objective.gated_ratio(**batch, cells={"turn_id": {"first": 0}})
    np.testing.assert_allclose(np.log(G), [[0.19, 0.3], [0.22, 0.1]], rtol=1e-13)


def test_a_gate_of_ones_own_at_every_advantage() -> None:
    objective = fibdsl.load_text(
        "gate soft(x, C) { C * tanh(x / C) }"
        "objective o { signal log_ratio levels token < trajectory < domain by data_source "
        "at domain { base soft(+budget, -by_advantage(budget, 2 * budget)) "
        "budget per cell { math: 0.1 } } at trajectory { fiber drop } at token { fiber drop } "
        "reduce mean over token }"
    )
    batch = of_log_ratios([[-0.3], [0.2]], [[-1.0], [1.0]], data_source=np.array([5, 5]))
    G = objective.gated_ratio(**batch, cells={"data_source": {"math": 5}})
    # S = -.05: below 0, so -.1 tanh(.5) where A >= 0 and -.2 tanh(.25) where A < 0.
    expected = [-0.2 * np.tanh(0.25), -0.1 * np.tanh(0.5)]
    np.testing.assert_allclose(np.log(G[:, 0]), expected, rtol=1e-13)


def test_a_ratio_is_converted() -> None:
    objective = spec(
        "log_ratio net",
        "token < domain by data_source",
        "at domain { base clip(budget) budget per cell { math: ratio(1.25) } }",
        "at token { fiber drop }",
        "reduce mean over token",
    )
    batch = of_log_ratios([[0.9]], data_source=np.array([[5]]))
    G = objective.gated_ratio(**batch, cells={"data_source": {"math": 5}})
    assert G[0, 0] == pytest.approx(1.25, rel=1e-14)


def test_only_else_needs_no_names() -> None:
    objective = fibdsl.load_text(DOMAINS.replace("math: math, code: 2 * math, ", ""))
    batch = batches()[0]
    everywhere: Level = ("data_source", (0.02, 0.012), None, "children")
    G, _ = closed_forms.hierarchy(batch, [TRAJECTORY, GROUP, everywhere], 0.02)
    np.testing.assert_allclose(objective.gated_ratio(**vars(batch)), G, rtol=1e-12)


def test_an_objective_that_extends_another_replaces_the_budgets_only() -> None:
    text = DOMAINS + (
        "objective strict extends domains { at domain { budget per cell { else: 0.01 } } }"
    )
    objective = fibdsl.load_text(text, objective="strict")
    batch = batches()[0]
    everywhere: Level = ("data_source", (0.01, 0.006), None, "children")
    G, _ = closed_forms.hierarchy(batch, [TRAJECTORY, GROUP, everywhere], 0.02)
    np.testing.assert_allclose(objective.gated_ratio(**vars(batch)), G, rtol=1e-12)


# --- what a spec means ----------------------------------------------------------------------------


def test_the_hash_is_of_the_budgets_and_the_names_they_have() -> None:
    def hashed(old: str = "", new: str = "") -> str:
        assert old in DOMAINS
        return fibdsl.load_text(DOMAINS.replace(old, new)).semantic_hash

    budgets = "math: math, code: 2 * math, else: 0.02"
    other = "math: math, code: 3 * math, else: 0.02"
    swapped = "code: math, math: 2 * math, else: 0.02"
    renamed = "maths: math, code: 2 * math, else: 0.02"
    plain = hashed()
    assert len({plain, *(hashed(budgets, new) for new in (other, swapped, renamed))}) == 4
    assert hashed(budgets, "code: 2*math, math: math, else: 0.020") == plain
    assert fibdsl.load_text(DOMAINS.replace("domain ", "source ")).semantic_hash == plain


# --- errors ---------------------------------------------------------------------------------------


def good() -> Tensors:
    return of_log_ratios(np.zeros((2, 3)), uid=np.array([3, 4]), data_source=np.array([5, 6]))


def refused(message: str, text: str = DOMAINS, **arguments: Any) -> None:
    objective = fibdsl.load_text(text)
    for evaluate in (objective.evaluate, objective.gated_ratio):
        with pytest.raises(BatchError) as error:
            evaluate(**good(), **arguments)
        assert str(error.value) == message


WRONG_CELLS = [
    (
        {"source": {"math": 5}},
        "cells['source'] has no effect: 'domains' names no cell by 'source'; "
        "did you mean 'data_source'?",
    ),
    (
        {"uid": {"math": 5}},
        "cells['uid'] has no effect: 'domains' names no cell by 'uid'; it has data_source",
    ),
    (
        {"data_source": {"maths": 5, "code": 6}},
        "cells['data_source'] has 'maths', and 'domains' has no budget of that name; "
        "did you mean 'math'?",
    ),
    (
        {"data_source": {"math": 5}},
        "cells['data_source'] does not say which id 'code' has; 'domains' has budgets for "
        "math, code",
    ),
    (
        {"data_source": {"math": 5, "code": 5}},
        "cells['data_source'] gives 'math' and 'code' one id, 5",
    ),
    (
        {"data_source": {"math": 5.0, "code": 6}},
        "cells['data_source']['math'] is 5.0; ids are integers",
    ),
    (
        {"data_source": {"math": True, "code": 6}},
        "cells['data_source']['math'] is True; ids are integers",
    ),
    (
        {"data_source": {"math": 2**63, "code": 6}},
        f"cells['data_source']['math'] = {2**63} is no int64, which ids are",
    ),
    (
        {"data_source": [5, 6]},
        "cells['data_source'] is a list; cells has the ids of named cells by key and name, "
        "{'data_source': {'math': 0}}",
    ),
]


@pytest.mark.parametrize(("cells", "message"), WRONG_CELLS)
def test_wrong_cells(cells: Any, message: str) -> None:
    refused(message, cells=cells)


def test_nothing_said_of_named_cells() -> None:
    refused(
        "'domains' has budgets for cells of level 'domain' by name: say which ids these have in "
        "keys['data_source'], cells={'data_source': {'math': ..., 'code': ...}}, or give the "
        "budgets, budgets={'domain': ...}"
    )


def test_a_cell_without_a_budget() -> None:
    cells = {"data_source": {"math": 5, "code": 7}}
    refused(
        "keys['data_source'] (level 'domain') has the id 6, which none of math, code has, and "
        "there is no budget for other cells, `else`",
        NO_ELSE,
        cells=cells,
    )
    batch = good()
    batch["mask"][1] = False
    fibdsl.load_text(NO_ELSE).evaluate(**batch, cells=cells)


BUDGETS = np.array([0.05, 0.1])


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            {"domains": BUDGETS},
            "budgets['domains'] has no effect: 'domains' has no budgets per cell at 'domains'; "
            "did you mean 'domain'?",
        ),
        (
            {"domain": BUDGETS[:1]},
            "budgets['domain'] has shape (1,); give (2,), one budget a trajectory, or (2, 3), one "
            "a token",
        ),
        ({"domain": np.array([1, 2])}, "budgets['domain'] is int64; give a floating-point tensor"),
        (
            {"domain": -BUDGETS},
            "budgets['domain'] has values that are not positive; a budget is a magnitude",
        ),
        (
            {"domain": np.array([0.05, np.nan])},
            "budgets['domain'] has values that are not positive; a budget is a magnitude",
        ),
        (
            {"domain": np.array([[0.05, 0.05, 0.06], [0.1, 0.1, 0.1]])},
            "budgets['domain'] has several values in one cell of level 'domain'",
        ),
    ],
)
def test_wrong_budgets(budgets: Any, message: str) -> None:
    refused(message, budgets=budgets)


def test_what_is_said_twice() -> None:
    refused(
        "the budgets of level 'domain' are given twice: by name, cells['data_source'], and as they "
        "are, budgets['domain']; leave one out",
        cells={"data_source": {"math": 5, "code": 6}},
        budgets={"domain": BUDGETS},
    )


def test_options_without_effect() -> None:
    plain = (
        "objective o { signal ratio levels token at token { base pass } reduce mean over token }"
    )
    refused("cells has no effect: 'o' names no cell", plain, cells=CELLS)
    refused(
        "budgets has no effect: 'o' has no budgets per cell", plain, budgets={"domain": BUDGETS}
    )
    only_else = DOMAINS.replace("math: math, code: 2 * math, ", "")
    refused("cells has no effect: 'domains' names no cell", only_else, cells=CELLS)


def test_random_batches_have_all_three_kinds_of_cells() -> None:
    """Else the comparisons above would show little."""
    rng = np.random.default_rng(3)
    tensors = tensors_of(named(random_batch(rng, 9, 7, n_domains=4)), rng)
    assert set(tensors["keys"]["data_source"]) == {MATH, CODE, 11}
