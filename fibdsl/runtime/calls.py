"""One call of a loss module: its arguments checked, and put as the graph takes them."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fibdsl.runtime.cells import Budgets, given_budget, said_budgets
from fibdsl.runtime.checks import check_tokens
from fibdsl.runtime.contract import Objective
from fibdsl.runtime.graphs import Graph
from fibdsl.runtime.joint import Inputs, Sums
from fibdsl.runtime.layouts import BlockLayout, layout_of, padded_to_block, raw_ids
from fibdsl.runtime.naming import CellNames, cell_ids
from fibdsl.runtime.numerics import compute_dtype
from fibdsl.runtime.params import Params
from fibdsl.runtime.ranks import Ranks
from fibdsl.runtime.sharing import TRAJECTORY_KEY, in_pieces, piece_ids, sharing_of
from fibdsl.runtime.weights import Aggregates


class Arguments(NamedTuple):
    """What a loss module is called with; see `FusedLoss.forward`.

    Attributes:
        others: `rollout_logp` and `ref_logp`, by name.
    """

    logp: Tensor
    old_logp: Tensor
    advantages: Tensor
    mask: Tensor
    keys: Mapping[str, Tensor] | None
    cu_seqlens: Tensor | BlockLayout | None
    normalizers: Mapping[str, float | Tensor] | None
    others: Mapping[str, Tensor | None]
    budgets: Mapping[str, Tensor] | None


class Call(NamedTuple):
    """One call, checked: which graph to run and what it takes besides logp."""

    graph: Graph
    logp: Tensor
    given: Inputs


class Calls:
    """Reads the calls of one loss module.

    Attributes:
        cells: the ids of named cells, by key.
        scale: what gradients are multiplied with.
    """

    def __init__(
        self, objective: Objective, params: Params, ranks: Ranks | None, scale: float
    ) -> None:
        self.objective = objective
        self.params = params
        self.ranks = ranks
        self.scale = scale
        self.cells: dict[str, tuple[int, ...]] = {}
        self._known: dict[torch.device, dict[str, Tensor]] = {}
        self._unset: dict[torch.device, Tensor] = {}

    def name(self, cells: CellNames | None) -> None:
        """Says which ids the named cells have.

        Raises:
            ValueError: as `FusedLoss.set_cells`.
        """
        names = {b.key: b.names for b in self.objective.budgets.values() if b.names}
        self.cells = cell_ids(self.objective.name, names, cells)
        self._known.clear()

    def call(
        self,
        refuse: Callable[[], None],
        arguments: Arguments,
        keep: bool = False,
        earlier: Aggregates | None = None,
    ) -> Call:
        """Checks the arguments, on all ranks together, and puts them as the graph takes them.

        Args:
            refuse: raises where such a call would be of another objective.
            keep: whether the aggregates of shared levels are kept.
            earlier: those of an earlier pass, to be used.

        Raises:
            ValueError, TypeError: as `FusedLoss.forward`.
        """
        logp, old_logp, advantages, mask, keys, cu_seqlens, normalizers, others, budgets = arguments
        objective, ranks = self.objective, None if earlier is not None else self.ranks
        several = ranks is not None or keep or earlier is not None
        keys = keys or {}
        error: Exception | None = None
        facts = (0,) * len(_COMMON)
        ids: dict[str, Tensor] = {}
        said: tuple[str, ...] = ()
        own_budgets: dict[str, Tensor] = {}
        extra: dict[str, Tensor] = {}
        try:
            refuse()
            extra = self._extra(others)
            said = said_budgets(objective, self.cells, budgets)
            own_budgets = {level: (budgets or {})[level] for level in said}
            if ranks is not None and isinstance(logp, Tensor) and logp.numel() == 0:
                # A rank without rows takes part with one that is all mask.
                logp, old_logp, advantages, mask, keys, cu_seqlens = _nothing(
                    logp, old_logp, advantages, keys, cu_seqlens
                )
                extra = {name: torch.zeros_like(logp) for name in extra}
                own_budgets = {level: torch.zeros_like(logp) for level in said}
            tokens = {"logp": logp, "old_logp": old_logp, "advantages": advantages, "mask": mask}
            tokens |= extra
            check_tokens(tokens, cu_seqlens is not None)
            normalizer = self._normalizer(normalizers, logp.device)
            layout = None if cu_seqlens is None else layout_of(cu_seqlens, logp)
            rows = logp.shape[0] if layout is None else layout.cu_seqlens.shape[0] - 1
            own_budgets = {
                level: given_budget(objective, level, budget, rows, logp, layout)
                for level, budget in own_budgets.items()
            }
            ids = raw_ids(objective.levels, keys, rows, mask, layout)
            if in_pieces(objective, keys):
                if keep or earlier is not None:
                    raise ValueError("aggregates are not kept for pieces of trajectories")
                ids[TRAJECTORY_KEY] = piece_ids(keys, rows, mask, layout)
            if ranks is not None:
                facts = self._common(logp, old_logp, advantages, keys, said)
        except Exception as found:  # of any kind: other ranks must not wait for this one
            error = found
        if ranks is not None:
            ranks.agree(error, facts, _COMMON)
        elif error is not None:
            raise error
        if len({t.dtype for t in (logp, old_logp, advantages, *extra.values())}) > 1:
            # Mixed types would each be a graph of their own.
            dtype = _promoted(logp, old_logp, advantages, *extra.values())
            logp, old_logp, advantages = (t.to(dtype) for t in (logp, old_logp, advantages))
            extra = {name: t.to(dtype) for name, t in extra.items()}
        if layout is not None:
            logp, old_logp, advantages, mask = map(
                padded_to_block, (logp, old_logp, advantages, mask)
            )
            extra = {name: padded_to_block(t) for name, t in extra.items()}
        sums: Sums | None = None
        if earlier is not None:
            dtype = compute_dtype(logp.dtype)
            first, second = (tuple(t.to(dtype) for t in each) for each in earlier.sums)
            sums = first, second
        given = Inputs(
            old_logp.detach().contiguous(),
            advantages.detach().contiguous(),
            _loadable(mask).contiguous(),
            self.params.vector(logp.device),
            normalizer,
            ids,
            layout,
            None if earlier is None else earlier.cells,
            sums,
            {name: t.detach().contiguous() for name, t in extra.items()},
            Budgets(
                {level: self._ids(level, logp.device) for level in self._by_names(said)},
                {
                    level: budget.to(compute_dtype(logp.dtype)).contiguous()
                    for level, budget in own_budgets.items()
                },
            ),
        )
        sharing = sharing_of(objective, keys, several)
        return Call(Graph(sharing, keep, earlier is not None, said), logp, given)

    def _extra(self, given: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """The tensors that the objective looks at besides those of every batch."""
        found = {}
        for name in self.objective.tensors:
            if name in ("logp", "old_logp"):
                continue
            tensor = given.get(name)
            if tensor is None:
                raise ValueError(
                    f"objective '{self.objective.name}' looks at {name}: give it, {name}=..., "
                    "shaped like logp"
                )
            found[name] = tensor
        return found

    def _by_names(self, said: tuple[str, ...]) -> list[str]:
        """The levels whose budgets are known by name, where those of `said` are given."""
        return [
            level
            for level, budget in self.objective.budgets.items()
            if budget.names and level not in said
        ]

    def _ids(self, level: str, device: torch.device) -> Tensor:
        """The ids of the named cells of a level."""
        if device not in self._known:
            self._known[device] = {}
        known = self._known[device]
        if level not in known:
            ids = self.cells[self.objective.budgets[level].key]
            known[level] = torch.tensor(ids, dtype=torch.int64).to(device)
        return known[level]

    def _common(
        self,
        logp: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        keys: Mapping[str, Tensor],
        said: tuple[str, ...],
    ) -> tuple[int, ...]:
        """What all ranks have to agree on, as numbers."""
        dtype = str(_promoted(logp, old_logp, advantages))
        values = struct.pack(f"{len(self.params.values)}d", *self.params.values.values())
        return (
            zlib.crc32(self.objective.semantic_hash.encode()),
            zlib.crc32(values),
            zlib.crc32(dtype.encode()),
            int(in_pieces(self.objective, keys)),
            int(self.scale),
            zlib.crc32(repr((sorted(self.cells.items()), said)).encode()),
        )

    def _normalizer(
        self, normalizers: Mapping[str, float | Tensor] | None, device: torch.device
    ) -> Tensor:
        """The given number of outermost cells, or NaN for the batch's own."""
        outermost = self.objective.outermost
        for name in normalizers or {}:
            if name != outermost:
                wanted = f"the one it uses is '{outermost}'" if outermost else "it uses none"
                raise ValueError(
                    f"normalizers['{name}'] has no effect on '{self.objective.name}'; {wanted}"
                )
        value = (normalizers or {}).get(outermost or "")
        if value is None:
            # Made once a device: an upload a call would make the host wait.
            if device not in self._unset:
                self._unset[device] = torch.tensor(math.nan, dtype=torch.float64).to(device)
            return self._unset[device]
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(
                    f"normalizers['{outermost}'] is one number, not {tuple(value.shape)}"
                )
            return value.detach().reshape(()).to(device=device, dtype=torch.float64)
        if not value >= 1:
            raise ValueError(f"normalizers['{outermost}'] = {value} is not a count of 1 or more")
        return torch.tensor(value, dtype=torch.float64).to(device)


_COMMON = (
    "the objective",
    "its parameters",
    "the number type",
    "whether rows are pieces",
    "how their gradients are put together",
    "the budgets of cells",
)


def _loadable(mask: Tensor) -> Tensor:
    """The mask as float32 on a CPU, where the graph's loads of bytes are several times slower."""
    mask = mask.detach()
    return mask.to(torch.float32) if mask.device.type == "cpu" else mask


def _promoted(*tensors: Tensor) -> torch.dtype:
    """The type that tensors of several types are computed in; their own if it is one."""
    types = {t.dtype for t in tensors}
    if len(types) == 1:
        return types.pop()
    common = tensors[0].dtype
    for tensor in tensors[1:]:
        common = torch.promote_types(common, tensor.dtype)
    return compute_dtype(common)


def _nothing(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    keys: Mapping[str, Tensor] | None,
    cu_seqlens: Tensor | BlockLayout | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor], Tensor | None]:
    """The arguments of a batch of one token under the mask."""
    shape = (1,) if cu_seqlens is not None else (1, 1)
    token, old, advantage = (t.new_zeros(shape) for t in (logp, old_logp, advantages))
    mask = torch.zeros(shape, dtype=torch.bool, device=logp.device)
    offsets = None if cu_seqlens is None else mask.new_tensor([0, 1], dtype=torch.int64)
    # Of as many dimensions as they had: with others it would be another graph.
    ids = {
        name: mask.new_zeros((1,) * max(1, given.dim()), dtype=torch.int64)
        for name, given in (keys or {}).items()
        if isinstance(given, Tensor)
    }
    return token, old, advantage, mask, ids, offsets
