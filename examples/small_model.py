"""What both distributed examples train, and the step each of their workers takes.

A language model of one embedding and one matrix, in float64, so that what differs between one
process and several is a difference of method and not of rounding. Its rollouts are 96 trajectories
of 3 to 40 tokens: 8 for each of 12 prompts, from 3 domains.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

import fibdsl
from fibdsl.runtime.loss import FusedLoss

SPEC = "fiberpo_domain"
TIMEOUT = timedelta(seconds=60)  # how long a rank waits for one that never comes

DOMAINS, PROMPTS, COMPLETIONS, LONGEST, VOCABULARY, WIDTH = 3, 4, 8, 40, 64, 32
LEARNING_RATE = 0.3
TOKENS_PER_MICRO_BATCH = 400

Rows = dict[str, Tensor]
"""A batch, a row a trajectory: prompts, tokens, mask, old_logp, advantages, and the two ids."""


class Policy(torch.nn.Module):
    """The next token from the last one and the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def logits(self, prompts: Tensor, last: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(last) + self.embedding(prompts))
        return logits

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """The log-probabilities of `tokens` (B, T)."""
        last = torch.cat([prompts.unsqueeze(1), tokens[:, :-1]], 1)
        logits = self.logits(prompts.unsqueeze(1), last)
        return -torch.nn.functional.cross_entropy(logits.mT, tokens, reduction="none")


def initial_policy() -> Policy:
    """The same on every process."""
    torch.manual_seed(0)
    return Policy().double()


@torch.no_grad()
def rollouts() -> Rows:
    """Trajectories sampled from the initial policy, rewarded for the tokens their domain likes."""
    policy, dice = initial_policy(), torch.Generator().manual_seed(1)
    uid = torch.arange(DOMAINS * PROMPTS).repeat_interleave(COMPLETIONS)
    domain = uid // PROMPTS
    tokens = torch.zeros(len(uid), LONGEST, dtype=torch.int64)
    last = uid
    for t in range(LONGEST):
        chances = policy.logits(uid, last).softmax(-1)
        last = torch.multinomial(chances, 1, generator=dice).squeeze(1)
        tokens[:, t] = last
    lengths = torch.randint(3, LONGEST + 1, (len(uid),), generator=dice)
    mask = torch.arange(LONGEST) < lengths.unsqueeze(1)
    liked = (tokens % DOMAINS == domain.unsqueeze(1)) & mask
    rewards = (liked.sum(1) / lengths).double().view(-1, COMPLETIONS)
    advantages = (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True)
    return {
        "prompts": uid,
        "tokens": tokens,
        "mask": mask,
        "old_logp": policy(uid, tokens) * mask,
        "advantages": advantages.view(-1, 1) * mask,
        "uid": uid,
        "data_source": domain,
    }


def take(rows: Rows, which: Tensor) -> Rows:
    return {name: tensor[which] for name, tensor in rows.items()}


def by_length(rows: Rows) -> Tensor:
    return rows["mask"].sum(1).argsort(stable=True)


def shard(rows: Rows, rank: int, ranks: int) -> Rows:
    """The rows of one rank: dealt by length, as trainers do, whatever prompts they belong to."""
    return take(rows, by_length(rows)[rank::ranks])


class Step(NamedTuple):
    """What a worker says of one optimizer step; the same on every rank.

    Attributes:
        loss, gradient_norm: of the whole batch.
        naive_error: by how much the gradient of the naive way differs, relatively.
        micro_batches: of each rank.
        tokens_clipped: of the whole batch.
    """

    loss: float
    gradient_norm: float
    naive_error: float
    micro_batches: int
    tokens_clipped: float


class Worker:
    """One rank of a trainer: its rows, its copy or share of the policy, and the optimizer.

    `torch.distributed` is initialised before; under FSDP the policy is sharded, under DDP wrapped.
    """

    def __init__(
        self, rows: Rows, device: torch.device, *, fsdp: bool = False, backend: str | None = None
    ) -> None:
        self.rows = {name: tensor.to(device) for name, tensor in rows.items()}
        self.policy: torch.nn.Module = initial_policy().to(device)
        if fsdp:
            fully_shard(self.policy, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))
        else:
            self.policy = DistributedDataParallel(self.policy)
        self.optimizer = torch.optim.SGD(self.policy.parameters(), LEARNING_RATE)
        spec = fibdsl.load(SPEC)
        self.loss_fn = spec.compile(
            backend=backend, process_group=dist.group.WORLD, gradients="averaged"
        )
        self.alone = spec.compile(backend=backend)
        self.steps = 0

    def step(self) -> Step:
        """One optimizer step on the whole batch, a micro-batch at a time."""
        rows, parts = self.rows, self.micro_batches()
        # On the first step the policy is the one that sampled.
        logp = self.log_probs(parts) if self.steps else rows["old_logp"]
        weights = self.loss_fn.weigh(logp, *arguments(rows))
        naive = self.naive_gradient(parts)

        self.optimizer.zero_grad()
        for part, last in in_turn(parts):
            with self.synchronised(last):
                weights.part(self.forward(part), part).loss.backward()  # type: ignore[no-untyped-call]
        gradient = self.gradient()
        self.optimizer.step()
        self.steps += 1
        return Step(
            weights.loss.item(),
            gradient.norm().item(),
            ((naive - gradient).norm() / gradient.norm()).item(),
            len(parts),
            weights.metrics["tokens_clipped"].item(),
        )

    def micro_batches(self) -> list[Tensor]:
        """This rank's rows, cut by length; as many parts on every rank, some perhaps empty."""
        length = self.rows["mask"].sum(1)
        wanted = length.sum() / TOKENS_PER_MICRO_BATCH
        dist.all_reduce(wanted, op=dist.ReduceOp.MAX)
        return list(by_length(self.rows).tensor_split(math.ceil(wanted.item())))

    def forward(self, part: Tensor) -> Tensor:
        """Log-probabilities of a micro-batch: only as wide as its longest row, then padded."""
        rows = take(self.rows, part)
        width = max(1, int(rows["mask"].sum(1).amax())) if len(part) else 1
        logp = self.policy(rows["prompts"], rows["tokens"][:, :width])
        return torch.nn.functional.pad(logp, (0, LONGEST - width))

    @torch.no_grad()
    def log_probs(self, parts: list[Tensor]) -> Tensor:
        """The forward pass without gradient that a later step needs first."""
        logp = torch.zeros_like(self.rows["old_logp"])
        for part in parts:
            logp[part] = self.forward(part)
        return logp

    def naive_gradient(self, parts: list[Tensor]) -> Tensor:
        """For comparison: each micro-batch gated by its own aggregates, which is another objective.

        The number of trajectories is that of the whole batch, as in careful trainers.
        """
        trajectories = self.rows["mask"].any(1).sum()
        dist.all_reduce(trajectories)
        self.optimizer.zero_grad()
        for part, last in in_turn(parts):
            with self.synchronised(last):
                logp = self.forward(part)
                loss = logp.sum()
                if len(part):
                    loss = self.alone(
                        logp,
                        *arguments(take(self.rows, part)),
                        normalizers={"trajectory": trajectories},
                        whole_cells=True,
                    ).loss
                (loss * dist.get_world_size()).backward()  # type: ignore[no-untyped-call]
        return self.gradient()

    def synchronised(self, last: bool) -> contextlib.AbstractContextManager[object]:
        """Gradients are put together after the last micro-batch only."""
        if isinstance(self.policy, DistributedDataParallel):
            return contextlib.nullcontext() if last else self.policy.no_sync()
        if isinstance(self.policy, FSDPModule):
            self.policy.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def gradient(self) -> Tensor:
        """All parameters' gradients in one vector, whole on every rank."""
        return flat([p.grad for p in self.policy.parameters()])

    def fail(self, how: str) -> None:
        """What may happen to a rank: rows that are wrong, or its end."""
        if how == "rows":
            self.rows["advantages"] = self.rows["advantages"][:, :-1]
        if how == "killed":
            os._exit(7)

    def parameters(self) -> Tensor:
        return flat([p.detach() for p in self.policy.parameters()])


def arguments(rows: Rows) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """What the loss takes besides `logp`."""
    keys = {name: rows[name] for name in ("uid", "data_source")}
    return rows["old_logp"], rows["advantages"], rows["mask"], keys


def in_turn(parts: list[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Each micro-batch, and whether it is the last."""
    return ((part, index == len(parts) - 1) for index, part in enumerate(parts))


def flat(tensors: list[Tensor | None]) -> Tensor:
    """In one vector, those that FSDP has sharded put together."""
    whole = [t.full_tensor() if hasattr(t, "full_tensor") else t for t in tensors if t is not None]
    return torch.cat([t.reshape(-1) for t in whole]).clone().cpu()


def undivided(rows: Rows, steps: int) -> tuple[list[tuple[float, float]], Tensor]:
    """The same training in one process, one call of the loss a step: the answer to compare with.

    Returns:
        Loss and gradient norm of each step, and the parameters in the end.
    """
    policy = initial_policy()
    optimizer = torch.optim.SGD(policy.parameters(), LEARNING_RATE)
    loss_fn: FusedLoss = fibdsl.load(SPEC).compile(backend=None)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        logp = policy(rows["prompts"], rows["tokens"])
        # This process holds every row, whatever else torch.distributed runs.
        loss = loss_fn(logp, *arguments(rows), whole_cells=True).loss
        loss.backward()
        history.append((loss.item(), flat([p.grad for p in policy.parameters()]).norm().item()))
        optimizer.step()
    return history, flat([p.detach() for p in policy.parameters()])


def report(steps: list[Step], parameters: Tensor, ranks: int) -> bool:
    """Prints what was trained beside the undivided training; whether they agree."""
    history, expected = undivided(rollouts(), len(steps))
    print(f"{'step':>4}{'loss':>16}{'|gradient|':>16}{'clipped':>9}{'naive |gradient| error':>25}")
    for number, step in enumerate(steps):
        print(
            f"{number:>4}{step.loss:>z16.10f}{step.gradient_norm:>16.10f}"
            f"{step.tokens_clipped:>9.3f}{step.naive_error:>25.1e}"
        )
    own = torch.tensor([(s.loss, s.gradient_norm) for s in steps], dtype=torch.float64)
    theirs = torch.tensor(history, dtype=torch.float64)
    loss, norm = ((own - theirs).abs() / theirs.abs().amax(0)).amax(0).tolist()
    distance = ((parameters - expected).norm() / expected.norm()).item()
    print(
        f"{ranks} processes of {steps[0].micro_batches} micro-batches, against one undivided call: "
        f"loss {loss:.1e}, gradient norm {norm:.1e}, parameters {distance:.1e}"
    )
    return bool(max(loss, norm, distance) < 1e-10)
