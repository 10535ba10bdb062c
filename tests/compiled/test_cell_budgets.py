"""`budget per cell` in loss modules: against the reference, without recompiling, and its errors."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fibdsl
from fibdsl.objective import Objective
from tests import deep
from tests.compiled.cases import LAYOUTS, Case, Result, compiled, random_case
from tests.compiled.test_parity import CountingInductor
from tests.meaning.test_cell_budgets import DOMAINS, NO_ELSE, WRONG_CELLS

TURNS = """
gate soft(x, C) { C * tanh(x / C) }
objective turns {
  signal log_ratio
  levels token < turn by turn_id < trajectory < group by uid
  at group      { base  soft(+budget, -0.04) budget per cell { a: 0.05, b: 0.1, else: 0.3 } }
  at trajectory { fiber clip(0.1) pessimistic }
  at turn       { fiber rollback(+budget, -2 * budget) budget per cell { first: 0.01, else: inf } }
  at token      { fiber clip(0.02) }
  reduce mean over trajectory, mean over token
}
"""
EXPERTS = """
objective experts {
  param c : deviation = 0.1 in (0, 1)
  signal ratio
  levels token < expert by expert_id
  at expert { base clip(budget) budget per cell { a: c, b: 0.2 } }
  at token  { fiber clip(0.1) pessimistic }
  reduce mean over trajectory, mean over token
}
"""


def where(*choices: tuple[Tensor, float], other: float) -> Tensor:
    """The number of the condition that holds, float64."""
    values = torch.full(choices[0][0].shape, other, dtype=torch.float64)
    for condition, number in choices:
        values[condition] = number
    return values


def domains(case: Case) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Ids for the names of DOMAINS, of which a batch may have two, and the budgets they mean."""
    ids = case.keys["data_source"]
    math = int(ids[0])
    code = next((int(i) for i in ids if int(i) != math), math + 1)
    values = where((ids == math, 0.05), (ids == code, 0.1), other=0.02)
    return {"data_source": {"math": math, "code": code}}, {"domain": values}


def turns(case: Case) -> tuple[dict[str, Any], dict[str, Tensor]]:
    uid, turn = case.keys["uid"], case.keys["turn_id"]
    a = int(uid[0])
    b = next((int(i) for i in uid if int(i) != a), a + 1)
    group = where((uid == a, 0.05), (uid == b, 0.1), other=0.3)
    first = where((turn == -4, 0.01), other=torch.inf)
    return {"uid": {"a": a, "b": b}, "turn_id": {"first": -4}}, {"group": group, "turn": first}


def experts(case: Case) -> tuple[dict[str, Any], dict[str, Tensor]]:
    ids = case.keys["expert_id"]
    a = int(ids[0, 0])
    b = next((int(i) for i in ids.flatten() if int(i) != a), a + 1)
    values = where((ids == a, 0.1), other=0.2)
    return {"expert_id": {"a": a, "b": b}}, {"expert": values}


SPECS = {"domains": (DOMAINS, domains), "turns": (TURNS, turns), "experts": (EXPERTS, experts)}


def reference(objective: Objective, case: Case, **options: Any) -> Result:
    result = objective.evaluate(*case.tokens, case.keys, **options)
    return Result(result.loss, result.gradient, result.metrics)


def same(result: Result, expected: Result, tolerance: float = 1e-12) -> None:
    assert result.loss == pytest.approx(expected.loss, rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(result.gradient, expected.gradient, rtol=tolerance, atol=tolerance)
    assert result.metrics == pytest.approx(expected.metrics, rel=tolerance, abs=tolerance)


def packed(case: Case, budgets: dict[str, Tensor]) -> dict[str, Tensor]:
    _, _, _, keep = case.packed()
    return {level: b if b.dim() == 1 else b[keep] for level, b in budgets.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", SPECS)
def test_equals_the_reference(spec: str, layout: str) -> None:
    text, said = SPECS[spec]
    objective = fibdsl.load_text(text)
    loss_fn, plain = objective.compile(backend=None), objective.compile(backend=None)
    for seed, size in enumerate(((7, 9), (20, 33), (1, 30), (9, 1), (3, 200))):
        case = random_case(*size, seed=seed)
        cells, budgets = said(case)
        loss_fn.set_cells(cells)
        expected = reference(objective, case, cells=cells)
        same(compiled(loss_fn, case, layout), expected)
        given = budgets if layout == "padded" else packed(case, budgets)
        same(compiled(plain, case, layout, budgets=given), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_number_types(layout: str) -> None:
    objective = fibdsl.load_text(DOMAINS)
    case = random_case(9, 14, seed=2).to(torch.bfloat16)
    cells, budgets = domains(case)
    expected = reference(objective, case, cells=cells).loss
    loss_fn = objective.compile(backend=None, cells=cells)
    assert compiled(loss_fn, case, layout).loss == pytest.approx(expected, rel=1e-5)
    plain = objective.compile(backend=None)
    # Budgets of another type do not change the type of the computation.
    for dtype in (torch.float64, torch.float32):
        out = plain(*case.tokens, case.keys, budgets={"domain": budgets["domain"].to(dtype)})
        assert out.loss.dtype == torch.float32
        assert out.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_and_weights(layout: str) -> None:
    """Cells that are numbered before the graph runs: rows in pieces, a batch weighed in parts."""
    for text, said in SPECS.values():
        objective = fibdsl.load_text(text)
        case = random_case(9, 14, seed=5)
        cells, _ = said(case)
        expected = reference(objective, case, cells=cells)
        loss_fn = objective.compile(backend=None, cells=cells)
        case.keys["trajectory"] = torch.arange(9) * 3
        same(compiled(loss_fn, case, layout), expected)
        del case.keys["trajectory"]
        if layout == "packed":
            continue
        whole = objective.name == "domains"
        weights = loss_fn.weigh(*case.tokens, case.keys, keep_aggregates=whole)
        got = weights.weights.numpy()
        np.testing.assert_allclose(got, expected.gradient, rtol=1e-12, atol=1e-15)
        if whole:
            # The parts of one policy add up; some of a part's domains are not in the other one.
            count = int(case.mask.any(-1).sum())
            parts = [case.rows(rows) for rows in (slice(0, 4), slice(4, 9))]
            total = sum(
                loss_fn(
                    *part.tokens,
                    part.keys,
                    normalizers={"trajectory": count},
                    aggregates=weights.aggregates,
                ).loss.item()
                for part in parts
            )
            assert total == pytest.approx(expected.loss, rel=1e-12)


def test_parameters_and_cells_change_without_compiling() -> None:
    graphs = 0

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    objective = fibdsl.load_text(DOMAINS)
    loss_fn = objective.compile(backend=backend)
    for seed, math in enumerate((0.05, 0.01, 0.2)):
        case = random_case(7 + seed, 9, seed=seed)
        cells, _ = domains(case)
        loss_fn.set_params(math=math)
        loss_fn.set_cells(cells)
        changed = objective.with_params(math=math)
        same(compiled(loss_fn, case, "padded"), reference(changed, case, cells=cells))
    assert graphs == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "layout"),
    deep.cases(itertools.product(SPECS, LAYOUTS), lambda _, case: case == ("domains", "padded")),
)
def test_inductor_equals_the_reference(spec: str, layout: str) -> None:
    text, said = SPECS[spec]
    objective = fibdsl.load_text(text)
    inductor, other = CountingInductor(), CountingInductor()
    loss_fn, plain = objective.compile(backend=inductor), objective.compile(backend=other)
    for seed, size in enumerate(((7, 7), (20, 33), (1, 30), (3, 4500))):
        case = random_case(*size, seed=seed)
        cells, budgets = said(case)
        loss_fn.set_cells(cells)
        expected = reference(objective, case, cells=cells)
        same(compiled(loss_fn, case, layout), expected)
        given = budgets if layout == "padded" else packed(case, budgets)
        same(compiled(plain, case, layout, budgets=given), expected)
    assert inductor.graphs == other.graphs == 1


def test_a_generated_module(tmp_path: Path) -> None:
    objective = fibdsl.load_text(DOMAINS)
    text = objective.source()
    assert "Loss(cells={'data_source': {'math': ..., 'code': ...}})" in text
    path = tmp_path / "generated_domains.py"
    path.write_text(text)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    case = random_case(9, 14, seed=3)
    cells, _ = domains(case)
    loss_fn = module.Loss(None, cells=cells, math=0.07)
    expected = reference(objective.with_params(math=0.07), case, cells=cells)
    same(compiled(loss_fn, case, "padded"), expected)
    assert "data_source.math=" in repr(loss_fn)


# --- errors ---------------------------------------------------------------------------------------

ZEROS = torch.zeros(2, 3)
IDS = torch.tensor([5, 6])
BUDGETS = torch.tensor([0.05, 0.1])
CELLS = {"data_source": {"math": 5, "code": 7}}


def call(text: str = DOMAINS, cells: Any = None, **arguments: Any) -> Any:
    loss_fn = fibdsl.load_text(text).compile(backend=None, cells=cells)
    tokens = ZEROS, ZEROS, ZEROS + 1, ZEROS == 0
    return loss_fn(*tokens, {"uid": IDS, "data_source": IDS}, **arguments)


@pytest.mark.parametrize(("cells", "message"), WRONG_CELLS)
def test_wrong_cells(cells: Any, message: str) -> None:
    objective = fibdsl.load_text(DOMAINS)
    loss_fn = objective.compile(backend=None, cells=CELLS)
    before = repr(loss_fn)
    for say in (loss_fn.set_cells, lambda c: objective.compile(backend=None, cells=c)):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            say(cells)
        assert str(error.value) == message
    assert repr(loss_fn) == before


@pytest.mark.parametrize(
    ("budgets", "error", "message"),
    [
        ({"domains": BUDGETS}, ValueError, "budgets['domains'] has no effect"),
        ({"domain": [0.1, 0.2]}, TypeError, "budgets['domain'] is a list; give a floating-point"),
        ({"domain": IDS}, TypeError, "budgets['domain'] is torch.int64; give a floating-point"),
        ({"domain": BUDGETS[:1]}, ValueError, "budgets['domain'] has shape (1,); give (2,), one"),
        ({"domain": -BUDGETS}, ValueError, "budgets['domain'] has values that are not positive"),
        ({"domain": BUDGETS * torch.nan}, ValueError, "budgets['domain'] has values that are not"),
        (
            {"domain": ZEROS + torch.tensor([0.05, 0.05, 0.06])},
            ValueError,
            "budgets['domain'] has several values in one cell of level 'domain'",
        ),
    ],
)
def test_wrong_budgets(budgets: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call(budgets=budgets)
    assert str(raised.value).startswith(message)


def test_nothing_said_and_said_twice() -> None:
    with pytest.raises(ValueError, match="say which ids these have in keys"):
        call()
    with pytest.raises(ValueError, match="the budgets of level 'domain' are given twice"):
        call(cells=CELLS, budgets={"domain": BUDGETS})


def test_a_cell_without_a_budget() -> None:
    with pytest.raises(ValueError, match=r"keys\['data_source'\] \(level 'domain'\) has ids that"):
        call(NO_ELSE, CELLS)
    call(cells=CELLS)  # `else`
    call(NO_ELSE, {"data_source": {"math": 5, "code": 6}})


def test_what_is_under_the_mask_does_not_matter() -> None:
    objective = fibdsl.load_text(NO_ELSE)
    mask = torch.tensor([[True, True, True], [False, False, False]])
    tokens = ZEROS, ZEROS, ZEROS + 1, mask
    keys = {"uid": IDS, "data_source": IDS}
    objective.compile(backend=None, cells=CELLS)(*tokens, keys)
    for budget in (torch.tensor([0.05, -1.0]), torch.where(mask, 0.05, torch.nan)):
        objective.compile(backend=None)(*tokens, keys, budgets={"domain": budget})


def test_options_without_effect() -> None:
    for text in ("ppo", "fiberpo_domain"):
        with pytest.raises(ValueError, match="cells has no effect: "):
            fibdsl.load(text).compile(backend=None, cells=CELLS)
        loss_fn = fibdsl.load(text).compile(backend=None)
        with pytest.raises(ValueError, match="budgets has no effect: "):
            loss_fn(ZEROS, ZEROS, ZEROS, ZEROS == 0, {}, budgets={"domain": BUDGETS})


def test_the_gated_ratio_of_torch_tensors_is_differentiable() -> None:
    objective = fibdsl.load_text(DOMAINS)
    case = random_case(5, 6, seed=1)
    cells, _ = domains(case)
    logp = case.logp.clone().requires_grad_()
    G = objective.gated_ratio(logp, *case.tokens[1:], case.keys, cells=cells)
    weight = torch.where(case.mask, case.advantages, 0.0)
    (G * weight).sum().backward()
    assert logp.grad is not None
    assert logp.grad.abs().sum() > 0
