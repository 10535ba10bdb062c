"""Which loss of a trainer, with which options, is which of our objectives.

The name and the options of a case are the trainer's own. `spec`, `params` and `statements` say the
same loss in ours. Where a trainer does something else than its options say, or than the paper that
it cites, the case has a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.trainers.batches import KINDS, WIDTH, Acts, Batch, random_batch


@dataclass(frozen=True)
class Case:
    """A loss of a trainer and ours.

    Attributes:
        loss: verl's `policy_loss.loss_mode`, TRL's `loss_type`.
        setting: verl's `loss_agg_mode`, TRL's `importance_sampling_level`.
        options: others of the trainer's, by their names.
        statements: what replaces statements of the shipped spec, or is added to it.
        kind: of the batch (`KINDS`).
        acts: what the batch must reach: tokens on either side of every bound.
        about: what the case is about besides the loss and the setting.
        note: what the trainer does differently from what one would expect.
    """

    trainer: str
    loss: str
    setting: str
    spec: str
    params: Mapping[str, float]
    statements: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    acts: tuple[Acts, ...] = ()
    kind: str = "tokens"
    token_advantages: bool = False
    about: str = ""
    note: str = ""

    @property
    def id(self) -> str:
        words = (self.trainer, self.loss, self.setting, self.spec, self.about)
        return " ".join(word for word in words if word)

    @property
    def batch(self) -> Batch:
        return random_batch(KINDS[self.kind], 0, token_advantages=self.token_advantages)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that our objective needs beside the usual four."""
        text = " ".join(self.statements)
        return tuple(name for name in ("rollout_logp", "ref_logp") if name in text)


# --- verl -----------------------------------------------------------------------------------------

LENGTH = 64.0
_BY_LENGTH = (
    "param length : pure = 64 in [1, inf)",
    "reduce mean over trajectory, sum over token / length",
)
AGGREGATIONS: dict[str, tuple[str, ...]] = {
    "token-mean": ("reduce mean over token",),
    "token-sum": ("reduce sum over token",),
    "seq-mean-token-sum": ("reduce mean over trajectory, sum over token",),
    "seq-mean-token-sum-norm": _BY_LENGTH,
    "seq-mean-token-mean": ("reduce mean over trajectory, mean over token",),
}
MEANS = AGGREGATIONS["seq-mean-token-mean"]

# Not functions of the batch alone: which tokens they drop or penalise is drawn, or depends on the
# other tokens of the micro-batch.
NOT_COVERED = {"clip_cov", "kl_cov"}

_ROLLOUT = "algorithm.rollout_correction."
_BYPASS = "policy_loss.rollout_correction."
_IGNORED = "verl ignores loss_agg_mode here: it is always "


def _verl(loss: str, spec: str, *, always: str = "", **rest: Any) -> Iterator[Case]:
    """A case for each aggregation; the loss may ignore which."""
    for mode, statements in AGGREGATIONS.items():
        options, note = dict(rest.get("options", {})), rest.get("note", "")
        if mode == "seq-mean-token-sum-norm":
            options["loss_scale_factor"] = int(LENGTH)
        if always and mode != always:
            note = f"{note}; {_IGNORED}{always}".removeprefix("; ")
        given: dict[str, Any] = {"params": {}, "token_advantages": True, **rest}
        given["statements"] = AGGREGATIONS[always or mode] + tuple(rest.get("statements", ()))
        yield Case("verl", loss, mode, spec, **(given | {"options": options, "note": note}))


_BOUNDS = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.3}
_DEVIATIONS = {"epsilon_low": 0.2, "epsilon_high": 0.3}
_OF_RATIO = (Acts("ratio", 0.8, 1.3),)

_DPPO = {"clip_ratio_low": 0.08, "clip_ratio_high": 0.1, "clip_ratio_c": 1.5}
_DPPO_PARAMS = {"delta_low": 0.08, "delta_high": 0.1, "cap": 1.5}

_GSPO = {"clip_ratio_low": 0.1, "clip_ratio_high": 0.15}
_GSPO_PARAMS = {"low": 0.9, "high": 1.15}
_OF_SEQUENCE = (Acts("sequence ratio", 0.9, 1.15),)


def _verl_losses() -> Iterator[Case]:
    never = {"clip_ratio_c": 1e9}
    yield from _verl(
        "vanilla", "dapo", params=_DEVIATIONS, options=_BOUNDS | never, acts=_OF_RATIO
    )
    yield from _verl(
        "vanilla",
        "ppo_dual_clip",
        params=_DEVIATIONS | {"cap": 1.5},
        options=_BOUNDS | {"clip_ratio_c": 1.5},
        acts=(*_OF_RATIO, Acts("ratio", -math.inf, 1.5)),
    )
    for spec, mode in (("ppo", "token-mean"), ("grpo", "seq-mean-token-mean")):
        yield Case(
            "verl",
            "vanilla",
            mode,
            spec,
            {"epsilon": 0.2},
            AGGREGATIONS[mode],
            {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2} | never,
            (Acts("ratio", 0.8, 1.2),),
            token_advantages=True,
        )
    for loss, measure in (("dppo_tv", "tv"), ("dppo_kl", "kl")):
        yield from _verl(
            loss,
            loss,
            params=_DPPO_PARAMS,
            options=_DPPO,
            acts=(Acts(measure, -0.08, 0.1), Acts("ratio", -math.inf, 1.5)),
        )
    yield from _verl(
        "gspo",
        "gspo_token",
        params=_GSPO_PARAMS,
        options=_GSPO,
        acts=_OF_SEQUENCE,
        kind="sequences",
    )
    yield from _verl(
        "gspo",
        "gspo",
        params=_GSPO_PARAMS,
        options=_GSPO,
        acts=_OF_SEQUENCE,
        kind="sequences",
        token_advantages=False,
        note="gspo and gspo_token are one loss where a row has one advantage",
    )
    yield Case(
        "verl",
        "gspo",
        "seq-mean-token-mean",
        "gspo",
        {"low": 1 - 3e-4, "high": 1 + 4e-4},
        MEANS,
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        (Acts("sequence ratio", 1 - 3e-4, 1 + 4e-4),),
        kind="close",
        about="as published",
    )
    yield from _verl(
        "sapo",
        "sapo",
        params={"tau_pos": 1.0, "tau_neg": 1.05},
        options={"tau_pos": 1.0, "tau_neg": 1.05},
        acts=_OF_RATIO,
        always="seq-mean-token-mean",
    )
    yield from _verl("gpg", "reinforce", acts=_OF_RATIO)
    yield from _verl(
        "geo_mean",
        "gmpo",
        params={"epsilon_low": 0.2, "epsilon_high": 0.3},
        options=_BOUNDS,
        acts=(Acts("log_ratio", -0.2, 0.3),),
        token_advantages=False,
        always="seq-mean-token-mean",
    )
    yield from _verl(
        "dro",
        "dro",
        params={"beta": 0.5},
        options={"policy_loss.dro_beta": 0.5},
        acts=_OF_RATIO,
    )
    yield from _verl("cispo", "cispo", params=_DEVIATIONS, options=_BOUNDS, acts=_OF_RATIO)
    yield from _verl(
        "bypass_mode",
        "ppo_dual_clip",
        params=_DEVIATIONS | {"cap": 1.5},
        options={**_BOUNDS, "clip_ratio_c": 1.5, _BYPASS + "loss_type": "ppo_clip"},
        acts=(*_OF_RATIO, Acts("ratio", -math.inf, 1.5)),
        note="bypass_mode with ppo_clip is vanilla; its rollout_is is ignored",
    )
    yield from _verl(
        "bypass_mode",
        "reinforce",
        options={_BYPASS + "loss_type": "reinforce", _BYPASS + "rollout_is": None},
        acts=_OF_RATIO,
        about="without weights",
    )
    yield from _verl(
        "bypass_mode",
        "tis",
        params={"cap": 1.5},
        options={
            _BYPASS + "loss_type": "reinforce",
            _BYPASS + "rollout_is": "token",
            _BYPASS + "rollout_is_threshold": 1.5,
        },
        acts=(Acts("ratio", -math.inf, 1.5),),
    )
    for name, level, threshold, weight, acts in (
        ("token icepop", "token", "0.8_1.5", "mask(ratio, 0.8, 1.5)", Acts("ratio", 0.8, 1.5)),
        (
            "sequence tis",
            "sequence",
            1.5,
            "truncate(exp(sum(log_ratio over trajectory)), 1.5)",
            Acts("product", -math.inf, 1.5),
        ),
        (
            "sequence icepop",
            "sequence",
            "0.8_1.5",
            "mask(exp(sum(log_ratio over trajectory)), 0.8, 1.5)",
            Acts("product", 0.8, 1.5),
        ),
    ):
        yield Case(
            "verl",
            "bypass_mode",
            "token-mean",
            "reinforce",
            {},
            (*AGGREGATIONS["token-mean"], f"weight {weight}"),
            {
                _BYPASS + "loss_type": "reinforce",
                _BYPASS + "rollout_is": level,
                _BYPASS + "rollout_is_threshold": threshold,
            },
            (acts,),
            kind="products",
            token_advantages=True,
            about=name,
        )


# The weights of rollout correction, computed by verl from old and rollout log-probabilities.
_TO_ROLLOUT = "old_logp - rollout_logp"
_OF_ROW = f"sum({_TO_ROLLOUT} over trajectory)"
_ROLLOUT_WEIGHTS: tuple[tuple[str, str, str | float, str, Acts], ...] = (
    (
        "token tis",
        "token",
        1.5,
        f"truncate(exp({_TO_ROLLOUT}), 1.5)",
        Acts("rollout ratio", -math.inf, 1.5),
    ),
    (
        "token icepop",
        "token",
        "0.8_1.5",
        f"mask(exp({_TO_ROLLOUT}), 0.8, 1.5)",
        Acts("rollout ratio", 0.8, 1.5),
    ),
    (
        "sequence tis",
        "sequence",
        1.5,
        f"truncate(exp({_OF_ROW}), 1.5)",
        Acts("rollout product", -math.inf, 1.5),
    ),
    (
        "sequence icepop",
        "sequence",
        "0.8_1.5",
        f"mask(exp({_OF_ROW}), 0.8, 1.5)",
        Acts("rollout product", 0.8, 1.5),
    ),
)

_KL_TYPES = (
    ("kl", "-(ref_logp - logp)", ""),
    ("abs", "|logp - ref_logp|", ""),
    ("mse", "k2(ref_logp - logp)", ""),
    ("low_var_kl", "min(k3(ref_logp - logp), 10)", "verl cuts the estimate at 10"),
)


def _verl_corrections() -> Iterator[Case]:
    never = {"clip_ratio_c": 1e9}
    for name, level, threshold, weight, acts in _ROLLOUT_WEIGHTS:
        yield Case(
            "verl",
            "vanilla",
            "token-mean",
            "dapo",
            _DEVIATIONS,
            (*AGGREGATIONS["token-mean"], f"weight {weight}"),
            {
                **_BOUNDS,
                **never,
                _ROLLOUT + "rollout_is": level,
                _ROLLOUT + "rollout_is_threshold": threshold,
            },
            (*_OF_RATIO, acts),
            token_advantages=True,
            about=f"rollout {name}",
        )
    for kind, estimate, note in _KL_TYPES:
        yield Case(
            "verl",
            "vanilla",
            "token-mean",
            "dapo",
            _DEVIATIONS,
            (*AGGREGATIONS["token-mean"], f"penalty 0.1 * {estimate}"),
            {**_BOUNDS, **never, "use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": kind},
            _OF_RATIO,
            token_advantages=True,
            about=f"kl loss {kind}",
            note=note,
        )


# --- TRL ------------------------------------------------------------------------------------------

_TRL_BOUNDS = {"epsilon": 0.2, "epsilon_high": 0.3}
_TRL_REDUCE = {
    "grpo": MEANS,
    "bnpo": ("reduce mean over token",),
    "dr_grpo": _BY_LENGTH,
    "dapo": ("reduce mean over token",),
    "luspo": ("reduce mean over trajectory, sum over token",),
    "cispo": ("reduce mean over token",),
    "sapo": MEANS,
    "vespo": ("reduce mean over token",),
}
LOSS_TYPES = frozenset(_TRL_REDUCE)

_LEVELS = ("token", "sequence")
_SEQUENCE = {"low": 0.8, "high": 1.3}


def _trl(loss: str, level: str, spec: str, params: Mapping[str, float], **rest: Any) -> Case:
    statements = (*_TRL_REDUCE[loss], *rest.pop("statements", ()))
    if loss == "dr_grpo":
        params = {**params, "length": float(WIDTH)}
    return Case("trl", loss, level, spec, params, statements, **rest)


def _trl_losses() -> Iterator[Case]:
    for loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo"):
        for level in _LEVELS:
            whole = level == "sequence"
            yield _trl(
                loss,
                level,
                "gspo" if whole else "dapo",
                _SEQUENCE if whole else _DEVIATIONS,
                options=_TRL_BOUNDS,
                acts=(Acts("sequence ratio" if whole else "ratio", 0.8, 1.3),),
            )
    yield _trl(
        "cispo",
        "token",
        "cispo_trl",
        {"high": 1.5},
        options={"epsilon_high": 1.5},
        acts=(Acts("ratio", -math.inf, 1.5),),
        note="epsilon_high bounds the ratio, not its deviation",
    )
    yield _trl(
        "cispo",
        "sequence",
        "reinforce",
        {},
        statements=("weight min(exp(mean(log_ratio over trajectory)), 1.5)",),
        options={"epsilon_high": 1.5},
        acts=(Acts("sequence ratio", -math.inf, 1.5),),
    )
    yield _trl(
        "sapo", "token", "sapo", {"tau_pos": 1.0, "tau_neg": 1.05}, options={}, acts=_OF_RATIO
    )
    yield _trl(
        "vespo",
        "token",
        "vespo",
        {},
        kind="products",
        acts=(Acts("product", 0.5, 2.0),),
    )
    yield _trl(
        "vespo",
        "sequence",
        "vespo",
        {},
        kind="products",
        acts=(Acts("product", 0.5, 2.0),),
        note="importance_sampling_level has no effect",
    )
    yield _trl(
        "vespo",
        "token",
        "vespo",
        {},
        kind="far",
        acts=(Acts("log_ratio", -20.0, 20.0), Acts("product", 1e-8, math.exp(20.0))),
        about="beyond its clamps",
    )


def _trl_terms() -> Iterator[Case]:
    for delta in (1.5,):
        yield _trl(
            "dapo",
            "token",
            "two_sided",
            _DEVIATIONS | {"cap": delta},
            options=_TRL_BOUNDS | {"delta": delta},
            acts=(*_OF_RATIO, Acts("ratio", -math.inf, delta)),
            about="delta",
        )
    for corrected, factor in ((False, ""), (True, "ratio * ")):
        yield _trl(
            "grpo",
            "token",
            "dapo",
            _DEVIATIONS,
            statements=(f"penalty 0.1 * {factor}k3(ref_logp - logp)",),
            options=_TRL_BOUNDS | {"beta": 0.1, "use_bias_correction_kl": corrected},
            acts=_OF_RATIO,
            about="beta, bias correction" if corrected else "beta",
            note="use_bias_correction_kl is on by default in 1.16" if corrected else "",
        )
    for name, weight, acts in (
        ("token_truncate", f"min(max(exp({_TO_ROLLOUT}), 0.6), 1.8)", "rollout ratio"),
        ("token_mask", f"mask(exp({_TO_ROLLOUT}), 0.6, 1.8)", "rollout ratio"),
        ("sequence_truncate", f"min(max(exp({_OF_ROW}), 0.6), 1.8)", "rollout product"),
        ("sequence_mask", f"mask(exp({_OF_ROW}), 0.6, 1.8)", "rollout product"),
    ):
        yield _trl(
            "dapo",
            "token",
            "dapo",
            _DEVIATIONS,
            statements=(f"weight {weight}",),
            options={
                **_TRL_BOUNDS,
                "use_vllm": True,
                "vllm_importance_sampling_mode": name,
                "vllm_importance_sampling_clip_min": 0.6,
                "vllm_importance_sampling_clip_max": 1.8,
            },
            acts=(*_OF_RATIO, Acts(acts, 0.6, 1.8)),
            about=f"vllm {name}",
        )
    yield _trl(
        "dapo",
        "token",
        "dapo",
        _DEVIATIONS,
        statements=(
            "weight { 0 when advantage < 0 and mean(rollout_logp - logp over trajectory) > 0.3;"
            " 1 otherwise; }",
        ),
        options={**_TRL_BOUNDS, "off_policy_mask_threshold": 0.3},
        acts=(*_OF_RATIO, Acts("sampling kl", -math.inf, 0.3)),
        about="off-policy mask",
    )


CASES = (*_verl_losses(), *_verl_corrections(), *_trl_losses(), *_trl_terms())
