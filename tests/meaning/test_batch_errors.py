"""What a batch that contradicts itself or its objective is told: the tensor, and the level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fibdsl
from fibc.batch import BatchError
from tests.meaning.batches import Tensors, of_log_ratios, spec

SHAPE = (2, 3)


def good() -> Tensors:
    return of_log_ratios(np.zeros(SHAPE), uid=np.array([3, 4]), data_source=np.array([1, 1]))


def flat() -> Tensors:
    tensors = good()
    for name in ("logp", "old_logp", "advantages", "mask"):
        tensors[name] = tensors[name].reshape(-1)
    return {**tensors, "cu_seqlens": np.array([0, 3, 6])}


def refused(tensors: Tensors, message: str, name: str = "fiberpo_domain") -> None:
    objective = fibdsl.load(name)
    for evaluate in (objective.evaluate, objective.gated_ratio):
        with pytest.raises(BatchError) as error:
            evaluate(**tensors)
        assert str(error.value) == message


def test_what_the_errors_start_from_is_good() -> None:
    objective = fibdsl.load("fiberpo_domain")
    assert objective.evaluate(**good()).loss == objective.evaluate(**flat()).loss == -1.0


def test_missing_key() -> None:
    tensors = good()
    del tensors["keys"]["uid"]
    refused(
        tensors,
        "keys['uid'] is missing: level 'group' takes its cells from it (keys given: 'data_source')",
    )


def test_no_keys_at_all() -> None:
    tensors = good()
    del tensors["keys"]
    refused(
        tensors,
        "keys['uid'] is missing: level 'group' takes its cells from it (keys given: none)",
    )


@pytest.mark.parametrize("name", ["old_logp", "advantages", "mask"])
def test_a_tensor_of_another_shape(name: str) -> None:
    tensors = good()
    tensors[name] = tensors[name][:, :2]
    refused(tensors, f"{name} has shape (2, 2), but logp has (2, 3); they must agree")


@pytest.mark.parametrize("name", ["logp", "old_logp", "advantages"])
def test_integers_where_numbers_are_real(name: str) -> None:
    tensors = good()
    tensors[name] = np.zeros(SHAPE, np.int64)
    refused(tensors, f"{name} is int64; give a floating-point tensor")


@pytest.mark.parametrize("ids", [np.array([0.0, 1.0]), np.array([0.0, 1.0], np.float32)])
def test_float_ids(ids: Any) -> None:
    tensors = good()
    tensors["keys"]["uid"] = ids
    refused(tensors, f"keys['uid'] (level 'group') is {ids.dtype}; ids are integers")


@pytest.mark.parametrize("shape", [(3,), (6,), (3, 2), (2, 1), ()])
def test_ids_of_another_shape(shape: tuple[int, ...]) -> None:
    tensors = good()
    tensors["keys"]["data_source"] = np.zeros(shape, np.int64)
    refused(
        tensors,
        f"keys['data_source'] (level 'domain') has shape {shape}; "
        "give (2,), one id a trajectory, or (2, 3), one a token",
    )


def test_a_coarser_key_that_splits_a_finer_cell() -> None:
    tensors = good()
    tensors["keys"] = {"uid": np.array([3, 3]), "data_source": np.array([1, 2])}
    refused(
        tensors,
        "keys['data_source'] (level 'domain') splits a cell of level 'group': trajectory 1 puts "
        "it into another 'domain' than an earlier token does; each cell must lie in one coarser "
        "cell",
    )


def test_a_key_per_token_that_splits_a_trajectory() -> None:
    tensors = good()
    tensors["keys"]["uid"] = np.array([[3, 3, 3], [4, 4, 5]])
    refused(
        tensors,
        "keys['uid'] (level 'group') splits a cell of level 'trajectory': trajectory 1 puts it "
        "into another 'group' than an earlier token does; each cell must lie in one coarser cell",
    )


def test_turns_count_within_their_trajectory_and_so_never_split() -> None:
    objective = spec(
        "log_ratio split",
        "token < turn by turn_id < trajectory",
        "at turn { base clip(0.1) }",
        "at token { fiber clip(0.1) }",
        "reduce mean over token",
    )
    turns = np.array([[0, 0, 1], [0, 1, 1]])
    # Turn means .05, .3 and .2, .05; residuals of the + channel -+.05.
    tensors = of_log_ratios([[0.0, 0.1, 0.3], [0.2, 0.0, 0.1]], turn_id=turns)
    y = [[0.0, 0.1, 0.1], [0.1, 0.0, 0.1]]
    np.testing.assert_allclose(objective.gated_ratio(**tensors), np.exp(y), rtol=1e-15)


def test_one_dimensional_tensors_without_offsets() -> None:
    tensors = flat()
    del tensors["cu_seqlens"]
    refused(
        tensors,
        "logp has shape (6,): padded tensors are (B, T), and packed ones (N,) need cu_seqlens",
    )


def test_padded_tensors_with_offsets() -> None:
    refused(
        {**good(), "cu_seqlens": np.array([0, 3, 6])},
        "logp has shape (2, 3), but with cu_seqlens it must be packed, (N,)",
    )


@pytest.mark.parametrize("cu", [[0, 3, 5], [1, 3, 6], [0, 4, 3, 6], [0, 3, 7], [-1, 6]])
def test_offsets_that_do_not_rise_over_the_tokens(cu: list[int]) -> None:
    refused(
        {**flat(), "cu_seqlens": np.array(cu)},
        "cu_seqlens must rise from 0 to the 6 tokens of logp",
    )


@pytest.mark.parametrize("cu", [np.array([0.0, 6.0]), np.array([[0, 6]]), np.array([0])])
def test_offsets_of_another_kind(cu: Any) -> None:
    refused(
        {**flat(), "cu_seqlens": cu},
        f"cu_seqlens is {cu.dtype} of shape {cu.shape}; it is the B + 1 integer row offsets",
    )


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0, -1.0])
def test_a_mask_of_weights(value: float) -> None:
    tensors = good()
    tensors["mask"] = np.ones(SHAPE)
    tensors["mask"][1, 2] = value
    refused(tensors, "mask has values other than 0 and 1; weights do not belong into it")
