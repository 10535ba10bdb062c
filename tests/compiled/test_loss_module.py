"""The loss module around its graph: parameters, layouts, numerics, what autograd sees. Eager, so
that it is fast; test_parity.py compiles."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import fibdsl
from fibdsl.resources import shipped_specs
from fibdsl.runtime.layouts import padded_to_block
from fibdsl.runtime.loss import FusedLoss
from tests import deep
from tests.compiled.cases import LAYOUTS, compiled, random_case, real_case, reference

# Those that go through Inductor (test_parity.py) show it too.
OFTEN = ("ppo", "fiberpo", "fiberpo_domain", "fiberpo_turns", "fiberpo_experts", "apc")


@pytest.mark.parametrize(
    ("spec", "layout"),
    deep.cases(
        itertools.product(shipped_specs(), LAYOUTS),
        lambda i, case: case[0] in OFTEN and i % 4 in (0, 3),
    ),
)
def test_one_graph_for_all_sizes(spec: str, layout: str) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    loss_fn = fibdsl.load(spec).compile(backend=counter)
    # Sizes equal and different, one and many cells: fullgraph, so a graph break would be an error.
    for rows, width, seed in ((6, 6, 0), (2, 2, 1), (9, 70, 2), (40, 3, 3), (64, 64, 4)):
        compiled(loss_fn, random_case(rows, width, seed), layout)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("spec", "params"),
    [
        ("ppo", {"epsilon": 0.1}),
        ("dapo", {"epsilon_high": 0.1, "epsilon_low": 0.05}),
        ("gspo", {"high": 1.02, "low": 0.99}),
        ("apc", {"delta": 0.2}),
        ("fiberpo", {"c_plus": 0.05, "epsilon": 0.04}),
        ("fiberpo_domain", {"domain_plus": 0.005, "group_minus": 0.005}),
    ],
)
def test_params_change_the_loss_and_never_recompile(spec: str, params: dict[str, float]) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    objective = fibdsl.load(spec)
    loss_fn = objective.compile(backend=counter)
    case = random_case(8, 12, seed=0)
    before = compiled(loss_fn, case, "padded")
    loss_fn.set_params(**params)
    after = compiled(loss_fn, case, "padded")
    assert counter.frame_count == 1
    assert after.loss != before.loss
    expected = reference(objective.with_params(**params), case)
    assert after.loss == pytest.approx(expected.loss, rel=1e-12)
    assert np.abs(after.gradient - expected.gradient).max() <= 1e-15


def test_nothing_waits_for_the_device() -> None:
    """Tensors on the meta device have no values: any read of one by the host raises. Checks that
    a GPU would have to be waited for must not read either."""
    loss_fn = fibdsl.load("fiberpo_domain").compile(backend=None)
    x = torch.randn(6, 5, device="meta")
    ids = torch.zeros(6, dtype=torch.int64, device="meta")
    keys = {"uid": ids, "data_source": ids}
    mask = torch.ones(6, 5, device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        mask.sum().item()
    assert loss_fn(x, x, x, mask, keys).loss.shape == ()
    flat, cu = x.reshape(-1), torch.zeros(7, dtype=torch.int32, device="meta")
    assert loss_fn(flat, flat, flat, mask.reshape(-1), keys, cu_seqlens=cu).loss.shape == ()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spec", shipped_specs())
def test_what_is_under_the_mask_never_matters(spec: str, layout: str) -> None:
    loss_fn = fibdsl.load(spec).compile(backend=None)
    case = random_case(8, 9, seed=3)
    plain = compiled(loss_fn, case, layout)
    for junk in (0.0, math.inf, -math.inf, 1e30):
        for tensor in case.tokens[:3]:
            tensor[~case.mask] = junk
        case.keys["state_id"][~case.mask] = int(min(max(junk, -7), 7))
        again = compiled(loss_fn, case, layout)
        assert again.loss == plain.loss
        assert again.metrics == plain.metrics
        assert np.array_equal(again.gradient, plain.gradient)
        assert (again.gradient[~case.mask.numpy()] == 0).all()


@pytest.mark.parametrize("spec", shipped_specs())
def test_an_empty_batch_has_loss_zero(spec: str) -> None:
    loss_fn = fibdsl.load(spec).compile(backend=None)
    case = random_case(4, 5, seed=0)
    case.mask.zero_()
    result = compiled(loss_fn, case, "padded")
    assert result.loss == 0
    assert (result.gradient == 0).all()
    assert all(value == 0 for value in result.metrics.values())


@pytest.mark.parametrize("spec", ["ppo", "grpo", "dapo", "apc", "fiberpo", "fiberpo_domain"])
def test_on_policy_gradient_is_the_policy_gradient(spec: str) -> None:
    """At r = 1 dG/dr = 1 exactly, so the gradient is -mu_i A_i, written out here by hand."""
    loss_fn = fibdsl.load(spec).compile(backend=None)
    case = random_case(6, 8, seed=5)
    case.logp.copy_(case.old_logp)
    gradient = compiled(loss_fn, case, "padded").gradient
    mask = case.mask.numpy()
    lengths = mask.sum(1)
    if spec in ("ppo", "dapo", "apc"):
        mu = np.full(mask.shape, 1 / mask.sum())
    else:
        mu = np.broadcast_to(
            1 / (np.maximum(lengths, 1)[:, None] * (lengths > 0).sum()), mask.shape
        )
    expected = np.where(mask, -mu * np.nan_to_num(case.advantages.numpy()), 0.0)
    # What couples the tokens cancels; only the rounding of sums of a row is left.
    assert np.abs(gradient - expected).max() <= 4e-17


def test_parts_of_a_batch_add_up_with_the_normalizer_of_the_whole() -> None:
    objective = fibdsl.load("fiberpo")
    loss_fn = objective.compile(backend=None)
    case = random_case(10, 12, seed=6)
    whole = reference(objective, case)
    trajectories = int(case.mask.any(1).sum())
    total, gradient = 0.0, []
    for rows in (slice(0, 3), slice(3, 4), slice(4, 10)):
        result = compiled(
            loss_fn, case.rows(rows), "padded", normalizers={"trajectory": trajectories}
        )
        total += result.loss
        gradient.append(result.gradient)
    assert total == pytest.approx(whole.loss, rel=1e-13)
    assert np.abs(np.concatenate(gradient) - whole.gradient).max() <= 1e-15


def test_normalizers_that_have_no_effect_are_refused() -> None:
    loss_fn = fibdsl.load("fiberpo").compile(backend=None)
    case = random_case(3, 4, seed=0)
    with pytest.raises(ValueError, match=r"normalizers\['token'\] has no effect.*'trajectory'"):
        loss_fn(*case.tokens, normalizers={"token": 3})
    with pytest.raises(ValueError, match="not a count of 1 or more"):
        loss_fn(*case.tokens, normalizers={"trajectory": 0})


def test_autograd_sees_one_scaled_gradient() -> None:
    loss_fn = fibdsl.load("fiberpo").compile(backend=None)
    case = real_case("far")
    logp = case.logp.clone().requires_grad_()
    out = loss_fn(logp, *case.tokens[1:])
    (plain,) = torch.autograd.grad(out.loss, logp, retain_graph=True)
    (scaled,) = torch.autograd.grad(3.0 * out.loss, logp)
    assert torch.allclose(scaled, 3.0 * plain, rtol=1e-15)
    assert not any(metric.requires_grad for metric in out.metrics.values())
    assert not loss_fn(*case.tokens).loss.requires_grad


def test_types_strides_and_autocast_do_not_change_the_meaning() -> None:
    loss_fn = fibdsl.load("fiberpo").compile(backend=None)
    case = real_case("near")
    expected = compiled(loss_fn, case, "padded").loss
    logp, old, advantages, mask = case.tokens
    strided = torch.stack([logp, logp], -1)[..., 0]
    for batch in (
        (strided, old, advantages, mask),
        (logp, old.float(), advantages.float(), mask.to(torch.uint8)),
        (logp, old, advantages[:, :1].expand_as(logp), mask.float()),
    ):
        assert loss_fn(*batch).loss.item() == pytest.approx(expected, rel=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss_fn(*case.tokens).loss.item() == expected
    half = case.to(torch.bfloat16)
    assert loss_fn(*half.tokens).loss.dtype == torch.float32


def test_long_rows_accumulate_in_float32_or_better() -> None:
    """128k tokens a row: a bfloat16 sum would stop growing at 256."""
    width = 2**17
    old = torch.full((2, width), -1.0)
    logp = old.clone()
    logp[:, ::2] += 2**-6
    mask = torch.ones(2, width)
    objective = fibdsl.load("gspo", high=1.5, low=0.6)
    loss_fn = objective.compile(backend=None)
    got = loss_fn(*(t.bfloat16() for t in (logp, old, mask, mask))).loss.item()
    # s = exp(mean log r) = exp(2**-7); the loss of advantage 1 is -s.
    assert got == pytest.approx(-math.exp(2**-7), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absurd_ratios_stay_finite(dtype: torch.dtype) -> None:
    """A clipped or zero-advantage token must not turn 0 * inf into NaN."""
    loss_fn = fibdsl.load("ppo").compile(backend=None)
    logp = torch.tensor([[900.0, 0.0, 900.0]], dtype=dtype, requires_grad=True)
    old = torch.zeros(1, 3, dtype=dtype)
    advantages = torch.tensor([[1.0, 1.0, 0.0]], dtype=dtype)
    out = loss_fn(logp, old, advantages, torch.ones(1, 3))
    out.loss.backward()
    assert logp.grad is not None
    # Clipped at 1.2, exactly 1, and nothing: -(1.2 + 1 + 0) / 3, gradients 0, -1/3, 0.
    assert out.loss.item() == pytest.approx(-2.2 / 3)
    assert logp.grad.tolist() == [[0.0, pytest.approx(-1 / 3), 0.0]]


@pytest.mark.parametrize(
    "lengths", [[0, 0, 1, 64, 0, 128, 7, 0], [3, 1, 2], [64], [63, 66], [5] * 30]
)
def test_block_layout_covers_every_token_once(lengths: list[int]) -> None:
    cu = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    tokens = sum(lengths)
    layout = fibdsl.block_layout(cu, tokens)
    inside = layout.inside()
    assert inside.sum() == tokens
    source = layout.take(padded_to_block(torch.arange(tokens)))
    assert torch.equal(source.reshape(-1)[layout.position], torch.arange(tokens))
    assert torch.equal(source[inside].sort().values, torch.arange(tokens))
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    own = layout.row[:, None].expand_as(source)[inside]
    assert torch.equal(own, rows[source[inside]])


def test_a_block_layout_is_not_marked_by_the_modules_that_use_it() -> None:
    """Sizes are hinted at by marks on tensors, and marked tensors are another graph to a module
    that was compiled for a large batch, which needs no hints."""

    def call(loss_fn: FusedLoss, layout: Any) -> None:
        x = torch.zeros(layout.position.shape[0])
        loss_fn(x, x, x, torch.ones_like(x), cu_seqlens=layout)

    counter = CompileCounterWithBackend("aot_eager")
    large_first = fibdsl.load("fiberpo").compile(backend=counter, metrics=())
    small = fibdsl.block_layout(torch.tensor([0, 3, 7]), 7)
    call(large_first, fibdsl.block_layout(torch.arange(301) * 900, 270_000))
    call(fibdsl.load("fiberpo").compile(backend="aot_eager", metrics=()), small)
    assert counter.frame_count == 1
    call(large_first, small)
    assert counter.frame_count == 1


@pytest.mark.parametrize("rows", [9, 2])
def test_a_block_layout_made_before_is_as_good(rows: int) -> None:
    loss_fn = fibdsl.load("fiberpo_domain").compile(backend=None)
    case = random_case(rows, 20, seed=4)
    expected = compiled(loss_fn, case, "packed")
    (logp, old_logp, advantages, mask), keys, cu, keep = case.packed()
    layout = fibdsl.block_layout(cu, logp.shape[0])
    logp = logp.requires_grad_()
    out = loss_fn(logp, old_logp, advantages, mask, keys, cu_seqlens=layout)
    out.loss.backward()
    assert out.loss.item() == expected.loss
    assert logp.grad is not None
    assert np.array_equal(logp.grad.numpy(), expected.gradient[keep])
    weighed = loss_fn.weigh(logp, old_logp, advantages, mask, keys, cu_seqlens=layout)
    assert np.array_equal(weighed.weights.numpy(), expected.gradient[keep])
    with pytest.raises(ValueError, match=r"layout is of \d+ tokens, but logp has"):
        loss_fn(logp[1:], old_logp[1:], advantages[1:], mask[1:], keys, cu_seqlens=layout)
