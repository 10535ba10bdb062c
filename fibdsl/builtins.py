"""The words of the language that are neither keywords nor gates (those are in
grammar/prelude.fib)."""

from __future__ import annotations

MODIFIERS: dict[str, str] = {
    "pessimistic": "the gate acts only where it lowers the objective, by the sign of the advantage",
}

REDUCTIONS: dict[str, str] = {
    "mean": "divide by the number of non-empty members",
    "sum": "do not divide",
}

CELL_COUNTS: dict[str, str] = {
    "size": "the number of non-empty children of the cell",
    "tokens": "the number of tokens of the cell",
}

TOKEN_WORDS: dict[str, str] = {
    "log_ratio": "logp - old_logp, nats",
    "ratio": "exp(log_ratio)",
    "logp": "of the policy that is trained, nats",
    "old_logp": "of the policy the batch was sampled with, nats",
    "ref_logp": "of a reference policy, nats",
    "rollout_logp": "of the engine that sampled the batch, nats",
    "prob": "exp(logp)",
    "old_prob": "exp(old_logp)",
    "advantage": "of the token",
    "gated_ratio": "what the gates make of the ratio",
}

ALIASES: dict[str, str] = {
    "log_prob": "logp",
    "log_probs": "logp",
    "logprob": "logp",
    "logprobs": "logp",
    "log_r": "log_ratio",
    "r": "ratio",
    "A": "advantage",
    "G": "gated_ratio",
}
"""What else papers and trainers call them, for suggestions."""

GATE_WORDS = ("log_ratio", "ratio", "logp", "old_logp", "prob", "old_prob")
"""Those of them that a gate at the token may look at, besides the sign of the advantage."""

FUNCTIONS: dict[str, str] = {
    "min": "a, b",
    "max": "a, b",
    "clip": "value, low, high",
    "abs": "value",
    "sign": "value",
    "exp": "log_ratio",
    "log": "ratio",
    "sigmoid": "value",
    "tanh": "value",
    "sqrt": "value",
    "stopgrad": "value",
    "truncate": "weight, bound",
    "mask": "weight, low, high",
    "k1": "log_ratio",
    "k2": "log_ratio",
    "k3": "log_ratio",
    "by_advantage": "a, b",
}
"""What expressions may call, and with which arguments. `|x|` is abs(x)."""

RESERVED = frozenset({"inf", "k", "budget", *CELL_COUNTS, *TOKEN_WORDS})
"""What no parameter and no `let` may be called."""

EDITIONS: tuple[int, ...] = (2026,)
