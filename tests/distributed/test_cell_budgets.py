"""`budget per cell` over ranks: the undivided batch, and what is wrong on one rank said on all."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
import torch.distributed as dist

import fibdsl
from tests.compiled.cases import Case, Result, random_case
from tests.compiled.test_cell_budgets import SPECS
from tests.compiled.test_cell_budgets import reference as evaluated
from tests.compiled.test_parity import CountingInductor
from tests.distributed.harness import gathered
from tests.distributed.splits import called, dealt, in_micro_batches, in_pieces, take
from tests.meaning.test_cell_budgets import DOMAINS, NO_ELSE

SIZES = ((9, 12), (4, 1), (16, 7))


def batches(pieces: bool) -> Any:
    """Batches and the rows of two ranks; the last one is on one rank alone."""
    rng = random.Random(2)
    for seed, size in enumerate(SIZES):
        whole = random_case(*size, seed=seed)
        if pieces:
            whole, _ = in_pieces(whole, rng)
        owned = dealt(whole.mask.shape[0], 2, rng, idle=0.0)
        if seed == len(SIZES) - 1:
            owned = [torch.arange(whole.mask.shape[0]), torch.arange(0)]
        yield whole, owned


def answers(
    rank: int, spec: str, layout: str, pieces: bool, compiled: bool
) -> tuple[list[list[Result]], int]:
    torch._inductor.config.compile_threads = 1
    inductor = CountingInductor()
    text, said = SPECS[spec]
    objective = fibdsl.load_text(text)
    group: dict[str, Any] = {"process_group": dist.group.WORLD, "gradients": "summed"}
    loss_fn = objective.compile(backend=inductor if compiled else None, **group)
    plain = objective.compile(backend=None, **group)
    found = []
    for whole, owned in batches(pieces):
        cells, budgets = said(whole)
        loss_fn.set_cells(cells)
        own = take(whole, owned[rank])
        parts = list(torch.arange(len(owned[rank])).tensor_split(2))
        results = [
            called(loss_fn, own, layout),
            in_micro_batches(loss_fn, own, layout, parts, own.logp),
        ]
        if layout == "padded":
            mine = {level: b[owned[rank]] for level, b in budgets.items()}
            results.append(called(plain, own, layout, budgets=mine))
        found.append(results)
    return found, inductor.graphs


def check(spec: str, layout: str, pieces: bool, compiled: bool) -> None:
    objective = fibdsl.load_text(SPECS[spec][0])
    everything = gathered(2, answers, spec, layout, pieces, compiled, deadline=300.0)
    for number, (whole, owned) in enumerate(batches(pieces)):
        expected = evaluated(objective, whole, cells=SPECS[spec][1](whole)[0])
        for way in range(len(everything[0][0][number])):
            parts = [per_rank[0][number][way] for per_rank in everything]
            gradient = np.zeros_like(expected.gradient)
            for rows, part in zip(owned, parts, strict=True):
                gradient[rows.numpy()] = part.gradient
                if way != 1:
                    assert part.loss == pytest.approx(expected.loss, rel=1e-12, abs=1e-14)
                assert part.metrics == pytest.approx(expected.metrics, rel=1e-12, abs=1e-12)
            np.testing.assert_allclose(gradient, expected.gradient, rtol=1e-11, atol=1e-14)
    if compiled:
        assert [graphs for _, graphs in everything] == [1, 1]


@pytest.mark.parametrize(
    ("spec", "pieces", "layout"),
    [
        ("domains", False, "padded"),
        ("domains", True, "packed"),
        ("turns", False, "packed"),
        ("turns", True, "padded"),
        ("experts", False, "padded"),
    ],
)
def test_the_batch_of_two_ranks(spec: str, pieces: bool, layout: str) -> None:
    check(spec, layout, pieces, False)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize(("spec", "layout"), [("domains", "padded"), ("turns", "packed")])
def test_through_inductor(spec: str, layout: str) -> None:
    check(spec, layout, spec == "turns", True)


# --- errors ---------------------------------------------------------------------------------------


def errors(rank: int) -> list[str]:
    case = random_case(4, 5, seed=1)
    case.keys.update(uid=torch.tensor([1, 1, 2, 2]), data_source=torch.tensor([5, 5, 5, 5]))
    own = take(case, torch.tensor([[0, 2], [1, 3]][rank]))
    group: dict[str, Any] = {"process_group": dist.group.WORLD, "gradients": "summed"}
    good = {"data_source": {"math": 5, "code": 6}}

    def said(text: str, cells: Any = None, case: Case = own, **options: Any) -> str:
        loss_fn = fibdsl.load_text(text).compile(backend=None, cells=cells, **group)
        try:
            loss_fn(*case.tokens, case.keys, **options)
        except ValueError as error:
            return str(error)
        return "fine"

    other = take(own, torch.arange(2))
    if rank == 1:
        other.keys["data_source"] = torch.tensor([7, 7])
        other.keys["uid"] = torch.tensor([8, 8])
    budget = {"domain": torch.tensor([0.1, 0.1])}
    negative = {"domain": torch.tensor([0.1, 0.1 - rank])}
    unequal = {"domain": torch.tensor([0.1, 0.1]) + 0.1 * rank}
    return [
        said(NO_ELSE, good),
        said(NO_ELSE, good, other),
        said(DOMAINS, good, other),
        said(DOMAINS, None, budgets=budget),
        said(DOMAINS, None, budgets=negative),
        said(DOMAINS, None, budgets=unequal),
        said(DOMAINS, {"data_source": {"math": 5, "code": 6 + rank}}),
        said(DOMAINS, None, budgets=budget if rank == 0 else None),
    ]


def test_what_is_wrong_on_one_rank_is_said_on_all() -> None:
    first, second = gathered(2, errors)
    assert first == second
    assert [message[:68] for message in first] == [
        "fine",
        "rank 1: keys['data_source'] (level 'domain') has ids that none of ma",
        "fine",
        "fine",
        "rank 1: budgets['domain'] has values that are not positive; a budget",
        "rank 0: budgets['domain'] has several values in one cell of level 'd",
        "the ranks differ in the budgets of cells; every rank of a process gr",
        "rank 1: 'domains' has budgets for cells of level 'domain' by name: s",
    ]
