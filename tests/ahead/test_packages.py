"""Packages compiled ahead of time against the reference interpreter, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fibdsl
from tests.ahead.specs import DEEP
from tests.compiled.cases import Case, compiled, random_case, real_case, reference, smooth_rows
from tests.compiled.test_parity import cases, compare, row_scale
from tests.docs.test_docs import of_kind

pytestmark = pytest.mark.slow

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


def chosen(objective: fibdsl.Objective, case: Case, names: list[str]) -> Any:
    result = reference(objective, case)
    return replace(result, metrics={name: result.metrics[name] for name in names})


def test_padded_equals_the_interpreter_at_every_size(padded: Path) -> None:
    objective = fibdsl.load("fiberpo_domain")
    loss_fn = fibdsl.load_compiled(padded)
    one_group = random_case(9, 14, seed=6)
    one_group.keys["uid"] = one_group.keys["data_source"] = torch.zeros(9, dtype=torch.int64)
    each_its_own = random_case(40, 6, seed=7)
    each_its_own.keys["uid"] = torch.arange(40)
    for full in (*cases(), one_group, each_its_own, random_case(1, 1, seed=8)):
        case = full.to(torch.float32)
        rows = smooth_rows(objective, case)
        result, expected = compiled(loss_fn, case, "padded"), reference(objective, case)
        assert list(result.metrics) == list(objective.compile(backend=None).objective.metrics)
        compare(result, expected, rows, row_scale(objective, case), torch.float32)


def test_packed_equals_the_interpreter_at_every_size(packed: Path) -> None:
    objective = fibdsl.load_text(DEEP, epsilon=0.03)
    loss_fn = fibdsl.load_compiled(packed)
    assert loss_fn.params == {"epsilon": 0.03}
    sizes = ((7, 7), (12, 21), (1, 30), (1, 1), (30, 1), (3, 4500), (2, 150))
    for seed, (rows, width) in enumerate(sizes):
        case = random_case(rows, width, seed)
        result = compiled(loss_fn, case, "packed")
        expected = chosen(objective, case, list(result.metrics))
        assert set(result.metrics) == {"kl/k3", "drift/turn/plus", "tokens_clipped"}
        everywhere = np.ones(rows, bool)
        compare(result, expected, everywhere, row_scale(objective, case), torch.float64)


def test_ids_may_have_either_form(padded: Path, packed: Path) -> None:
    wide = random_case(7, 9, seed=1)
    wide.keys["uid"] = wide.keys["uid"][:, None].expand(7, 9)
    objective = fibdsl.load("fiberpo_domain")
    result = compiled(fibdsl.load_compiled(padded), wide.to(torch.float32), "padded")
    expected = reference(objective, wide.to(torch.float32))
    assert result.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)

    rows = random_case(7, 9, seed=2)
    rows.keys["turn_id"] = torch.arange(7) % 2
    objective = fibdsl.load_text(DEEP, epsilon=0.03)
    result = compiled(fibdsl.load_compiled(packed), rows, "packed")
    assert result.loss == pytest.approx(reference(objective, rows).loss, rel=1e-12)


def test_a_block_layout_made_before(packed: Path) -> None:
    loss_fn = fibdsl.load_compiled(packed)
    case = random_case(7, 40, seed=3)
    tokens, keys, cu, _ = case.packed()
    layout = fibdsl.block_layout(cu, tokens[0].shape[0])
    once, again = (loss_fn(*tokens, keys, cu_seqlens=given).loss for given in (cu, layout))
    assert once.item() == again.item()


def test_what_is_under_the_mask_never_matters(padded: Path) -> None:
    loss_fn = fibdsl.load_compiled(padded)
    case = random_case(8, 9, seed=3).to(torch.float32)
    plain = compiled(loss_fn, case, "padded")
    for junk in (torch.nan, torch.inf, -torch.inf, 1e30):
        for tensor in case.tokens[:3]:
            tensor[~case.mask] = junk
        result = compiled(loss_fn, case, "padded")
        assert result.loss == plain.loss
        assert (result.gradient == plain.gradient).all()
        assert result.metrics == plain.metrics


def test_params_are_run_time_values(padded: Path) -> None:
    loss_fn, fresh = fibdsl.load_compiled(padded), fibdsl.load_compiled(padded)
    case = real_case("far").to(torch.float32)
    before = compiled(loss_fn, case, "padded")
    changed = {"epsilon": 0.05, "group_minus": 0.01}
    loss_fn.set_params(**changed)
    after = compiled(loss_fn, case, "padded")
    expected = reference(fibdsl.load("fiberpo_domain", params=changed, promises=False), case)
    assert after.loss == pytest.approx(expected.loss, rel=1e-5)
    assert abs(after.loss - before.loss) > 1e-4 * abs(before.loss)
    fresh.load_state_dict(loss_fn.state_dict())
    assert fresh.params == loss_fn.params
    assert compiled(fresh, case, "padded").loss == after.loss
    with pytest.raises(ValueError, match=r"epsilon = 2 is outside its range \(0, 1\)"):
        loss_fn.set_params(epsilon=2)
    with pytest.raises(ValueError, match="no parameter 'epsilom'"):
        loss_fn.set_params(epsilom=0.1)


def test_a_package_has_its_schedules(packed: Path) -> None:
    loss_fn, fresh = fibdsl.load_compiled(packed), fibdsl.load_compiled(packed)
    assert loss_fn.schedules == {"epsilon": fibdsl.schedules.linear(0.03, 0.05, 100)}
    case = random_case(5, 30, seed=4)
    losses = set()
    for step, epsilon in ((0, 0.03), (50, 0.04), (200, 0.05)):
        loss_fn.set_step(step)
        assert loss_fn.params == {"epsilon": pytest.approx(epsilon)}
        result = compiled(loss_fn, case, "packed")
        expected = reference(fibdsl.load_text(DEEP).with_params(**loss_fn.params), case)
        assert result.loss == pytest.approx(expected.loss, rel=1e-12)
        losses.add(result.loss)
    assert len(losses) == 3
    fresh.load_state_dict(loss_fn.state_dict())
    assert (fresh.params, fresh.step) == (loss_fn.params, 200)
    loss_fn.set_params(epsilon=0.03)
    with pytest.raises(ValueError, match="set_step has no effect"):
        loss_fn.set_step(3)


def test_micro_batches(padded: Path) -> None:
    loss_fn = fibdsl.load_compiled(padded)
    case = real_case("near").to(torch.float32)
    whole = compiled(loss_fn, case, "padded")
    weights = loss_fn.weigh(*case.tokens, case.keys)
    logp = case.logp.clone().requires_grad_()
    for first in range(0, 48, 16):
        rows = torch.arange(first, first + 16)
        torch.autograd.backward(weights.part(logp[rows], rows).loss)
    assert logp.grad is not None
    assert np.abs(logp.grad.double().numpy() - whole.gradient).max() <= 1e-9
    whole_cells = {"normalizers": {"trajectory": 48}, "whole_cells": True}
    part = compiled(loss_fn, case.rows(slice(0, 16)), "padded", **whole_cells)
    eager = fibdsl.load("fiberpo_domain").compile(backend=None)
    expected = compiled(eager, case.rows(slice(0, 16)), "padded", **whole_cells)
    assert part.loss == pytest.approx(expected.loss, rel=1e-5)


def test_no_gradient_and_autocast(padded: Path) -> None:
    loss_fn = fibdsl.load_compiled(padded)
    case = random_case(5, 6, seed=1).to(torch.float32)
    expected = loss_fn(*case.tokens, case.keys).loss
    logp = case.logp.clone().requires_grad_()
    assert loss_fn(logp, *case.tokens[1:], case.keys).loss.requires_grad
    with torch.no_grad():
        assert not loss_fn(logp, *case.tokens[1:], case.keys).loss.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_fn(*case.tokens, case.keys).loss == expected


TRAINS = """
import sys
import torch
from torch._dynamo.utils import counters
import fibdsl

loss_fn = fibdsl.load_compiled(sys.argv[1])
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))
losses = []
optimizer = torch.optim.Adam(model.parameters(), 0.003)
for rows, width in ((24, 11), (24, 11), (24, 11), (24, 11), (5, 3), (1, 1)):
    torch.manual_seed(1)
    states, actions = torch.randn(rows, width, 6), torch.randint(5, (rows, width, 1))
    old_logp = torch.full((rows, width), -1.6)
    advantages = torch.randn(rows, 1).expand(rows, width)
    keys = {"uid": torch.arange(rows) // 4, "data_source": torch.arange(rows) // 12}
    logp = model(states).log_softmax(-1).gather(-1, actions).squeeze(-1)
    out = loss_fn(logp, old_logp, advantages, torch.ones(rows, width), keys)
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    losses.append(out.loss.item())
    loss_fn.set_params(epsilon=0.02 + 0.001 * len(losses))
assert losses[0] > losses[1] > losses[2] > losses[3], losses
assert not counters["stats"] and not counters["inductor"], counters
print("trained")
"""


def test_trains_in_a_process_that_cannot_compile(padded: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run = subprocess.run(
        [sys.executable, "-c", TRAINS, str(padded)],
        env={
            **os.environ,
            "PATH": str(tmp_path),
            "CXX": "no-such-compiler",
            "TORCHDYNAMO_DISABLE": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.stdout, run.stderr) == ("trained\n", "")
    assert not [file for file in cache.rglob("*") if file.is_file()]


def test_a_first_call_imports_no_compiler(padded: Path) -> None:
    """It takes longer to import than all the rest."""
    code = """
import sys, torch, fibdsl
loss_fn = fibdsl.load_compiled(sys.argv[1])
x, ids = torch.zeros(4, 5, requires_grad=True), torch.zeros(4, dtype=torch.int64)
keys = {"uid": ids, "data_source": ids}
loss_fn(x, torch.zeros(4, 5), torch.ones(4, 5), torch.ones(4, 5), keys).loss.backward()
print(*(name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(padded)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout == "\n"


def test_the_readme_runs(padded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(padded.parent)
    case = real_case("near").to(torch.float32)
    names: dict[str, Any] = {"fibdsl": fibdsl, "keys": case.keys}
    names |= dict(zip(("logp", "old_logp", "advantages", "mask"), case.tokens, strict=True))
    names["logp"].requires_grad_()
    [block] = of_kind("py", "README.md")
    exec(compile(block.text, "README.md", "exec"), names)
    assert names["logp"].grad.abs().max() > 0


# --- what a call is refused ---------------------------------------------------------------------

FLOAT = torch.zeros(4, 5)
IDS = torch.tensor([7, 7, 8, 8])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {name: FLOAT.double() for name in ("logp", "old_logp", "advantages")},
            TypeError,
            r"loss.pt2 was built for float32 tensors, and these are float64; give it float32 ones, "
            "or build another with dtype='float64'",
        ),
        (
            {"cu_seqlens": torch.tensor([0, 2, 2, 5, 5])}
            | dict.fromkeys(("logp", "old_logp", "advantages", "mask"), FLOAT[0]),
            ValueError,
            r"loss.pt2 was built for padded tensors, and these are packed; .* layout='packed'",
        ),
        (
            {"keys": {"uid": IDS, "data_source": IDS, "trajectory": IDS}},
            ValueError,
            r"pieces of trajectories .* by modules of `fibdsl.load\(...\).compile\(\)` only",
        ),
        ({"logp": FLOAT[0]}, ValueError, r"logp has shape \(5,\): padded tensors are \(B, T\)"),
        ({"mask": FLOAT + 0.5}, ValueError, "mask has values other than 0 and 1"),
        ({"keys": {"uid": IDS}}, ValueError, r"keys\['data_source'\] is missing: level 'domain'"),
        (
            {"keys": {"uid": IDS, "data_source": torch.arange(4)}},
            ValueError,
            r"keys\['data_source'\] \(level 'domain'\) splits a cell of level 'group'",
        ),
        (
            {"keys": {"uid": torch.arange(20).view(4, 5), "data_source": IDS}},
            ValueError,
            r"keys\['uid'\] \(level 'group'\) splits a trajectory",
        ),
        ({"normalizers": {"trajectory": 9}}, ValueError, "looks at whole cells of level 'group'"),
    ],
)
def test_wrong_calls(
    padded: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "logp": FLOAT,
        "old_logp": FLOAT,
        "advantages": FLOAT,
        "mask": FLOAT + 1,
        "keys": {"uid": IDS, "data_source": IDS},
    }
    with pytest.raises(error, match=message):
        fibdsl.load_compiled(padded)(**(arguments | changes))


def test_no_aggregates_are_kept(padded: Path) -> None:
    keys = {"uid": IDS, "data_source": IDS}
    with pytest.raises(ValueError, match="aggregates are kept and used by modules of"):
        fibdsl.load_compiled(padded).weigh(
            FLOAT, FLOAT, FLOAT, FLOAT + 1, keys, keep_aggregates=True
        )
