"""Parts and ranks that would be another objective are refused; what is wrong on one rank is the
same error on every rank; and a rank that fails leaves none waiting."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.distributed as dist

import fibdsl
from tests.compiled.cases import Case, random_case
from tests.distributed.harness import DIED, gathered, outcomes
from tests.distributed.splits import take

PATIENCE = 8.0
"""The timeout, in seconds, of groups of which a rank fails."""

NO_ROWS = torch.arange(0)


def batch() -> Case:
    return random_case(6, 5, seed=2)


def loss_of(spec: str = "fiberpo_domain", **options: Any) -> Any:
    """A loss of all ranks."""
    given = {"process_group": dist.group.WORLD, "gradients": "summed", "backend": None}
    return fibdsl.load(spec).compile(**(given | options))


# --- parts ----------------------------------------------------------------------------------------


def test_normalizers_where_cells_are_cut_are_refused() -> None:
    loss_fn, case = fibdsl.load("fiberpo_domain").compile(backend=None), batch()
    with pytest.raises(ValueError, match=r"whole cells of level 'group'.*`weigh`.*whole_cells"):
        loss_fn(*case.tokens, case.keys, normalizers={"trajectory": 9})
    loss_fn(*case.tokens, case.keys, normalizers={"trajectory": 9}, whole_cells=True)


def test_normalizers_where_trajectories_are_cut_are_refused() -> None:
    """FiberPO is split invariant, but only while every part has whole trajectories."""
    loss_fn, case = fibdsl.load("fiberpo").compile(backend=None), batch()
    pieces = {"trajectory": torch.tensor([0, 0, 1, 1, 2, 2])}
    with pytest.raises(ValueError, match=r"whole cells of level 'trajectory'.*`weigh`"):
        loss_fn(*case.tokens, pieces, normalizers={"trajectory": 3})
    loss_fn(*case.tokens, pieces)
    loss_fn(*case.tokens, normalizers={"trajectory": 6})


def test_parts_of_other_rows_or_another_policy_are_refused() -> None:
    loss_fn, case = fibdsl.load("fiberpo_domain").compile(backend=None), batch()
    weights = loss_fn.weigh(*case.tokens, keys=case.keys)
    with pytest.raises(ValueError, match=r"logp has shape \(2, 5\), but these rows .* \(3, 5\)"):
        weights.part(case.logp[:2], slice(0, 3))
    with pytest.raises(ValueError, match=r"more than 0\.2 nats .* other rows, or another policy"):
        weights.part(case.logp.flip(0), slice(None))
    with pytest.raises(ValueError, match=r"dropout off, or say weigh\(\.\.\., stale=True\)"):
        weights.part(case.logp + 0.3, slice(None))
    out = weights.part(case.logp + 0.1, slice(None))
    assert out.metrics["recomputed/max"].item() == pytest.approx(0.1)
    assert "approximate/stale" not in out.metrics


def test_stale_weights_are_named_in_the_metrics() -> None:
    loss_fn, case = fibdsl.load("fiberpo_domain").compile(backend=None), batch()
    stale = loss_fn.weigh(*case.tokens, keys=case.keys, stale=True)
    out = stale.part(case.logp + 0.3, slice(None))
    assert out.metrics["approximate/stale"] == 1
    assert out.metrics["recomputed/max"].item() == pytest.approx(0.3)


def test_the_group_and_how_gradients_are_put_together_are_given_together() -> None:
    objective = fibdsl.load("ppo")
    with pytest.raises(ValueError, match="give both, gradients='averaged' under DDP and FSDP"):
        objective.compile(backend=None, gradients="averaged")
    assert gathered(1, wrong_gradients) == [
        ["give both, gradients='averaged' under DDP and FSDP", "is 'averaged' or 'summed', not 'm"]
    ]


def wrong_gradients(rank: int) -> list[str]:
    found = []
    for gradients, text in (
        (None, "give both, gradients='averaged' under DDP and FSDP"),
        ("mean", "is 'averaged' or 'summed', not 'm"),
    ):
        with pytest.raises(ValueError, match=text):
            loss_of(gradients=gradients)
        found.append(text)
    return found


def test_a_rank_by_itself_is_refused() -> None:
    for both in gathered(2, alone):
        call, empty, weigh, split_invariant, normalized, whole = both
        for text in (call, empty, weigh):
            assert text.startswith("torch.distributed runs 2 ranks, and 'fiberpo_domain' would be")
            assert "take its part of a 'group' for the whole. Compile it with process_group" in text
        assert "'fiberpo' would be averaged over the rows of this one. Compile" in split_invariant
        assert normalized == whole == ""


def alone(rank: int) -> list[str]:
    """What calls without a process group say on one of two ranks."""
    case = batch()
    domain, fiberpo = (
        fibdsl.load(spec).compile(backend=None) for spec in ("fiberpo_domain", "fiberpo")
    )
    arguments = (*case.tokens, case.keys)
    count = {"trajectory": 12}
    return [
        said(domain, *arguments),
        said(domain, *arguments, normalizers={}),
        said(domain.weigh, *arguments),
        said(fiberpo, *arguments),
        said(fiberpo, *arguments, normalizers=count),
        said(domain, *arguments, normalizers=count, whole_cells=True),
    ]


def said(call: Any, *arguments: Any, **options: Any) -> str:
    """The text of its ValueError; empty without."""
    try:
        call(*arguments, **options)
    except ValueError as error:
        return str(error)
    return ""


# --- ranks that disagree, and mistakes on one rank ------------------------------------------------


def disagreeing(rank: int, what: str) -> None:
    case = batch()
    if what == "the objective":
        loss_of(("grpo", "fiberpo")[rank])(*case.tokens)
    elif what == "its parameters":
        loss_fn = loss_of("ppo")
        loss_fn.set_params(epsilon=0.2 + 0.01 * rank)
        loss_fn(*case.tokens)
    elif what == "the number type":
        loss_of()(*case.to((torch.float32, torch.float64)[rank]).tokens, case.keys)
    elif what == "whether rows are pieces":
        pieces = {"trajectory": case.keys["uid"]} if rank else {}
        loss_of()(*case.tokens, case.keys | pieces)
    else:
        loss_of(gradients=("averaged", "summed")[rank])(*case.tokens, case.keys)


@pytest.mark.parametrize(
    "what",
    [
        "the objective",
        "its parameters",
        "the number type",
        "whether rows are pieces",
        "how their gradients are put together",
    ],
)
def test_ranks_that_differ(what: str) -> None:
    for outcome in outcomes(2, disagreeing, what):
        assert outcome.error is not None
        assert outcome.error.startswith(f"ValueError: the ranks differ in {what}; every rank of")


def wrong_on_one(rank: int, name: str, idle: bool) -> str:
    """A call, and a `weigh`, where rank 1 of three gives one wrong argument."""
    case = batch()
    if idle and rank != 1:
        case = take(case, NO_ROWS)
    loss_fn = loss_of()
    arguments: dict[str, Any] = dict(
        zip(("logp", "old_logp", "advantages", "mask"), case.tokens, strict=True), keys=case.keys
    )
    if rank == 1:
        arguments |= WRONG[name][0]
    texts = {said(loss_fn, **arguments), said(loss_fn.weigh, **arguments)}
    assert len(texts) == 1
    # The group is still usable.
    total = torch.ones(())
    dist.all_reduce(total)
    assert total == 3
    return texts.pop()


IDS = torch.tensor([1, 1, 2, 2, 3, 3])
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"keys": {"uid": IDS}}, r"keys['data_source'] is missing: level 'domain'"),
    "key of another shape": (
        {"keys": {"uid": IDS[:5], "data_source": IDS}},
        "keys['uid'] (level 'group') has shape (5,)",
    ),
    "float key": (
        {"keys": {"uid": IDS.double(), "data_source": IDS}},
        "keys['uid'] (level 'group') is torch.float64; ids are integers",
    ),
    "split cell": (
        {"keys": {"uid": torch.ones_like(IDS), "data_source": IDS}},
        "keys['data_source'] (level 'domain') splits a cell of level 'group'",
    ),
    "keys are a number": ({"keys": 5}, "argument of type 'int' is not iterable"),
    "mask of halves": ({"mask": torch.full((6, 5), 0.5)}, "mask has values other than 0 and 1"),
    "shape": ({"advantages": torch.ones(6)}, "advantages has shape (6,), but logp has (6, 5)"),
    "no tensor": ({"old_logp": [0.0]}, "old_logp is a list; give a torch tensor"),
    "offsets are a list": (
        {"cu_seqlens": [0, 30], "logp": torch.zeros(30)},
        "old_logp has shape (6, 5), but logp has (30,)",
    ),
}


@pytest.mark.parametrize("idle", [False, True], ids=["all have rows", "others have none"])
def test_what_is_wrong_on_one_rank_is_said_on_all(idle: bool) -> None:
    answers = gathered(3, all_wrong_on_one, idle)
    for name, *texts in zip(WRONG, *answers, strict=True):
        assert len(set(texts)) == 1, f"{name}: {texts}"
        if name == "split cell":
            # Found when the ranks' cells are together, by every rank that has a part.
            assert WRONG[name][1] in texts[0]
        else:
            assert texts[0].startswith(f"rank 1: {WRONG[name][1]}"), name
        assert "rank 0: None" not in texts[0]


def all_wrong_on_one(rank: int, idle: bool) -> list[str]:
    return [wrong_on_one(rank, name, idle) for name in WRONG]


def mistaken_types(rank: int) -> list[str]:
    """What is no tensor at all, of a kind that no check looks for."""
    (logp, *rest), keys, cu, _ = batch().packed()
    loss_fn = loss_of("fiberpo")
    wrong = said(loss_fn, logp, *rest, keys, cu_seqlens=cu.tolist() if rank else cu)
    idle = said(loss_fn, logp[:0] if rank else logp, *([None] * 3 if rank else rest))
    return [wrong, idle]


def test_any_error_of_one_rank_ends_the_call_on_all() -> None:
    first, second = gathered(2, mistaken_types)
    assert first == second
    assert first[0] == "rank 1: cu_seqlens is a list; give a torch tensor"
    assert "rank 1: 'NoneType' object has no attribute 'new_zeros'" in first[1]


def together(rank: int, spec: str, keys: list[dict[str, torch.Tensor]]) -> tuple[str, str]:
    case = batch()
    mine = take(case, torch.arange(3 * rank, 3 * rank + 3))
    by_itself = fibdsl.load(spec).compile(backend=None)
    alone = said(by_itself, *mine.tokens, mine.keys | keys[rank], whole_cells=True)
    return alone, said(loss_of(spec), *mine.tokens, mine.keys | keys[rank])


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (
            [
                {"uid": torch.tensor([7, 8, 8]), "data_source": torch.tensor([1, 2, 2])},
                {"uid": torch.tensor([7, 9, 9]), "data_source": torch.tensor([2, 2, 2])},
            ],
            "keys['data_source'] (level 'domain') splits a cell of level 'group'",
        ),
        (
            [
                {"trajectory": torch.tensor([4, 5, 6]), "uid": torch.tensor([1, 2, 3])},
                {"trajectory": torch.tensor([7, 5, 8]), "uid": torch.tensor([1, 3, 3])},
            ],
            "keys['uid'] (level 'group') splits a cell of level 'trajectory'",
        ),
    ],
    ids=["group", "pieces"],
)
def test_cells_in_two_coarser_ones_only_when_ranks_are_put_together(
    keys: list[dict[str, torch.Tensor]], what: str
) -> None:
    for given in keys:
        given.setdefault("data_source", torch.zeros(3, dtype=torch.int64))
    found = gathered(2, together, "fiberpo_domain", keys)
    for alone, joined in found:
        assert alone == ""
        assert what in joined
    assert found[0] == found[1]


def counted_twice(rank: int) -> str:
    case = batch()
    return said(loss_of(), *case.tokens, case.keys, normalizers={"trajectory": 12})


def test_normalizers_with_a_group_are_refused() -> None:
    for text in gathered(2, counted_twice):
        assert text.startswith("rank 0: normalizers have no effect with a process_group")


def whole_on_the_second(rank: int) -> str:
    case = batch()
    return said(loss_of(), *case.tokens, case.keys, whole_cells=rank == 1)


def test_an_option_without_effect_on_one_rank_is_refused_on_all() -> None:
    for text in gathered(2, whole_on_the_second):
        assert text.startswith("rank 1: whole_cells has no effect with a process_group")


# --- ranks that fail ------------------------------------------------------------------------------


def failing(rank: int, how: str, where: str) -> None:
    """Rank 1 of three dies, or raises and stays, somewhere in the exchanges of a `weigh`."""
    case = batch()
    loss_fn = loss_of("grpo", backend="aot_eager") if where == "graph" else loss_of()
    loss_fn.weigh(*case.tokens, case.keys)

    def fail(*_: Any) -> Any:
        if how == "dies":
            os._exit(3)
        raise MemoryError("no memory left on this rank")

    if rank == 1 and where == "graph":
        # The others are inside the compiled graph then.
        loss_fn.graphs.function = lambda *_: fail
    elif rank == 1:
        setattr(loss_fn.graphs.ranks, where, fail)
    loss_fn.weigh(*case.tokens, case.keys)


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ("dies", "agree"),
        ("dies", "gathered"),
        ("dies", "reduced"),
        ("dies", "graph"),
        ("raises", "graph"),
    ],
)
def test_a_rank_that_fails_leaves_none_waiting(how: str, where: str) -> None:
    found = outcomes(3, failing, how, where, patience=PATIENCE, deadline=60.0)
    assert found[1].error == (DIED if how == "dies" else "MemoryError: no memory left on this rank")
    for other in (found[0], found[2]):
        assert other.error is not None
        assert any(word in other.error for word in GLOO), other.error
        assert other.seconds < found[1].seconds + PATIENCE + 5


GLOO = ("Timed out", "timed out", "closed by peer", "reset by peer", "Broken pipe")
"""What gloo says of a peer that is gone or late."""
