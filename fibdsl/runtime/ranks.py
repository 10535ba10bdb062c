"""Several ranks that hold one batch together: what they exchange, and how they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor


class Ranks:
    """The ranks of a process group. Collectives run in the order of the code on every rank."""

    def __init__(self, group: torch.distributed.ProcessGroup) -> None:
        self.group = group
        self.name = group.group_name
        self.size = group.size()

    def reduced(self, x: Tensor) -> Tensor:
        """The sum over ranks, the same on every rank; inside a compiled graph too."""
        if torch.compiler.is_compiling():
            ops = torch.ops._c10d_functional
            # Inductor exchanges in place, which fails on what it makes by index or by stacking, and
            # on two dimensions of any size; a copy it would leave out, this one it does not.
            own = x.reshape(-1).neg().neg()
            summed: Tensor = ops.wait_tensor(ops.all_reduce(own, "sum", self.name))
            return summed.reshape(x.shape)
        summed = x.contiguous().clone()
        torch.distributed.all_reduce(summed, group=self.group)
        return summed

    def reduced_with(self, x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """`reduced` of values of any shape and of one number (0-dim), in one exchange."""
        together = self.reduced(torch.cat([x.reshape(-1), number.reshape(1)]))
        return together[:-1].reshape(x.shape), together[-1]

    def largest(self, values: Tensor) -> Tensor:
        """The element-wise maximum over ranks; inside a compiled graph too."""
        if torch.compiler.is_compiling():
            ops = torch.ops._c10d_functional
            own = values.reshape(-1).neg().neg()  # as in `reduced`
            largest: Tensor = ops.wait_tensor(ops.all_reduce(own, "max", self.name))
            return largest.reshape(values.shape)
        values = values.clone()
        torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX, group=self.group)
        return values

    def gathered(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Of several 1-d integer tensors of any lengths those of all ranks, one after the other;
        inside a compiled graph too."""
        own = torch.cat([v.new_full((1,), v.numel()) for v in values])
        lengths = self._all(own)
        most = int(lengths.sum(1).max().clamp(min=1))
        together = torch.cat([*values])
        torch._check(most >= together.numel())  # type: ignore[no-untyped-call]
        padded = torch.cat([together, together.new_zeros(most - together.numel())])
        place = torch.arange(most, device=padded.device)
        ends = lengths.cumsum(1)
        table = self._all(padded)
        return [
            table[(place >= (end - length)[:, None]) & (place < end[:, None])]
            for end, length in zip(ends.unbind(1), lengths.unbind(1), strict=True)
        ]

    def _all(self, values: Tensor) -> Tensor:
        """The values (n,) of all ranks, of one length, (ranks, n)."""
        if torch.compiler.is_compiling():
            ops = torch.ops._c10d_functional
            everyone = ops.all_gather_into_tensor(values, self.size, self.name)
            gathered: Tensor = ops.wait_tensor(everyone)
            return gathered.view(self.size, values.numel())
        parts = [torch.empty_like(values) for _ in range(self.size)]
        torch.distributed.all_gather(parts, values, group=self.group)
        return torch.stack(parts)

    # --- outside the graph ----------------------------------------------------------------------

    def agree(
        self, error: Exception | None, facts: tuple[int, ...] = (), names: tuple[str, ...] = ()
    ) -> None:
        """Raises on every rank if one has an error, or if they disagree on `facts`.

        Args:
            error: what is wrong with this rank's arguments.
            facts: numbers that have to be the same everywhere; `names` says what they are.

        Raises:
            ValueError: naming the rank and its error, or the fact.
        """
        device = self.device
        own = torch.tensor([int(error is not None), *facts], dtype=torch.int64, device=device)
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(gathered, own, group=self.group)
        table = torch.stack(gathered).tolist()
        if any(row[0] for row in table):
            texts: list[Any] = [None] * self.size
            torch.distributed.all_gather_object(texts, error and str(error), group=self.group)
            said = "; ".join(f"rank {r}: {text}" for r, text in enumerate(texts) if text)
            raise ValueError(said) from error
        for column, name in enumerate(names, 1):
            values = [row[column] for row in table]
            if len(set(values)) > 1:
                raise ValueError(
                    f"the ranks differ in {name}; every rank of a process group calls the same "
                    "loss with the same parameters and types"
                )

    @property
    def device(self) -> torch.device:
        """Where the group's backend exchanges tensors."""
        backend = torch.distributed.get_backend(self.group)
        if backend == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")
