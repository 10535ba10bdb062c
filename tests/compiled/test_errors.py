"""What a wrong batch is told: the tensor, the level, and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fibdsl
from tests.compiled.cases import random_case

FLOAT = torch.zeros(4, 5)
ONES = torch.ones(4, 5)
IDS = torch.tensor([7, 7, 8, 8])


def call(spec: str = "fiberpo_domain", **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "logp": FLOAT,
        "old_logp": FLOAT,
        "advantages": ONES,
        "mask": ONES > 0,
        "keys": {"uid": IDS, "data_source": IDS},
    }
    return fibdsl.load(spec).compile(backend=None)(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"logp": FLOAT[0]}, ValueError, r"logp has shape \(5,\): padded tensors are \(B, T\)"),
        ({"logp": [[0.0]]}, TypeError, "logp is a list; give a torch tensor"),
        (
            {"old_logp": FLOAT[:3]},
            ValueError,
            r"old_logp has shape \(3, 5\), but logp has \(4, 5\)",
        ),
        (
            {"advantages": ONES[:, 0]},
            ValueError,
            r"advantages has shape \(4,\).*advantages\[:, None\].expand_as\(logp\)",
        ),
        ({"advantages": IDS[:, None].expand(4, 5)}, TypeError, "advantages is torch.int64"),
        ({"mask": ONES * 0.5}, ValueError, "mask has values other than 0 and 1"),
        ({"mask": ONES * torch.nan}, ValueError, "mask has values other than 0 and 1"),
        (
            {"keys": {"data_source": IDS}},
            ValueError,
            r"keys\['uid'\] is missing: level 'group'.*keys given: 'data_source'",
        ),
        ({"keys": None}, ValueError, r"keys\['uid'\] is missing: level 'group'.*given: none"),
        (
            {"keys": {"uid": IDS[:3], "data_source": IDS}},
            ValueError,
            r"keys\['uid'\] \(level 'group'\) has shape \(3,\); give \(4,\), one id a trajectory",
        ),
        (
            {"keys": {"uid": IDS.float(), "data_source": IDS}},
            TypeError,
            r"keys\['uid'\] \(level 'group'\) is torch.float32; ids are integers",
        ),
        (
            {"keys": {"uid": [7, 7, 8, 8], "data_source": IDS}},
            TypeError,
            r"keys\['uid'\] \(level 'group'\) is a list",
        ),
        (
            {"keys": {"uid": IDS, "data_source": torch.tensor([1, 2, 3, 3])}},
            ValueError,
            r"keys\['data_source'\] \(level 'domain'\) splits a cell of level 'group'",
        ),
        (
            {"keys": {"uid": torch.arange(20).view(4, 5), "data_source": IDS}},
            ValueError,
            r"keys\['uid'\] \(level 'group'\) splits a trajectory",
        ),
        (
            {"cu_seqlens": torch.tensor([0, 20])},
            ValueError,
            r"logp has shape \(4, 5\), but with cu_seqlens it must be packed",
        ),
        ({"logp": FLOAT[:0]}, ValueError, r"old_logp has shape|no token in this batch"),
    ],
)
def test_wrong_batches(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("cu", "error", "message"),
    [
        (torch.tensor([0, 9, 20]).float(), TypeError, "cu_seqlens is torch.float32"),
        (torch.tensor([0, 9, 21]), ValueError, "cu_seqlens must rise from 0 to the 20 tokens"),
        (torch.tensor([0, 12, 9, 20]), ValueError, "cu_seqlens must rise from 0"),
        (torch.tensor([1, 20]), ValueError, "cu_seqlens must rise from 0"),
        (torch.tensor([20]), ValueError, r"cu_seqlens has shape \(1,\)"),
    ],
)
def test_wrong_row_offsets(cu: torch.Tensor, error: type[Exception], message: str) -> None:
    flat = {n: t.reshape(-1) for n, t in (("logp", FLOAT), ("old_logp", FLOAT), ("mask", ONES))}
    with pytest.raises(error, match=message):
        call("fiberpo", **flat, advantages=ONES.reshape(-1), cu_seqlens=cu)


def test_ids_under_the_mask_and_of_empty_rows_are_not_checked() -> None:
    mask = ONES > 0
    mask[1] = False
    uid = IDS[:, None].repeat(1, 5)
    uid[1] = torch.arange(5)
    mask[2, 0], uid[2, 0] = False, 99
    loss = call(mask=mask, keys={"uid": uid, "data_source": IDS}).loss
    assert loss == call(mask=mask).loss


def test_params() -> None:
    loss_fn = fibdsl.load("fiberpo").compile(backend=None)
    with pytest.raises(ValueError, match="no parameter 'eps'; it has: c_plus, c_minus, epsilon"):
        loss_fn.set_params(eps=0.1)
    with pytest.raises(ValueError, match=r"epsilon = 1.5 is outside its range \(0, 1\)"):
        loss_fn.set_params(c_plus=0.1, epsilon=1.5)
    assert loss_fn.params["c_plus"] == 0.2, "all or none"
    with pytest.raises(ValueError, match="is a number"):
        loss_fn.set_params(epsilon=True)
    with pytest.raises(fibdsl.FibError, match="gated_ratio"):
        loss_fn.set_params(c_plus=0.9)


def test_mixed_devices_are_named() -> None:
    case = random_case(3, 4, seed=0)
    with pytest.raises(ValueError, match="mask is on meta, but logp is on cpu"):
        fibdsl.load("ppo").compile(backend=None)(*case.tokens[:3], case.mask.to("meta"))
