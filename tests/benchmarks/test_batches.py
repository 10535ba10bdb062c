"""Batches: lengths, masks, nested cells, packed rows and their padded twin."""

from __future__ import annotations

import torch

from benchmarks.fused import batches


def test_padded_rows_have_a_quarter_of_padding() -> None:
    batch = batches.padded(256, 64)
    lengths = batch.mask.sum(1)
    assert batch.logp.shape == (256, 64)
    assert batch.places == 256 * 64
    assert batch.rows == 256
    assert lengths.min() >= 32
    assert lengths.max() <= 64
    assert batch.tokens == lengths.sum()
    assert abs(batch.tokens / batch.places - 0.75) < 0.03
    assert torch.equal(batch.mask > 0, batch.bool_mask)
    assert bool((batch.mask.diff(dim=1) <= 0).all())  # padding is at the end
    assert batch.logp.requires_grad
    assert batch.logp.is_leaf
    assert {t.dtype for t in (batch.logp, batch.old_logp, batch.mask)} == {torch.float32}


def test_cells_are_nested_and_parents_say_the_same_as_keys() -> None:
    batch = batches.padded(100, 4)
    cell = torch.arange(100)
    for name, parent in zip(batches.LEVELS, batch.parents, strict=True):
        cell = parent[cell]
        assert torch.equal(batch.keys[name], cell * 7919)
    assert [len(torch.unique(batch.keys[name])) for name in batches.LEVELS] == [13, 4, 1, 1]
    states = batch.keys["state_id"]
    assert states.shape == batch.logp.shape
    assert states[0, 3] == states[7, 3]  # the same prompt and position
    assert len(torch.unique(states)) == 13 * 4


def test_packed_rows_are_the_rows_of_their_twin() -> None:
    dense, twin = batches.packed(16, 4, 32)
    assert dense.cu_seqlens is not None
    lengths = dense.cu_seqlens.diff()
    assert lengths.max() == 32
    assert lengths.min() >= 4
    assert dense.places == dense.tokens == twin.tokens == int(lengths.sum())
    assert twin.logp.shape == (16, 32)
    here = twin.bool_mask
    for one, other in (
        (dense.logp, twin.logp),
        (dense.old_logp, twin.old_logp),
        (dense.advantages, twin.advantages),
    ):
        assert torch.equal(one, other[here])
    assert dense.keys.keys() == twin.keys.keys()


def test_the_batch_of_the_goals_is_four_fifths_padding() -> None:
    dense, twin = batches.packed(256, 64, 8192)
    assert 0.75 < 1 - dense.tokens / twin.places < 0.85


def test_copies_fill_three_caches_and_share_no_memory() -> None:
    batch = batches.padded(4, 16)
    size = 4 * 4 * batch.places
    assert batches.copies(batch, 0) == [batch]
    several = batches.copies(batch, 2 * size)
    assert len(several) * size >= 3 * 2 * size
    assert len({b.logp.data_ptr() for b in several}) == len(several)
    assert all(torch.equal(b.logp, batch.logp) and b.logp.requires_grad for b in several)
