"""verl 0.9.1: the loss of its trainers, `ppo_loss`, called as their engine calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl import DataProto
from verl.trainer.config import RolloutCorrectionConfig
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.utils import tensordict_utils
from verl.workers.config import ActorConfig
from verl.workers.config.actor import PolicyLossConfig
from verl.workers.utils.losses import ppo_loss

from tests.trainers.batches import Batch
from tests.trainers.results import Result

REGISTERED = frozenset(POLICY_LOSS_REGISTRY)

_POLICY_LOSS = "policy_loss."
_BYPASS = "policy_loss.rollout_correction."
_DECOUPLED = "algorithm.rollout_correction."


def policy_loss(
    batch: Batch,
    loss_mode: str,
    loss_agg_mode: str,
    options: Mapping[str, Any],
    *,
    whole: Batch | None = None,
    ranks: int = 1,
    normalize: bool = True,
) -> Result:
    """The loss of a micro-batch and its gradient with respect to logp, in float64.

    Args:
        options: by their names in verl's configuration: of the actor, `policy_loss.*`,
            `policy_loss.rollout_correction.*` and `algorithm.rollout_correction.*`.
        whole: the mini-batch on all `ranks` that this is a micro-batch of; by default itself.
        normalize: whether the sizes of the whole are given, as the engine does; without, the loss
            counts its own.
    """
    given = {name: value for name, value in options.items() if "." not in name}
    bypass = _under(_BYPASS, options)
    mode = PolicyLossConfig(
        loss_mode=loss_mode,
        **{n: v for n, v in _under(_POLICY_LOSS, options).items() if "." not in n},
        **({"rollout_correction": RolloutCorrectionConfig(**bypass)} if bypass else {}),
    )
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=len(batch.logp),
        loss_agg_mode=loss_agg_mode,
        policy_loss=mode,
        **given,
    )
    logp = torch.tensor(batch.logp, requires_grad=True)
    data = _data(batch, _under(_DECOUPLED, options))
    whole = whole or batch
    tensordict_utils.assign_non_tensor(
        data,
        dp_size=ranks,
        batch_num_tokens=int(whole.mask.sum()) if normalize else None,
        global_batch_size=len(whole.logp) if normalize else None,
    )
    # A model's output is that of the prompt, one token here, and the response; the log-probability
    # of a token stands one place before it.
    output = {"log_probs": _nested(torch.nn.functional.pad(logp, (0, 1)))}
    loss, _ = ppo_loss(config, output, data)
    loss.backward()
    assert loss.dtype == torch.float64
    assert logp.grad is not None
    return Result(loss.item(), logp.grad.numpy())


def _data(batch: Batch, correction: Mapping[str, Any]) -> TensorDict:
    rows, width = batch.mask.shape
    tensors = {
        "old_log_probs": torch.tensor(batch.old_logp),
        "ref_log_prob": torch.tensor(batch.ref_logp),
        "advantages": torch.tensor(batch.advantages),
        "response_mask": torch.tensor(batch.mask, dtype=torch.int64),
    }
    if correction:
        tensors["rollout_log_probs"] = torch.tensor(batch.rollout_logp)
        corrected, _ = compute_rollout_correction_and_add_to_batch(
            DataProto.from_single_dict(tensors), RolloutCorrectionConfig(**correction)
        )
        tensors = dict(corrected.batch.items())
    tensors["prompts"] = torch.zeros(rows, 1, dtype=torch.int64)
    tensors["responses"] = torch.zeros(rows, width, dtype=torch.int64)
    return TensorDict({n: _nested(t) for n, t in tensors.items()}, batch_size=[rows])


def _nested(rows: Tensor) -> Tensor:
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def _under(prefix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(prefix): v for n, v in options.items() if n.startswith(prefix)}
