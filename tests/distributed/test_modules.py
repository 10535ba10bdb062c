"""Parameter gradients of a small model under DDP and FSDP2 are those of one process."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import fibdsl
from tests.compiled.cases import Case, random_case
from tests.distributed.harness import gathered
from tests.distributed.splits import take

VOCABULARY = 11
RANKS = 2
ROWS = {"uneven": [[0, 3, 5, 6, 8, 9, 11], [1, 2, 4, 7, 10]], "one idle": [list(range(12)), []]}
SETTINGS = list(
    itertools.product(("fiberpo_domain", "grpo"), ROWS, (0, 3), (torch.float64, torch.float32))
)


class Policy(nn.Module):
    """Log-probabilities of the next tokens, from the token before."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.head = nn.Linear(8, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.head(self.embedding(tokens[:, :-1]))
        return -cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")


def model_and_batch(dtype: torch.dtype) -> tuple[Policy, Tensor, Case]:
    """The same on every rank: a policy, tokens, and rollouts of a policy a little different."""
    torch.manual_seed(0)
    policy = Policy().to(dtype)
    case = random_case(12, 9, seed=5)
    tokens = torch.randint(VOCABULARY, (12, 10))
    logp = policy(tokens).detach().double()
    x = torch.where(case.mask, case.logp - case.old_logp, 0.0)
    return policy, tokens, Case(logp, (logp - x), case.advantages, case.mask, case.keys).to(dtype)


def one_process(spec: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameter gradients from the reference's gradient of the log-probabilities."""
    policy, tokens, case = model_and_batch(dtype)
    weights = torch.from_numpy(fibdsl.load(spec).evaluate(*case.tokens, case.keys).gradient)
    (policy(tokens) * weights.to(dtype)).sum().backward()
    return {name: p.grad.double() for name, p in policy.named_parameters() if p.grad is not None}


def all_trained(rank: int, kind: str) -> list[dict[str, Tensor]]:
    return [trained(rank, kind, *setting) for setting in SETTINGS]


def trained(
    rank: int, kind: str, spec: str, rows: str, parts: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Parameter gradients under DDP or FSDP2, in one call (`parts` 0) or in micro-batches."""
    policy, tokens, case = model_and_batch(dtype)
    model: Any = policy
    if kind == "ddp":
        model = DistributedDataParallel(policy)
    else:
        mesh = dist.device_mesh.init_device_mesh("cpu", (RANKS,))
        fully_shard(policy.embedding, mesh=mesh)
        fully_shard(policy, mesh=mesh)
    loss_fn: Any = fibdsl.load(spec).compile(
        backend=None, process_group=dist.group.WORLD, gradients="averaged"
    )
    mine = torch.tensor(ROWS[rows][rank], dtype=torch.int64)
    own, tokens = take(case, mine), tokens[mine]
    if parts:
        with torch.no_grad():
            weighed = model(tokens)
        weights = loss_fn.weigh(weighed, *own.tokens[1:], own.keys)
        # DDP and FSDP want as many backward passes on every rank; parts may be empty.
        for part in torch.arange(len(mine)).tensor_split(parts):
            weights.part(model(tokens[part]), part).loss.backward()
    else:
        loss_fn(model(tokens), *own.tokens[1:], own.keys).loss.backward()
    return {name.removeprefix("module."): full(p.grad) for name, p in model.named_parameters()}


def full(gradient: Any) -> Tensor:
    """A gradient that FSDP has sharded, put together."""
    whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return whole.double()


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_parameter_gradients_are_those_of_one_process(kind: str) -> None:
    answers = gathered(RANKS, all_trained, kind)
    for number, (spec, rows, parts, dtype) in enumerate(SETTINGS):
        expected = one_process(spec, dtype)
        scale = max(float(g.abs().max()) for g in expected.values())
        assert scale > 0.01
        for rank in range(RANKS):
            gradients = answers[rank][number]
            assert gradients.keys() == expected.keys()
            for name, gradient in gradients.items():
                error = float((gradient - expected[name]).abs().max()) / scale
                exact = 1e-12 if dtype == torch.float64 else 1e-6
                assert error <= exact, f"{name} of {spec}, {rows}, {parts} parts, {dtype}"
