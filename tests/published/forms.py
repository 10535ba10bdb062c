"""The closed form of every shipped spec that `tests.closed_forms` has none of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.closed_forms import Batch, Floats
from tests.published import clipped, fibers, masked, scores, sequences


@dataclass(frozen=True)
class Form:
    """A published objective.

    Attributes:
        loss: of a batch and parameters, whose defaults are the spec's; where `holds`, of a second
            batch too, which sg[...] reads.
        gradient: d loss / d logp as printed, where it is.
        others: values of all parameters, away from their defaults.
        drift: the standard deviation of log-ratios at which its bounds act.
    """

    loss: Callable[..., float]
    gradient: Callable[..., Floats] | None = None
    holds: bool = False
    others: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.3

    def held(self, at: Batch, **params: float) -> Callable[[Batch], float]:
        """The loss as a function of the batch, what sg[...] reads staying as it is in `at`."""
        if self.holds:
            return lambda batch: self.loss(batch, at, **params)
        return lambda batch: self.loss(batch, **params)


FORMS: Mapping[str, Form] = {
    "ppo_dual_clip": Form(clipped.ppo_dual_clip, others={"epsilon": 0.1, "c": 1.3}, drift=0.9),
    "two_sided": Form(clipped.two_sided, others={"epsilon": 0.3, "delta": 1.1}, drift=0.9),
    "dr_grpo": Form(clipped.dr_grpo, others={"epsilon": 0.05, "length": 7.5}),
    "spo": Form(clipped.spo, others={"epsilon": 0.7}),
    "cfpo": Form(clipped.cfpo, others={"epsilon": 0.05}),
    "sapo": Form(clipped.sapo, others={"tau_pos": 3.0, "tau_neg": 0.4}, drift=0.8),
    "luspo": Form(sequences.luspo, others={"high": 1.2, "low": 0.95}, drift=0.01),
    "gspo_token": Form(
        sequences.gspo_token,
        sequences.gspo_token_gradient,
        holds=True,
        others={"high": 1.002, "low": 0.997},
        drift=4e-3,
    ),
    "gmpo": Form(sequences.gmpo, others={"epsilon": 0.1}, drift=0.5),
    "gepo": Form(sequences.gepo, others={"high": 1.6, "low": 0.3}, drift=0.5),
    "reinforce": Form(scores.reinforce, scores.reinforce_gradient),
    "cispo": Form(
        scores.cispo,
        scores.cispo_gradient,
        holds=True,
        others={"epsilon_high": 0.5, "epsilon_low": 0.3},
    ),
    "cispo_trl": Form(
        scores.cispo_trl,
        scores.cispo_trl_gradient,
        holds=True,
        others={"epsilon_high": 1.4},
        drift=1.2,
    ),
    "tis": Form(scores.tis, scores.tis_gradient, holds=True, others={"upper": 1.3}),
    "topr": Form(scores.topr, scores.topr_gradient, holds=True),
    "vespo": Form(
        scores.vespo,
        scores.vespo_gradient,
        holds=True,
        others={"k_pos": 0.5, "lambda_pos": 1.0, "k_neg": 1.5, "lambda_neg": 4.0},
    ),
    "dro": Form(scores.dro, scores.dro_gradient, others={"beta": 0.1}),
    "dppo_tv": Form(
        masked.dppo_tv,
        masked.dppo_tv_gradient,
        holds=True,
        others={"high": 0.05, "low": 0.1, "c": 1.2},
        drift=0.9,
    ),
    "dppo_kl": Form(
        masked.dppo_kl,
        masked.dppo_kl_gradient,
        holds=True,
        others={"high": 0.01, "low": 0.02, "c": 1.2},
        drift=0.6,
    ),
    "aspo": Form(
        masked.aspo,
        masked.aspo_gradient,
        holds=True,
        others={"epsilon_high": 0.4, "epsilon_low": 0.5, "c": 1.5},
        drift=0.8,
    ),
    "fiberpo_overlays": Form(
        fibers.fiberpo_overlays,
        others={"delta": 0.1, "eps_pos": 0.05, "eps_neg": 0.3, "c": 1.2},
        drift=0.6,
    ),
    "fiberpo_turns": Form(
        fibers.fiberpo_turns,
        others={
            "trajectory_plus": 0.05,
            "trajectory_minus": 0.15,
            "turn_plus": 0.2,
            "turn_minus": 0.1,
            "epsilon": 0.1,
        },
        drift=0.2,
    ),
    "fiberpo_experts": Form(
        fibers.fiberpo_experts,
        others={"expert_plus": 0.02, "expert_minus": 0.08, "epsilon": 0.2},
        drift=0.2,
    ),
}
