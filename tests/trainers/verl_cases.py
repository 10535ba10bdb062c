"""verl's policy losses that are functions of the batch, with each of its aggregations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.trainers.batches import Acts
from tests.trainers.case import (
    BY_LENGTH,
    OVER_ROWS,
    OVER_TOKENS,
    ROW_PRODUCT,
    ROW_SUMS,
    ROW_TO_ROLLOUT,
    SUM,
    TO_ROLLOUT,
    Case,
    Statements,
)

AGGREGATIONS: dict[str, Statements] = {
    "token-mean": OVER_TOKENS,
    "token-sum": SUM,
    "seq-mean-token-sum": ROW_SUMS,
    "seq-mean-token-sum-norm": BY_LENGTH,
    "seq-mean-token-mean": OVER_ROWS,
}

# Which tokens these drop or penalise is drawn at random, or by rank in the micro-batch.
NOT_COVERED = frozenset({"clip_cov", "kl_cov"})

_BYPASS = "policy_loss.rollout_correction."
_ROLLOUT = "algorithm.rollout_correction."

_BOUNDS = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.3}
_DEVIATIONS = {"epsilon_low": 0.2, "epsilon_high": 0.3}
_ONE_SIDE = {"clip_ratio_c": 1e9}  # no dual clip: never reached
_RATIO = Acts("ratio", 0.8, 1.3)
_UPPER = Acts("ratio", -math.inf, 1.5)

# The shipped specs of these have one epsilon.
_TWO_EPSILONS = "param epsilon_low : deviation = 0.2 in (0, 1)"
DUAL_CLIP: Statements = (
    _TWO_EPSILONS,
    "at token { base clip(+epsilon, -epsilon_low) pessimistic }",
)
_GMPO: Statements = (
    "param epsilon_low : log = 0.2 in (0, inf)",
    "signal log_ratio net after clip(+epsilon, -epsilon_low) pessimistic",
)
_DUAL: dict[str, Any] = {
    "params": {"epsilon": 0.3, "epsilon_low": 0.2, "c": 1.5},
    "statements": DUAL_CLIP,
    "acts": (_RATIO, _UPPER),
}


def _each(
    loss: str,
    spec: str,
    options: dict[str, Any],
    *,
    always: str = "",
    statements: Statements = (),
    note: str = "",
    **rest: Any,
) -> Iterator[Case]:
    """A case for each aggregation; `always` is the one that the loss takes whatever it is told."""
    for mode in AGGREGATIONS:
        ignored = f"loss_agg_mode is ignored: always {always}" if always not in ("", mode) else ""
        scale = {"loss_scale_factor": 64} if mode == "seq-mean-token-sum-norm" else {}
        yield Case(
            "verl",
            loss,
            mode,
            spec,
            options=options | scale,
            statements=AGGREGATIONS[always or mode] + statements,
            note="; ".join(text for text in (note, ignored) if text),
            **({"token_advantages": True} | rest),
        )


def _losses() -> Iterator[Case]:
    yield from _each("vanilla", "dapo", _BOUNDS | _ONE_SIDE, params=_DEVIATIONS, acts=(_RATIO,))
    yield from _each("vanilla", "ppo_dual_clip", _BOUNDS | {"clip_ratio_c": 1.5}, **_DUAL)
    for spec, mode in (("ppo", "token-mean"), ("grpo", "seq-mean-token-mean")):
        yield Case(
            "verl",
            "vanilla",
            mode,
            spec,
            {"epsilon": 0.2},
            AGGREGATIONS[mode],
            {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2} | _ONE_SIDE,
            (Acts("ratio", 0.8, 1.2),),
            token_advantages=True,
        )
    yield Case(
        "verl",
        "vanilla",
        "seq-mean-token-sum-norm",
        "dr_grpo",
        {"epsilon": 0.2, "length": 64},
        ("reduce mean over trajectory, sum over token / length",),
        {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2, "loss_scale_factor": 64} | _ONE_SIDE,
        (Acts("ratio", 0.8, 1.2),),
        token_advantages=True,
    )
    for loss, measure in (("dppo_tv", "tv"), ("dppo_kl", "kl")):
        yield from _each(
            loss,
            loss,
            {"clip_ratio_low": 0.08, "clip_ratio_high": 0.1, "clip_ratio_c": 1.5},
            params={"low": 0.08, "high": 0.1, "c": 1.5},
            acts=(Acts(measure, -0.08, 0.1), _UPPER),
            note="clip_ratio_c is 3 unless set, not the 20 of its comment",
        )
    for spec, token_advantages in (("gspo_token", True), ("gspo", False)):
        yield from _each(
            "gspo",
            spec,
            {"clip_ratio_low": 0.1, "clip_ratio_high": 0.15},
            params={"low": 0.9, "high": 1.15},
            acts=(Acts("sequence ratio", 0.9, 1.15),),
            kind="sequences",
            token_advantages=token_advantages,
            note="" if token_advantages else "GSPO where a row has one advantage",
        )
    yield Case(
        "verl",
        "gspo",
        "seq-mean-token-mean",
        "gspo",
        {"low": 1 - 3e-4, "high": 1 + 4e-4},
        OVER_ROWS,
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        (Acts("sequence ratio", 1 - 3e-4, 1 + 4e-4),),
        kind="close",
        about="as published",
    )
    yield from _each(
        "sapo",
        "sapo",
        {"tau_pos": 1.0, "tau_neg": 1.05},
        params={"tau_pos": 1.0, "tau_neg": 1.05},
        acts=(_RATIO,),
        always="seq-mean-token-mean",
    )
    yield from _each("gpg", "reinforce", {}, acts=(_RATIO,))
    yield from _each(
        "geo_mean",
        "gmpo",
        _BOUNDS,
        params={"epsilon": 0.3, "epsilon_low": 0.2},
        statements=_GMPO,
        acts=(Acts("log_ratio", -0.2, 0.3),),
        token_advantages=False,
        always="seq-mean-token-mean",
        note="a mean over the micro-batch: parts of a batch do not add up",
    )
    yield from _each(
        "dro", "dro", {"policy_loss.dro_beta": 0.5}, params={"beta": 0.5}, acts=(_RATIO,)
    )
    yield from _each("cispo", "cispo", _BOUNDS, params=_DEVIATIONS, acts=(_RATIO,))


def _bypassed() -> Iterator[Case]:
    """bypass_mode weighs by the ratio to the rollout policy, which is its old policy."""
    yield from _each(
        "bypass_mode",
        "ppo_dual_clip",
        _BOUNDS | {"clip_ratio_c": 1.5, _BYPASS + "loss_type": "ppo_clip"},
        **_DUAL,
        note="vanilla; rollout_is has no effect",
    )
    reinforce = {_BYPASS + "loss_type": "reinforce"}
    yield from _each(
        "bypass_mode", "reinforce", reinforce | {_BYPASS + "rollout_is": None}, acts=(_RATIO,)
    )
    weighed = reinforce | {_BYPASS + "rollout_is": "token", _BYPASS + "rollout_is_threshold": 1.5}
    yield from _each("bypass_mode", "tis", weighed, params={"upper": 1.5}, acts=(_UPPER,))
    for about, threshold, weight, kind, acts in (
        ("token icepop", "0.8_1.5", "mask(ratio, 0.8, 1.5)", "tokens", Acts("ratio", 0.8, 1.5)),
        (
            "sequence tis",
            1.5,
            f"truncate({ROW_PRODUCT}, 1.5)",
            "products",
            Acts("product", -math.inf, 1.5),
        ),
        (
            "sequence icepop",
            "0.8_1.5",
            f"mask({ROW_PRODUCT}, 0.8, 1.5)",
            "products",
            Acts("product", 0.8, 1.5),
        ),
    ):
        level, _ = about.split()
        yield Case(
            "verl",
            "bypass_mode",
            "token-mean",
            "reinforce",
            statements=(*OVER_TOKENS, f"weight {weight}"),
            options=reinforce
            | {_BYPASS + "rollout_is": level, _BYPASS + "rollout_is_threshold": threshold},
            acts=(acts,),
            kind=kind,
            token_advantages=True,
            about=about,
        )


_TIS = f"truncate(exp({TO_ROLLOUT}), 1.5)"
_WEIGHED = {_ROLLOUT + "rollout_is": "token", _ROLLOUT + "rollout_is_threshold": 1.5}
_OF_ROLLOUT = Acts("rollout ratio", -math.inf, 1.5)


def _weighed(case: Case, *statements: str, note: str = "") -> Case:
    """A token-mean case with verl's truncated rollout weights, `rollout_is_weights`."""
    return replace(
        case,
        statements=case.statements + statements,
        options={**case.options, **_WEIGHED},
        acts=(*case.acts, _OF_ROLLOUT),
        about="rollout token tis",
        note=note,
    )


def _corrected(cases: dict[str, Case]) -> Iterator[Case]:
    """Every loss with rollout weights, and every kind of weight."""
    weight = f"weight {_TIS}"
    for loss in ("vanilla", "gspo", "sapo", "gpg", "cispo"):
        yield _weighed(cases[loss], weight)
    for loss in ("dppo_tv", "dppo_kl"):  # they have a weight already
        yield _weighed(cases[loss], f"surrogate {_TIS} * logp")
    yield _weighed(
        cases["geo_mean"],
        f"weight exp(mean(log({_TIS} + 1e-10) over trajectory))",
        note="weights count by their geometric mean",
    )
    yield _weighed(
        cases["dro"],
        weight,
        f"penalty {_TIS} * (beta * k2(log_ratio))",
        note="the quadratic term is weighed too",
    )
    for about, threshold, found, acts in (
        ("token icepop", "0.8_1.5", f"mask(exp({TO_ROLLOUT}), 0.8, 1.5)", ("ratio", 0.8)),
        ("sequence tis", 1.5, f"truncate(exp({ROW_TO_ROLLOUT}), 1.5)", ("product", -math.inf)),
        ("sequence icepop", "0.8_1.5", f"mask(exp({ROW_TO_ROLLOUT}), 0.8, 1.5)", ("product", 0.8)),
    ):
        measure, low = acts
        yield Case(
            "verl",
            "vanilla",
            "token-mean",
            "dapo",
            _DEVIATIONS,
            (*OVER_TOKENS, f"weight {found}"),
            _BOUNDS
            | _ONE_SIDE
            | {
                _ROLLOUT + "rollout_is": about.split()[0],
                _ROLLOUT + "rollout_is_threshold": threshold,
            },
            (_RATIO, Acts(f"rollout {measure}", low, 1.5)),
            token_advantages=True,
            about=f"rollout {about}",
        )


def _with_kl() -> Iterator[Case]:
    """use_kl_loss adds an estimate of the KL divergence to the reference, aggregated alike."""
    k2, k3 = (f"{name}(ref_logp - logp)" for name in ("k2", "k3"))
    cut = "the estimate is cut at 10"
    for kind, estimate, note in (
        ("kl", "k1(ref_logp - logp)", ""),
        ("abs", "abs(logp - ref_logp)", ""),
        ("mse", k2, ""),
        ("low_var_kl", f"min({k3}, 10)", cut),
        (
            "low_var_kl+",
            f"({k2} - stopgrad({k2}) + stopgrad(min({k3}, 10)))",
            f"the value of k3, the gradient of k2; {cut}",
        ),
    ):
        yield Case(
            "verl",
            "gpg",
            "token-mean",
            "reinforce",
            statements=(*OVER_TOKENS, f"penalty 0.1 * {estimate}"),
            options={"use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": kind},
            acts=(Acts("k3 of ref", -math.inf, 10.0), Acts("ref ratio", 0.8, 1.2)),
            kind="far",
            token_advantages=True,
            about=f"kl loss {kind}",
            note=note,
        )


def _far() -> Iterator[Case]:
    """Log-ratios beyond 20, where verl clamps them: it takes gradients of at most exp(-20) away,
    where the loss is bounded for large ratios."""
    clamped = Acts("log_ratio", -20.0, 20.0)
    default = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2}
    for loss, spec, options, params in (
        ("vanilla", "ppo_dual_clip", default, {"epsilon": 0.2, "c": 3.0}),
        ("cispo", "cispo", default, {"epsilon_high": 0.2, "epsilon_low": 0.2}),
        ("sapo", "sapo", {}, {}),
    ):
        yield Case(
            "verl",
            loss,
            "seq-mean-token-mean",
            spec,
            params,
            OVER_ROWS,
            options,
            (clamped,),
            kind="far",
            of_largest=True,
            about="log-ratios beyond 20",
            note="log-ratios are clamped to 20, and have no gradient beyond",
        )


def _all() -> Iterator[Case]:
    losses = [*_losses()]
    yield from losses
    yield from _bypassed()
    yield from _corrected({case.loss: case for case in reversed(losses) if _is_plain(case)})
    yield from _with_kl()
    yield from _far()


def _is_plain(case: Case) -> bool:
    return case.setting == "token-mean" and not case.about


CASES = tuple(_all())
