"""TRL's GRPO losses at both importance sampling levels, and the terms that its options add."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tests.trainers.batches import WIDTH, Acts
from tests.trainers.case import (
    BY_LENGTH,
    OVER_ROWS,
    OVER_TOKENS,
    ROW_RATIO,
    ROW_SUMS,
    ROW_TO_ROLLOUT,
    TO_ROLLOUT,
    Case,
    Statements,
)
from tests.trainers.verl_cases import DUAL_CLIP

REDUCE: dict[str, Statements] = {
    "grpo": OVER_ROWS,
    "bnpo": OVER_TOKENS,
    "dr_grpo": BY_LENGTH,
    "dapo": OVER_TOKENS,
    "luspo": ROW_SUMS,
    "cispo": OVER_TOKENS,
    "sapo": OVER_ROWS,
    "vespo": OVER_TOKENS,
    "gmpo": OVER_ROWS,
}
LEVELS = ("token", "sequence")

_BOUNDS = {"epsilon": 0.2, "epsilon_high": 0.3}
_DEVIATIONS = {"epsilon_low": 0.2, "epsilon_high": 0.3}
_RATIO = Acts("ratio", 0.8, 1.3)
_OF_ROW = Acts("sequence ratio", 0.8, 1.3)

# Clipped at the token, or the ratio of the row as GSPO has it.
_CLIPPED: dict[str, tuple[str, Mapping[str, float], Acts]] = {
    "token": ("dapo", _DEVIATIONS, _RATIO),
    "sequence": ("gspo", {"low": 0.8, "high": 1.3}, _OF_ROW),
}


def _case(loss: str, level: str, spec: str, *statements: str, **rest: Any) -> Case:
    params = dict(rest.pop("params", {}))
    if loss == "dr_grpo":
        params["length"] = float(WIDTH)  # max_completion_length
    return Case("trl", loss, level, spec, params, REDUCE[loss] + statements, **rest)


def _losses() -> Iterator[Case]:
    for loss in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo"):
        for level, (spec, params, acts) in _CLIPPED.items():
            yield _case(loss, level, spec, params=params, options=_BOUNDS, acts=(acts,))
    yield _case(
        "luspo",
        "sequence",
        "luspo",
        params={"low": 0.8, "high": 1.3},
        options=_BOUNDS,
        acts=(_OF_ROW,),
    )
    upper = "epsilon_high bounds the ratio itself; there is no lower bound"
    yield _case(
        "cispo",
        "token",
        "cispo_trl",
        params={"epsilon_high": 1.5},
        options={"epsilon_high": 1.5},
        acts=(Acts("ratio", -math.inf, 1.5),),
        note=upper,
    )
    yield _case(
        "cispo",
        "sequence",
        "reinforce",
        f"weight truncate({ROW_RATIO}, 1.5)",
        options={"epsilon_high": 1.5},
        acts=(Acts("sequence ratio", -math.inf, 1.5),),
        note=upper,
    )
    taus = {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}
    yield _case(
        "sapo",
        "token",
        "sapo",
        params={"tau_pos": 1.0, "tau_neg": 1.05},
        options=taus,
        acts=(_RATIO,),
    )
    soft = f"4 / {{tau}} * sigmoid({{tau}} * ({ROW_RATIO} - 1))"
    yield _case(
        "sapo",
        "sequence",
        "reinforce",
        f"surrogate by_advantage({soft.format(tau=1.0)}, {soft.format(tau=1.05)})",
        options=taus,
        acts=(_OF_ROW,),
    )
    yield _case(
        "gmpo",
        "token",
        "gmpo",
        "param epsilon_low : log = 0.2 in (0, inf)",
        "signal log_ratio net after clip(+epsilon, -epsilon_low) pessimistic",
        params={"epsilon": 0.3, "epsilon_low": 0.2},
        options=_BOUNDS,
        acts=(Acts("log_ratio", -0.2, 0.3),),
        empty_rows=True,
        note="an experimental trainer of its own, without importance_sampling_level; a row without "
        "a token adds -A to its loss",
    )


def _vespo() -> Iterator[Case]:
    exponents = {
        "vespo_k_pos": 2.0,
        "vespo_lambda_pos": 3.0,
        "vespo_k_neg": 3.0,
        "vespo_lambda_neg": 2.0,
    }
    params = {name.removeprefix("vespo_"): value for name, value in exponents.items()}
    of_row = Acts("product", 0.5, 2.0)
    for level in LEVELS:
        yield _case(
            "vespo",
            level,
            "vespo",
            params=params,
            options=exponents,
            kind="products",
            acts=(of_row,),
            note="" if level == "token" else "importance_sampling_level has no effect",
        )
    yield _case(
        "vespo",
        "token",
        "vespo",
        params=params,
        options=exponents,
        kind="far",
        acts=(Acts("log_ratio", -20.0, 20.0), Acts("product", 1e-8, math.exp(20.0))),
        about="beyond its clamps",
    )
    for mode, found in _TOKEN_WEIGHTS.items():
        w = (
            "clip(sum(clip(log_ratio, -20, 20) over trajectory)"
            f" + sum(log(max({found}, 1e-8)) over trajectory), log(1e-8), 20)"
        )
        positive, negative = f"3 + 2 * {w} - 3 * exp({w})", f"2 + 3 * {w} - 2 * exp({w})"
        yield _case(
            "vespo",
            "token",
            "reinforce",
            f"weight exp(by_advantage({positive}, {negative}))",
            options=exponents | _vllm(mode),
            kind="products",
            acts=(of_row, Acts("rollout ratio", 0.6, 1.8)),
            about=f"vllm {mode}",
            note="vLLM's weights multiply the ratio of the row; a masked one counts as 1e-8",
        )


def _bounded(what: str) -> dict[str, str]:
    return {"truncate": f"clip({what}, 0.6, 1.8)", "mask": f"mask({what}, 0.6, 1.8)"}


_TOKEN_WEIGHTS = {f"token_{n}": w for n, w in _bounded(f"exp({TO_ROLLOUT})").items()}
_ROW_WEIGHTS = {f"sequence_{n}": w for n, w in _bounded(f"exp({ROW_TO_ROLLOUT})").items()}


def _vllm(mode: str) -> dict[str, Any]:
    return {
        "use_vllm": True,
        "vllm_importance_sampling_mode": mode,
        "vllm_importance_sampling_clip_min": 0.6,
        "vllm_importance_sampling_clip_max": 1.8,
    }


def _terms() -> Iterator[Case]:
    yield _case(
        "dapo",
        "token",
        "two_sided",
        *DUAL_CLIP,
        params={"epsilon": 0.3, "epsilon_low": 0.2, "delta": 1.5},
        options=_BOUNDS | {"delta": 1.5},
        acts=(_RATIO, Acts("ratio", -math.inf, 1.5)),
        about="delta",
    )
    for level, (spec, params, acts) in _CLIPPED.items():
        ratio = "ratio" if level == "token" else ROW_RATIO
        for corrected, factor in ((False, ""), (True, f"{ratio} * ")):
            yield _case(
                "grpo",
                level,
                spec,
                f"penalty 0.1 * ({factor}k3(ref_logp - logp))",
                params=params,
                options=_BOUNDS | {"beta": 0.1, "use_bias_correction_kl": corrected},
                acts=(acts,),
                about="beta, bias correction" if corrected else "beta",
                note="the default of 1.16: the KL term times the ratio" if corrected else "",
            )
        for mode, weight in (_TOKEN_WEIGHTS | _ROW_WEIGHTS).items():
            measure = "ratio" if mode in _TOKEN_WEIGHTS else "product"
            yield _case(
                "dapo",
                level,
                spec,
                f"weight {weight}",
                "penalty 0.1 * k3(ref_logp - logp)",
                params=params,
                options=_BOUNDS | {"beta": 0.1, "use_bias_correction_kl": False} | _vllm(mode),
                acts=(acts, Acts(f"rollout {measure}", 0.6, 1.8)),
                about=f"vllm {mode}, beta",
            )
        yield _case(
            "dapo",
            level,
            spec,
            "weight { dropped: 0 when advantage < 0"
            " and mean(rollout_logp - logp over trajectory) > 0.3; 1 otherwise; }",
            params=params,
            options=_BOUNDS
            | {"off_policy_mask_threshold": 0.3, "use_vllm": True}
            | {"vllm_importance_sampling_correction": False},
            acts=(acts, Acts("sampling kl", -math.inf, 0.3)),
            about="off-policy mask",
        )


CASES = (*_losses(), *_vespo(), *_terms())
