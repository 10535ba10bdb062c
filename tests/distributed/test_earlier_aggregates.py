"""Aggregates of an earlier pass: an approximation that is asked for, and exact where nothing moved.

Expected numbers are a closed form of FiberPO-Domain in which groups and domains are constants.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fibdsl
from tests.compiled.cases import Case, random_case, reference
from tests.distributed.harness import gathered

ROWS = 12
OBJECTIVE = fibdsl.load("fiberpo_domain")
PARAMS = OBJECTIVE.params


def batch() -> tuple[Case, Tensor]:
    """A batch, and its log-probabilities a step later."""
    case = random_case(ROWS, 9, seed=5, drift=0.1, net=0.08)
    step = torch.randn(case.logp.shape, generator=torch.Generator().manual_seed(1)).double()
    return case, case.logp + 0.05 * step


def rollback(x: Tensor, C: float, k: Tensor) -> Tensor:
    falling = torch.sign(x) * (k + 1) * C - k * x
    beyond = torch.where(x.abs() < (1 + 1 / k) * C, falling, torch.zeros_like(x))
    return torch.where(x.abs() <= C, x, beyond)


def channels(case: Case, logp: Tensor) -> tuple[Tensor, Tensor]:
    x = torch.where(case.mask, logp - case.old_logp, 0.0)
    return torch.where(x >= 0, x, 0.0), torch.where(x >= 0, 0.0, -x)


def closed_form(case: Case, before: Tensor, now: Tensor) -> Tensor:
    """The loss of the whole batch, groups and domains as they were `before`."""
    there = case.mask.any(-1)
    T = case.mask.sum(-1).clamp(min=1)
    y = torch.zeros_like(case.old_logp)
    signs = ((1.0, "plus"), (-1.0, "minus"))
    pairs = zip(signs, channels(case, before), channels(case, now), strict=True)
    for (sign, name), x_before, x_now in pairs:
        S_before, S_now = x_before.sum(-1) / T, x_now.sum(-1) / T
        for row in range(ROWS):
            if not there[row]:
                continue
            uid, source = case.keys["uid"][row], case.keys["data_source"][row]
            S_g = S_before[there & (case.keys["uid"] == uid)].mean()
            rows = int((there & (case.keys["uid"] == uid)).sum())
            uids = torch.unique(case.keys["uid"][there & (case.keys["data_source"] == source)])
            groups = [S_before[there & (case.keys["uid"] == u)].mean() for u in uids]
            S_d = torch.stack(groups).mean()
            base = (
                rollback(S_d, PARAMS[f"domain_{name}"], torch.tensor(float(len(groups))))
                + rollback(S_g - S_d, PARAMS[f"group_{name}"], torch.tensor(float(rows)))
                + rollback(S_now[row] - S_g, PARAMS[f"trajectory_{name}"], T[row].double())
            )
            token = (x_now[row] - S_now[row]).clamp(-PARAMS["epsilon"], PARAMS["epsilon"])
            y = y.index_put((torch.tensor([row]),), (sign * (base + token))[None], accumulate=True)
    surrogate = torch.where(case.mask, torch.exp(y) * case.advantages.nan_to_num(), 0.0)
    return -(surrogate.sum(-1) / T).sum() / int(there.sum())


def in_parts(
    loss_fn: object, aggregates: object, case: Case, now: Tensor, rows: list[list[int]]
) -> tuple[float, Tensor, dict[str, Tensor]]:
    """Loss and gradient that parts of a batch add up to, and the metrics of the last."""
    logp, total = now.clone().requires_grad_(), 0.0
    metrics: dict[str, Tensor] = {}
    count = int(case.mask.any(-1).sum())
    for part in rows:
        at = torch.tensor(part)
        out = loss_fn(  # type: ignore[operator]
            logp[at],
            *(t[at] for t in case.tokens[1:]),
            {name: ids[at] for name, ids in case.keys.items()},
            normalizers={"trajectory": count},
            aggregates=aggregates,
        )
        out.loss.backward()
        total += out.loss.item()
        metrics = out.metrics
    assert logp.grad is not None
    return total, logp.grad.nan_to_num(), metrics


PARTS = [[0, 7, 3], [1], [11, 2, 4, 5], [6, 8, 9, 10]]


def test_where_nothing_moved_the_loss_is_exact() -> None:
    case, _ = batch()
    loss_fn = OBJECTIVE.compile(backend=None)
    weights = loss_fn.weigh(*case.tokens, case.keys, keep_aggregates=True)
    expected = reference(OBJECTIVE, case)
    assert weights.loss.item() == pytest.approx(expected.loss, rel=1e-12)
    assert weights.weights.numpy() == pytest.approx(expected.gradient, rel=1e-11, abs=1e-14)
    found, _, metrics = in_parts(loss_fn, weights.aggregates, case, case.logp, PARTS)
    assert found == pytest.approx(expected.loss, rel=1e-12)
    assert metrics["approximate/aggregates"] == 1.0
    assert "approximate/aggregates" not in weights.metrics
    # The metrics of groups are those of the whole batch, whatever part this was.
    for name, value in expected.metrics.items():
        if "/group/" in name or "/domain/" in name:
            assert metrics[name].item() == pytest.approx(value, rel=1e-11, abs=1e-12), name


@pytest.mark.parametrize("parts", [PARTS, [list(range(ROWS))], [[r] for r in range(ROWS)]])
def test_a_step_later_groups_and_domains_are_constants(parts: list[list[int]]) -> None:
    case, now = batch()
    loss_fn = OBJECTIVE.compile(backend=None)
    kept = loss_fn.weigh(*case.tokens, case.keys, keep_aggregates=True).aggregates
    leaf = now.clone().requires_grad_()
    expected = closed_form(case, case.logp, leaf)
    (slope,) = torch.autograd.grad(expected, leaf)
    found, gradient, _ = in_parts(loss_fn, kept, case, now, parts)
    assert found == pytest.approx(expected.item(), rel=1e-12)
    assert gradient.numpy() == pytest.approx(slope.nan_to_num().numpy(), rel=1e-9, abs=1e-13)
    # It is an approximation: the exact loss is another one.
    moved = Case(now, *case.tokens[1:], case.keys)
    assert abs(reference(OBJECTIVE, moved).loss - found) > 1e-5


@pytest.mark.parametrize("name", ["apc", "fiberpo_domain"])
def test_packed_parts_and_levels_without_trajectories(name: str) -> None:
    case, _ = batch()
    objective = fibdsl.load(name)
    loss_fn = objective.compile(backend=None)
    tokens, keys, offsets, _ = case.packed()
    logp, old_logp, advantages, mask = tokens
    kept = loss_fn.weigh(
        logp, old_logp, advantages, mask, keys, cu_seqlens=offsets, keep_aggregates=True
    ).aggregates
    outer = objective.typed.reduce[0].level
    count = int(case.mask.sum() if outer == "token" else case.mask.any(-1).sum())
    total = 0.0
    for rows in (slice(0, 5), slice(5, ROWS)):
        part, ids, cu, _ = case.rows(rows).packed()
        logp, old_logp, advantages, mask = part
        out = loss_fn(
            logp,
            old_logp,
            advantages,
            mask,
            ids,
            cu_seqlens=cu,
            normalizers={outer: count},
            aggregates=kept,
        )
        total += out.loss.item()
    assert total == pytest.approx(reference(objective, case).loss, rel=1e-12)


def on_a_rank(rank: int) -> tuple[float, list[list[float]]]:
    import torch.distributed as dist

    case, now = batch()
    loss_fn = OBJECTIVE.compile(backend=None, process_group=dist.group.WORLD, gradients="averaged")
    own = torch.arange(ROWS)[rank::2]
    logp, old_logp, advantages, mask = (t[own] for t in case.tokens)
    keys = {name: ids[own] for name, ids in case.keys.items()}
    mine = Case(logp, old_logp, advantages, mask, keys)
    kept = loss_fn.weigh(*mine.tokens, mine.keys, keep_aggregates=True).aggregates
    rows = [[int(r)] for r in own]
    found, gradient, _ = in_parts(loss_fn, kept, case, now, rows[: 3 + rank] + rows[3 + rank :])
    return found, gradient.tolist()


def test_ranks_keep_what_all_of_them_have_and_then_wait_for_none() -> None:
    case, now = batch()
    leaf = now.clone().requires_grad_()
    expected = closed_form(case, case.logp, leaf)
    (slope,) = torch.autograd.grad(expected, leaf)
    (first, g0), (second, g1) = gathered(2, on_a_rank)
    assert first + second == pytest.approx(expected.item(), rel=1e-12)
    averaged = (torch.tensor(g0).double() + torch.tensor(g1).double()) / 2
    assert averaged.numpy() == pytest.approx(slope.nan_to_num().numpy(), rel=1e-6, abs=1e-9)


def test_refusals() -> None:
    case, _ = batch()
    loss_fn = OBJECTIVE.compile(backend=None)
    kept = loss_fn.weigh(*case.tokens, case.keys, keep_aggregates=True).aggregates
    part = case.rows(slice(0, 4))
    with pytest.raises(ValueError, match="'trajectory' cells of the whole"):
        loss_fn(*part.tokens, part.keys, aggregates=kept)
    with pytest.raises(ValueError, match="whole_cells has no effect with aggregates"):
        loss_fn(*part.tokens, part.keys, whole_cells=True, aggregates=kept)
    other = {**part.keys, "uid": part.keys["uid"] + 1}
    with pytest.raises(ValueError, match=r"keys\['uid'\] \(level 'group'\) has cells here"):
        loss_fn(*part.tokens, other, normalizers={"trajectory": 12}, aggregates=kept)
    swapped = {**part.keys, "data_source": part.keys["data_source"].flip(0)}
    with pytest.raises(ValueError, match="had in other cells"):
        loss_fn(*part.tokens, swapped, normalizers={"trajectory": 12}, aggregates=kept)
    pieces = {**part.keys, "trajectory": torch.zeros(4, dtype=torch.int64)}
    with pytest.raises(ValueError, match="pieces of trajectories"):
        loss_fn(*part.tokens, pieces, normalizers={"trajectory": 12}, aggregates=kept)
    with pytest.raises(ValueError, match="of another objective"):
        fibdsl.load("fiberpo").compile(backend=None)(
            *part.tokens, normalizers={"trajectory": 12}, aggregates=kept
        )
    with pytest.raises(ValueError, match="keep_aggregates has no effect"):
        fibdsl.load("fiberpo").compile(backend=None).weigh(*case.tokens, keep_aggregates=True)


@pytest.mark.slow
def test_compiled() -> None:
    case, now = batch()
    loss_fn = OBJECTIVE.compile(backend="aot_eager")
    kept = loss_fn.weigh(*case.tokens, case.keys, keep_aggregates=True).aggregates
    found, _, _ = in_parts(loss_fn, kept, case, now, PARTS)
    assert found == pytest.approx(closed_form(case, case.logp, now).item(), rel=1e-12)
