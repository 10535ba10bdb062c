"""TRL 1.16.0: what GRPOTrainer makes of rollouts, and its loss, without a model or a generator."""

from __future__ import annotations

import collections
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from tests.trainers.batches import Batch
from tests.trainers.results import Result

_END, _PAD, _WORD = 1, 0, 2


def policy_loss(
    batch: Batch, loss_type: str, importance_sampling_level: str, options: Mapping[str, Any]
) -> Result:
    """The loss of a batch and its gradient with respect to logp, in float64.

    Advantages, old, reference and vLLM log-probabilities and importance weights go through the
    trainer's own scoring of a generation.

    Args:
        loss_type: of the configuration, or `gmpo` for the experimental trainer of that name.
        options: of the configuration, by their names.
    """
    with _double():
        trainer = _trainer(batch, loss_type, importance_sampling_level, options)
        inputs = trainer._generate_and_score_completions([{"prompt": ""}] * len(batch.logp))
        logp = torch.tensor(batch.logp, requires_grad=True)
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (
            logp,
            torch.zeros_like(logp),
            None,
        )
        loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
    assert (inputs["advantages"].numpy() == batch.advantages[:, 0]).all()
    assert loss.dtype == torch.float64
    assert logp.grad is not None
    return Result(loss.item(), logp.grad.numpy())


def _trainer(batch: Batch, loss_type: str, level: str, options: Mapping[str, Any]) -> Any:
    """A trainer with what these two methods of it read, and old log-probabilities as a model."""
    rows, width = batch.mask.shape
    gmpo = loss_type == "gmpo"
    trainer: Any = object.__new__(GMPOTrainer if gmpo else GRPOTrainer)
    with tempfile.TemporaryDirectory() as folder:
        args = (GMPOConfig if gmpo else GRPOConfig)(
            output_dir=folder,
            report_to="none",
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=rows,
            num_generations=rows,  # one group, whose mean reward is zero
            num_iterations=2,  # or the old policy would be the new one
            max_completion_length=width,
            scale_rewards="none",
            mask_truncated_completions=True,
            importance_sampling_level=level,
            **({} if gmpo else {"loss_type": loss_type}),
            **options,
        )
    model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    logps = {id(model): batch.old_logp, id(reference := SimpleNamespace()): batch.ref_logp}
    # As its constructor would.
    vars(trainer).update(
        args=args,
        model=model,
        ref_model=reference,
        loss_type=args.loss_type,
        beta=args.beta,
        epsilon_low=args.epsilon,
        epsilon_high=args.epsilon_high if args.epsilon_high is not None else args.epsilon,
        importance_sampling_level=args.importance_sampling_level,
        off_policy_mask_threshold=args.off_policy_mask_threshold,
        top_entropy_quantile=args.top_entropy_quantile,
        use_vllm=args.use_vllm,
        vllm_importance_sampling_correction=args.vllm_importance_sampling_correction,
        vllm_importance_sampling_mode=args.vllm_importance_sampling_mode,
        vllm_importance_sampling_clip_max=args.vllm_importance_sampling_clip_max,
        vllm_importance_sampling_clip_min=args.vllm_importance_sampling_clip_min,
        max_completion_length=args.max_completion_length,
        num_iterations=args.num_iterations,
        num_generations=args.num_generations,
        scale_rewards=args.scale_rewards,
        mask_truncated_completions=args.mask_truncated_completions,
        multi_objective_aggregation=args.multi_objective_aggregation,
        pad_to_multiple_of=args.pad_to_multiple_of,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        environment_factories=None,
        environments=None,
        tools=None,
        eos_token_ids=[_END],
        _tokenizer=SimpleNamespace(pad_token_id=_PAD),
        reward_funcs=[None],
        reward_func_names=["reward"],
        reward_weights=torch.ones(1),
        log_multimodal=False,
        accelerator=_ONE_PROCESS,
        _metrics={"train": collections.defaultdict(list)},
        _logs={
            **{name: [] for name in ("prompt", "completion", "advantages")},
            **{name: collections.defaultdict(list) for name in ("rewards", "extra")},
        },
        _pending_extra_logs={},
        _pending_metrics={},
        _generate=lambda prompts: _generated(batch),
        _calculate_rewards=lambda *_: torch.tensor(batch.advantages[:, :1]),
        _get_per_token_logps_and_entropies=lambda of, *_, **__: (
            torch.tensor(logps[id(of)]),
            None,
            None,
        ),
    )
    return trainer


_ONE_PROCESS = SimpleNamespace(
    device=torch.device("cpu"),
    num_processes=1,
    process_index=0,
    is_main_process=False,
    gather=lambda tensor: tensor,
    gather_for_metrics=lambda tensor: tensor,
    reduce=lambda tensor, reduction: tensor,
)


def _generated(batch: Batch) -> tuple[Any, ...]:
    """What a rollout returns: prompts, completions, tool masks, and vLLM's log-probabilities.

    Holes in the mask are tokens of a tool; rows without a valid token are truncated completions.
    """
    rows, width = batch.mask.shape
    lengths = [int(row.nonzero()[0].max()) + 1 if row.any() else width for row in batch.mask]
    lengths[int(batch.mask.any(-1).argmax())] = width  # padded to the width of the batch
    ends = [_END if row.any() else _WORD for row in batch.mask]
    return (
        [[_WORD]] * rows,
        [[_WORD] * (n - 1) + [end] for n, end in zip(lengths, ends, strict=True)],
        [row[:n].astype(int).tolist() for row, n in zip(batch.mask, lengths, strict=True)],
        [""] * rows,
        [row[:n].tolist() for row, n in zip(batch.rollout_logp, lengths, strict=True)],
        {},
        None,
        None,
    )


@contextmanager
def _double() -> Iterator[None]:
    """Numbers that the trainer turns into tensors itself have float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
