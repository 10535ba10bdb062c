"""Wrong versions of the shipped specs: one edit each, of the text or of the table of gates.

Each mutant says what kind of slip it is and which findings are expected of the checker. Those that
nothing is expected of are meaningful other objectives; each says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fibc.gates.builtin import builtin_gates
from fibc.gates.rule import GateRule


@dataclass(frozen=True)
class Mutant:
    """A spec with some words replaced; each stands in it exactly once.

    Attributes:
        spec: the shipped one.
        kind: what sort of slip it is.
        edits: pairs of what stands there and what stands there instead.
        codes: the findings that are expected, all of them; empty where it is legitimate.
        why: why a legitimate one is not caught.
        same_loss: whether its loss at the defaults is that of the shipped one.
    """

    spec: str
    kind: str
    edits: tuple[tuple[str, str], ...]
    codes: tuple[str, ...] = ()
    why: str = ""
    same_loss: bool = False

    @property
    def name(self) -> str:
        edits = "; ".join(f"{' '.join(a.split())} -> {' '.join(b.split())}" for a, b in self.edits)
        return f"{self.spec}: {edits}"


@dataclass(frozen=True)
class TableMutant:
    """A gate with other pieces, under which a shipped spec is checked."""

    spec: str
    gate: str
    name: str
    change: Callable[[GateRule], GateRule]
    codes: tuple[str, ...] = ()
    why: str = ""


def text(spec: str, kind: str, old: str, new: str, *codes: str, why: str = "") -> Mutant:
    return Mutant(spec, kind, ((old, new),), codes, why)


def same(spec: str, kind: str, old: str, new: str, *codes: str, why: str = "") -> Mutant:
    """One whose loss is that of the shipped spec."""
    return Mutant(spec, kind, ((old, new),), codes, why, same_loss=True)


BUDGET, SIGN, PAIR, UNIT = "budget scaled", "sign", "pair swapped", "unit"
LEVELS, ROLE, GATE, ACTS = "levels", "base and fiber", "another gate", "pessimistic"
CHANNELS, SIGNAL, REDUCE, KEY = "split or net", "signal", "reduce", "key"
AGGREGATE, PARAM, STEEPNESS, PASSING = "aggregate", "parameter", "steepness", "pass and drop"
OVER, RANGE, NAME = "over", "range of a parameter", "word"

PPO_GATE = "base clip(epsilon) pessimistic"
TOKEN_MEAN = "reduce mean over token"
MEANS = "reduce mean over trajectory, mean over token"

TEXT: tuple[Mutant, ...] = (
    # --- budgets
    text("ppo", BUDGET, "= 0.2 in", "= 2 in", "FIB403"),
    text("ppo", BUDGET, "= 0.2 in", "= 0.02 in", why="a narrower clip"),
    text("ppo", BUDGET, "= 0.2 in (0, 1)", "= 2 in (0, 10)", "FIB604"),
    text("grpo", BUDGET, "= 0.2 in (0, 1)", "= 2 in (0, 10)", "FIB604"),
    text(
        "dapo",
        BUDGET,
        "deviation = 0.28",
        "deviation = 2.8",
        why="a bound of 3.8 on r is wide, but a bound",
    ),
    text("dapo", BUDGET, "deviation = 0.28", "deviation = 0.028", "FIB611"),
    text("dapo", BUDGET, "= 0.2 in", "= 2 in", "FIB403"),
    text(
        "dapo", BUDGET, "= 0.2 in", "= 0.02 in", why="a tighter lower bound, still below the upper"
    ),
    text(
        "gspo", BUDGET, "= 1.0004 in", "= 1.04 in", why="below what FIB608 calls a token's budget"
    ),
    text("gspo", BUDGET, "= 1.0004 in", "= 1.4 in", "FIB608"),
    text("gspo", BUDGET, "= 0.9997 in", "= 0.7 in", "FIB608", "FIB611"),
    text("gspo", BUDGET, "= 1.0004 in", "= 10.004 in", "FIB403"),
    text(
        "apc", BUDGET, "= 0.1 in", "= 1 in", why="another budget; `delta` is promised, not a number"
    ),
    text(
        "apc",
        BUDGET,
        "= 0.1 in",
        "= 0.01 in",
        why="another budget; `delta` is promised, not a number",
    ),
    text("fiberpo", BUDGET, "= 0.20 in", "= 2.0 in", "FIB403"),
    text("fiberpo", BUDGET, "= 0.20 in (0, 1)", "= 2.0 in (0, 9)", "FIB501"),
    text("fiberpo", BUDGET, "= 0.20 in", "= 0.02 in", "FIB602", "FIB603"),
    text("fiberpo", BUDGET, "= 0.10 in", "= 1.0 in (0, 2) #", "FIB501", "FIB602"),
    text("fiberpo", BUDGET, "= 0.10 in", "= 0.01 in", "FIB603"),
    text("fiberpo", BUDGET, "= 0.02 in", "= 0.2 in", "FIB501", "FIB603"),
    text("fiberpo", BUDGET, "= 0.02 in", "= 0.002 in", why="a narrower token clip"),
    text(
        "fiberpo_domain",
        BUDGET,
        "= 0.05 in (0, 1)\n  param  domain_minus",
        "= 0.5 in (0, 1)\n  param  domain_minus",
        "FIB501",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "group_plus       : log = 0.08",
        "group_plus : log = 0.8",
        "FIB501",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "group_minus      : log = 0.05",
        "group_minus : log = 0.005",
        "FIB603",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "trajectory_plus  : log = 0.15",
        "trajectory_plus : log = 0.015",
        "FIB602",
        "FIB603",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "trajectory_minus : log = 0.09",
        "trajectory_minus : log = 0.9",
        "FIB501",
        "FIB602",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "epsilon          : log = 0.02",
        "epsilon : log = 0.2",
        "FIB501",
        "FIB603",
    ),
    text(
        "fiberpo_domain",
        BUDGET,
        "epsilon          : log = 0.02",
        "epsilon : log = 0.01",
        why="a narrower token clip",
    ),
    # --- signs, pairs
    text("ppo", SIGN, "clip(epsilon)", "clip(-epsilon)", "FIB401"),
    text("ppo", SIGN, "clip(epsilon)", "clip(+epsilon)", "FIB401"),
    text("ppo", SIGN, "= 0.2 in", "= -0.2 in", "FIB403"),
    text("ppo", SIGN, "in (0, 1)", "in (-1, 1)", "FIB402"),
    text("fiberpo", SIGN, "+c_plus, -c_minus", "+c_plus, -(-c_minus)", "FIB402"),
    text("fiberpo", SIGN, "+c_plus, -c_minus", "+c_plus, +c_minus", "FIB401"),
    text("fiberpo", SIGN, "+c_plus, -c_minus", "-c_plus, +c_minus", "FIB401"),
    text("fiberpo", SIGN, "+c_plus, -c_minus", "c_plus - c_minus", "FIB402"),
    text("fiberpo", PAIR, "+c_plus, -c_minus", "+c_minus, -c_plus", "FIB602"),
    text("dapo", PAIR, "+epsilon_high, -epsilon_low", "+epsilon_low, -epsilon_high", "FIB611"),
    text("gspo", PAIR, "+ratio(high), -ratio(low)", "+ratio(low), -ratio(high)", "FIB405"),
    text(
        "fiberpo_domain",
        PAIR,
        "+domain_plus, -domain_minus",
        "+domain_minus, -domain_plus",
        "FIB602",
    ),
    text(
        "fiberpo_domain", PAIR, "+group_plus, -group_minus", "+group_minus, -group_plus", "FIB602"
    ),
    text(
        "fiberpo_domain",
        PAIR,
        "+trajectory_plus, -trajectory_minus",
        "+trajectory_minus, -trajectory_plus",
        "FIB602",
    ),
    text("fiberpo", PAIR, "+c_plus, -c_minus", "c_plus", "FIB601", "FIB602"),
    text("fiberpo", PAIR, "+c_plus, -c_minus", "+c_plus, -c_plus", "FIB601", "FIB602"),
    text("dapo", PAIR, "+epsilon_high, -epsilon_low", "+epsilon_high, -epsilon_high", "FIB601"),
    text("dapo", PAIR, "+epsilon_high, -epsilon_low", "epsilon_low", "FIB601"),
    # --- units
    text("ppo", UNIT, "deviation = 0.2 in (0, 1)", "ratio = 1.2 in (1, 2)", "FIB301"),
    text("ppo", UNIT, "deviation = 0.2", "log = 0.2", "FIB301"),
    text("ppo", UNIT, "deviation = 0.2", "pure = 0.2", "FIB301"),
    text("ppo", UNIT, "clip(epsilon)", "clip(+1.2, -0.8)", "FIB601", "FIB612"),
    text("dapo", UNIT, "+epsilon_high, -epsilon_low", "+1.28, -0.8", "FIB601", "FIB612"),
    text(
        "dapo",
        UNIT,
        "+epsilon_high, -epsilon_low",
        "+ratio(epsilon_high), -ratio(epsilon_low)",
        "FIB303",
    ),
    text("gspo", UNIT, "+ratio(high), -ratio(low)", "+high, -low", "FIB301"),
    text("gspo", UNIT, "+ratio(high), -ratio(low)", "+(high - 1), -(1 - low)", "FIB301"),
    text("fiberpo", UNIT, "clip(epsilon)", "clip(+ratio(1.02), -ratio(0.98))", "FIB601"),
    text("fiberpo", UNIT, "epsilon : log", "epsilon : deviation", "FIB301"),
    text("apc", UNIT, "delta : deviation = 0.1", "delta : log = 0.1", "FIB301"),
    # --- levels
    text("fiberpo", LEVELS, "token < trajectory", "trajectory < token", "FIB202"),
    text("fiberpo", LEVELS, "levels token < trajectory", "levels token", "FIB201"),
    text(
        "fiberpo_domain",
        LEVELS,
        "group by uid < domain by data_source",
        "domain by data_source < group by uid",
        "FIB204",
    ),
    text("fiberpo_domain", LEVELS, "< domain by data_source", "", "FIB201"),
    text(
        "fiberpo_domain",
        LEVELS,
        "token < trajectory < group by uid",
        "token < group by uid < trajectory",
        "FIB610",
    ),
    text("fiberpo_domain", LEVELS, "at group      {", "at trajectory {", "FIB103", "FIB205"),
    text(
        "apc",
        LEVELS,
        "state by state_id",
        "state by state_id < trajectory",
        why="states within rows, a finer budget",
    ),
    text("apc", LEVELS, "state by state_id", "state", "FIB203"),
    text("gspo", LEVELS, "at trajectory {", "at token {", "FIB103"),
    text("ppo", LEVELS, "at token {", "at trajectory {", "FIB205"),
    # --- base and fiber
    text("fiberpo", ROLE, "base  rollback", "fiber rollback", "FIB204"),
    text("fiberpo", ROLE, "fiber clip", "base clip", "FIB204"),
    Mutant(
        "fiberpo",
        ROLE,
        (("base  rollback", "fiber rollback"), ("fiber clip", "base clip")),
        ("FIB204",),
    ),
    text("fiberpo_domain", ROLE, "fiber rollback(+group", "base rollback(+group", "FIB204"),
    text("ppo", ROLE, "base clip", "fiber clip", "FIB204"),
    text("gspo", ROLE, "fiber drop", "base drop", "FIB204"),
    # --- other gates
    text("fiberpo", GATE, "rollback(+c_plus", "clip(+c_plus", "FIB501"),
    text("fiberpo", GATE, "clip(epsilon)", "rollback(epsilon)", "FIB406"),
    text(
        "fiberpo",
        GATE,
        "clip(epsilon)",
        "rollback(epsilon, k = 8)",
        why="tokens are pulled back too; nothing promised breaks",
    ),
    text("fiberpo_domain", GATE, "rollback(+domain_plus", "clip(+domain_plus", "FIB501"),
    text("fiberpo_domain", GATE, "rollback(+group_plus", "clip(+group_plus", "FIB501"),
    text("fiberpo_domain", GATE, "rollback(+trajectory_plus", "clip(+trajectory_plus", "FIB501"),
    text(
        "ppo",
        GATE,
        "clip(epsilon)",
        "rollback(epsilon, k = 4)",
        why="a rollback for the clip; all that PPO promises holds",
    ),
    text("ppo", GATE, PPO_GATE, "base censor(epsilon, over trajectory) pessimistic", "FIB501"),
    text(
        "apc",
        GATE,
        "censor(delta, over state)",
        "clip(delta)",
        why="clips each deviation, so also their mean: a stronger promise",
    ),
    text("apc", GATE, "censor(delta, over state)", "clip(2 * delta)", "FIB501"),
    text(
        "gspo",
        GATE,
        "clip(+ratio(high), -ratio(low))",
        "rollback(+ratio(high), -ratio(low))",
        why="a rollback for the clip; all that GSPO promises holds",
    ),
    # --- pessimistic
    text("ppo", ACTS, " pessimistic", "", "FIB501"),
    text("dapo", ACTS, " pessimistic", "", "FIB501"),
    text("grpo", ACTS, " pessimistic", "", "FIB501"),
    text(
        "gspo",
        ACTS,
        " pessimistic",
        "",
        why="a two-sided clip: not a lower bound for a sequence any more, which nothing promises",
    ),
    text("ppo", ACTS, " pessimistic", " optimistic", "FIB102"),
    text("apc", ACTS, "over state) }", "over state) pessimistic }", "FIB501"),
    text("fiberpo", ACTS, "-c_minus) }", "-c_minus) pessimistic }", "FIB501"),
    text("fiberpo", ACTS, "clip(epsilon) }", "clip(epsilon) pessimistic }", "FIB501"),
    text("fiberpo_domain", ACTS, "-group_minus) }", "-group_minus) pessimistic }", "FIB501"),
    text("gspo", ACTS, "fiber drop", "fiber drop pessimistic", "FIB401"),
    # --- split, net, signals
    text(
        "fiberpo",
        CHANNELS,
        "log_ratio split",
        "log_ratio net",
        why="ups and downs cancel: another objective that keeps all promises",
    ),
    text(
        "fiberpo",
        CHANNELS,
        "log_ratio split",
        "log_ratio",
        why="the same; net is what is meant if nothing is said",
    ),
    text(
        "fiberpo_domain",
        CHANNELS,
        "log_ratio split",
        "log_ratio net",
        why="ups and downs cancel: another objective that keeps all promises",
    ),
    text(
        "gspo", CHANNELS, "log_ratio net", "log_ratio split", why="budgets for ups and downs apart"
    ),
    same(
        "ppo",
        CHANNELS,
        "signal ratio",
        "signal ratio split",
        why="a token is in one channel: the same loss",
    ),
    text("apc", CHANNELS, "signal ratio", "signal ratio split", "FIB304"),
    text("fiberpo", SIGNAL, "log_ratio split", "ratio split", "FIB301"),
    text("ppo", SIGNAL, "signal ratio", "signal log_ratio", "FIB301"),
    Mutant(
        "ppo",
        SIGNAL,
        (("signal ratio", "signal log_ratio"), (": deviation", ": log")),
        (),
        "1 +- epsilon becomes exp(+-epsilon)",
    ),
    text(
        "gspo",
        SIGNAL,
        "signal log_ratio net",
        "signal ratio net",
        why="the arithmetic mean of the ratios of a sequence instead of the geometric one",
    ),
    text("apc", SIGNAL, "signal ratio", "signal log_ratio", "FIB301", "FIB304"),
    # --- reduce
    text("fiberpo", REDUCE, MEANS, "reduce mean over token, mean over trajectory", "FIB206"),
    text("fiberpo", REDUCE, MEANS, "reduce mean over trajectory", "FIB206"),
    text("fiberpo", REDUCE, MEANS, TOKEN_MEAN, why="all tokens count alike, as in DAPO"),
    text(
        "fiberpo",
        REDUCE,
        MEANS,
        "reduce mean over trajectory, sum over token",
        why="no length normalization",
    ),
    text(
        "fiberpo",
        REDUCE,
        MEANS,
        "reduce sum over trajectory, mean over token",
        why="a sum over the batch",
    ),
    text("ppo", REDUCE, TOKEN_MEAN, MEANS, "FIB606"),
    text("dapo", REDUCE, TOKEN_MEAN, MEANS, "FIB606"),
    text("dapo", REDUCE, TOKEN_MEAN, "reduce sum over token", why="a sum over the batch"),
    text("grpo", REDUCE, MEANS, TOKEN_MEAN, "FIB698"),
    text("apc", REDUCE, TOKEN_MEAN, "reduce mean over state, mean over token", "FIB609"),
    text(
        "fiberpo_domain",
        REDUCE,
        MEANS,
        "reduce mean over domain, mean over trajectory, mean over token",
        "FIB609",
    ),
    text("fiberpo_domain", REDUCE, MEANS, "reduce mean over group, mean over token", "FIB609"),
    text("gspo", REDUCE, MEANS, TOKEN_MEAN, why="long responses weigh more"),
    text("ppo", REDUCE, TOKEN_MEAN, "reduce median over token", "FIB106"),
    # --- keys
    text("fiberpo_domain", KEY, "domain by data_source", "domain by uid", "FIB203"),
    text("fiberpo_domain", KEY, "group by uid", "group by mask", "FIB203"),
    text("fiberpo_domain", KEY, "trajectory <", "trajectory by rollout <", "FIB203"),
    text("apc", KEY, "by state_id", "by uid", why="states are what the key says"),
    text("fiberpo", KEY, "token < trajectory", "token < sequence by uid < trajectory", "FIB205"),
    # --- aggregates
    text(
        "fiberpo_domain",
        AGGREGATE,
        "-group_minus) }",
        "-group_minus) aggregate mean over token }",
        why="long responses weigh more in their group",
    ),
    text(
        "fiberpo_domain",
        AGGREGATE,
        "-domain_minus) }",
        "-domain_minus) aggregate mean over trajectory }",
        why="large groups weigh more in their domain",
    ),
    same(
        "fiberpo",
        AGGREGATE,
        "-c_minus) }",
        "-c_minus) aggregate mean over token }",
        why="what it is anyway",
    ),
    text(
        "fiberpo", AGGREGATE, "-c_minus) }", "-c_minus) aggregate mean over trajectory }", "FIB207"
    ),
    text(
        "fiberpo",
        AGGREGATE,
        "-c_minus) }",
        "-c_minus) aggregate sum over token }",
        why="a budget for the whole drift, however long: every promise holds",
    ),
    # --- parameters
    text("fiberpo", PARAM, "+c_plus, -c_minus", "+c_plus, -0.1", "FIB601"),
    text("fiberpo", PARAM, "clip(epsilon)", "clip(c_minus)", "FIB501", "FIB601", "FIB603"),
    text("ppo", PARAM, "clip(epsilon)", "clip(0.2)", "FIB601"),
    text("ppo", PARAM, "clip(epsilon)", "clip(epsillon)", "FIB101"),
    text("gspo", PARAM, "-ratio(low)", "-ratio(0.9997)", "FIB601"),
    text("apc", PARAM, "censor(delta,", "censor(0.1,", "FIB601"),
    text("fiberpo_domain", PARAM, "-group_minus)", "-domain_minus)", "FIB601"),
    text("fiberpo", RANGE, "= 0.02 in (0, 1)", "= 0.02", "FIB402"),
    text("gspo", RANGE, "in (0.5, 1)", "in (0.5, 2)", "FIB405"),
    same("ppo", RANGE, "in (0, 1)", "in (0, 2)", why="values that may be set later"),
    # --- steepness
    text(
        "fiberpo",
        STEEPNESS,
        "-c_minus)",
        "-c_minus, k = 2)",
        why="a gentler rollback, as in figure 2b",
    ),
    same("fiberpo", STEEPNESS, "-c_minus)", "-c_minus, k = tokens)", why="what it is anyway"),
    text("fiberpo", STEEPNESS, "-c_minus)", "-c_minus, k = -2)", "FIB402"),
    text("fiberpo", STEEPNESS, "-c_minus)", "-c_minus, k = inf)", "FIB402"),
    text("fiberpo", STEEPNESS, "-c_minus)", "-c_minus, k = epsilon)", "FIB301"),
    text("fiberpo", STEEPNESS, "clip(epsilon)", "clip(epsilon, k = 2)", "FIB401"),
    # --- pass and drop
    text("fiberpo", PASSING, "fiber clip(epsilon)", "fiber pass", "FIB501", "FIB601", "FIB605"),
    text("fiberpo", PASSING, "fiber clip(epsilon)", "fiber drop", "FIB501", "FIB601"),
    text(
        "fiberpo",
        PASSING,
        "base  rollback(+c_plus, -c_minus)",
        "base pass",
        "FIB501",
        "FIB601",
        "FIB605",
    ),
    text("gspo", PASSING, "fiber drop", "fiber pass", "FIB605"),
    text("gspo", PASSING, "at token      { fiber drop }", "", "FIB205"),
    text("ppo", PASSING, PPO_GATE, "base pass", "FIB601", "FIB605"),
    text("ppo", PASSING, PPO_GATE, "base drop", "FIB501", "FIB601", "FIB614"),
    text(
        "fiberpo_domain",
        PASSING,
        "fiber rollback(+group_plus, -group_minus)",
        "fiber drop",
        "FIB501",
        "FIB601",
    ),
    text(
        "fiberpo_domain",
        PASSING,
        "base  rollback(+domain_plus, -domain_minus)",
        "base drop",
        "FIB501",
        "FIB601",
    ),
    text("fiberpo", PASSING, "+c_plus, -c_minus", "+inf, -c_minus", "FIB501", "FIB601", "FIB605"),
    # --- over
    text("apc", OVER, "censor(delta, over state)", "censor(delta, over token)", "FIB208"),
    text("apc", OVER, "censor(delta, over state)", "censor(delta)", "FIB401"),
    Mutant(
        "apc",
        OVER,
        (
            ("token < state by state_id", "token < state by state_id < group by uid"),
            ("(delta, over state)", "(delta, over group)"),
        ),
        ("FIB501",),
    ),
    Mutant(
        "apc",
        OVER,
        (
            ("token < state by state_id", "token < trajectory"),
            ("(delta, over state)", "(delta, over trajectory)"),
            ("diagonal over state", "diagonal over trajectory"),
            ("delta over state", "delta over trajectory"),
        ),
        (),
        "total variation of a response instead of a state",
    ),
    text("ppo", NAME, "objective ppo", "objectiv ppo", "FIB001"),
    text("fiberpo", NAME, "rollback", "rolback", "FIB102"),
)


# --- the table of gates -------------------------------------------------------------------------


def piece(rule: GateRule, index: int, **changes: object) -> GateRule:
    pieces = list(rule.pieces)
    pieces[index] = replace(pieces[index], **changes)  # type: ignore[arg-type]
    return replace(rule, pieces=tuple(pieces))


def pieces(rule: GateRule, *order: int) -> GateRule:
    return replace(rule, pieces=tuple(rule.pieces[i] for i in order))


def _first_last(rule: GateRule) -> GateRule:
    """The last two pieces the other way round, each with the end the place needs."""
    first, second, third = rule.pieces
    swapped = replace(third, until=second.until), replace(second, until=None)
    return replace(rule, pieces=(first, *swapped))


TABLE: tuple[TableMutant, ...] = (
    TableMutant(
        "ppo",
        "clip",
        "slope 1 -> 0.9",
        lambda r: piece(r, 0, slope=lambda C, k: 0.9),
        ("FIB501", "FIB502"),
    ),
    TableMutant(
        "ppo", "clip", "slope 1 -> 0", lambda r: piece(r, 0, slope=lambda C, k: 0), ("FIB501",)
    ),
    TableMutant(
        "ppo", "clip", "slope 1 -> -1", lambda r: piece(r, 0, slope=lambda C, k: -1), ("FIB501",)
    ),
    TableMutant(
        "ppo",
        "clip",
        "clipped to 1.1 C",
        lambda r: piece(r, 1, intercept=lambda C, k: 1.1 * C),
        ("FIB501",),
    ),
    TableMutant(
        "ppo", "clip", "clipped to 0", lambda r: piece(r, 1, intercept=lambda C, k: 0), ("FIB501",)
    ),
    TableMutant(
        "ppo",
        "clip",
        "pass up to 2 C",
        lambda r: piece(r, 0, until=lambda C, k: 2 * C),
        ("FIB501",),
    ),
    TableMutant(
        "ppo",
        "clip",
        "intercept 0 -> 0.01 C",
        lambda r: piece(r, 0, intercept=lambda C, k: 0.01 * C),
        ("FIB501",),
    ),
    TableMutant(
        "ppo",
        "clip",
        "only the first piece",
        lambda r: replace(r, pieces=(replace(r.pieces[0], until=None),)),
        ("FIB605",),
    ),
    TableMutant("ppo", "clip", "only the last piece", lambda r: pieces(r, 1), ("FIB501",)),
    TableMutant(
        "ppo",
        "clip",
        "rises beyond the budget",
        lambda r: piece(r, 1, slope=lambda C, k: 0.5, intercept=lambda C, k: 0.5 * C),
        ("FIB605",),
    ),
    TableMutant(
        "ppo",
        "clip",
        "falls beyond the budget",
        lambda r: piece(r, 1, slope=lambda C, k: -1, intercept=lambda C, k: 2 * C),
        ("FIB616",),
    ),
    TableMutant(
        "ppo",
        "clip",
        "exclusive at its budget",
        lambda r: piece(r, 0, inclusive=False),
        (),
        "one point of measure zero; `fib diff` calls it GRADIENT",
    ),
    TableMutant(
        "fiberpo",
        "clip",
        "slope 1 -> 0.9",
        lambda r: piece(r, 0, slope=lambda C, k: 0.9),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "clip",
        "rises beyond the budget",
        lambda r: piece(r, 1, slope=lambda C, k: 1, intercept=lambda C, k: 0),
        ("FIB501", "FIB605"),
    ),
    TableMutant(
        "fiberpo",
        "clip",
        "falls beyond the budget",
        lambda r: piece(r, 1, slope=lambda C, k: -1, intercept=lambda C, k: 2 * C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "clip",
        "clipped to 4 C at 4 C",
        lambda r: piece(piece(r, 0, until=lambda C, k: 4 * C), 1, intercept=lambda C, k: 4 * C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "slope -k -> k",
        lambda r: piece(r, 1, slope=lambda C, k: k),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "slope -k -> 0",
        lambda r: piece(r, 1, slope=lambda C, k: 0),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "slope -k -> 0, flat at C",
        lambda r: piece(r, 1, slope=lambda C, k: 0, intercept=lambda C, k: C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "slope -k -> -k / 2",
        lambda r: piece(r, 1, slope=lambda C, k: -k / 2),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "intercept (k + 1) C -> k C",
        lambda r: piece(r, 1, intercept=lambda C, k: k * C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "until (1 + 1/k) C -> 2 C",
        lambda r: piece(r, 1, until=lambda C, k: 2 * C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "zeroed -> C",
        lambda r: piece(r, 2, intercept=lambda C, k: C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "slope 1 -> 0.9",
        lambda r: piece(r, 0, slope=lambda C, k: 0.9),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "pass up to 0.9 C",
        lambda r: piece(r, 0, until=lambda C, k: 0.9 * C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo", "rollback", "the first piece removed", lambda r: pieces(r, 1, 2), ("FIB501",)
    ),
    TableMutant(
        "fiberpo", "rollback", "the middle piece removed", lambda r: pieces(r, 0, 2), ("FIB501",)
    ),
    TableMutant(
        "fiberpo",
        "rollback",
        "the last piece removed",
        lambda r: replace(r, pieces=(r.pieces[0], replace(r.pieces[1], until=None))),
        ("FIB501",),
    ),
    TableMutant("fiberpo", "rollback", "the last two pieces swapped", _first_last, ("FIB501",)),
    TableMutant(
        "fiberpo_domain",
        "rollback",
        "slope -k -> 0, flat at C",
        lambda r: piece(r, 1, slope=lambda C, k: 0, intercept=lambda C, k: C),
        ("FIB501",),
    ),
    TableMutant(
        "fiberpo_domain",
        "rollback",
        "zeroed -> C",
        lambda r: piece(r, 2, intercept=lambda C, k: C),
        ("FIB501",),
    ),
    TableMutant(
        "gspo", "drop", "drop -> pass", lambda r: piece(r, 0, slope=lambda C, k: 1), ("FIB605",)
    ),
    TableMutant(
        "apc",
        "censor",
        "slope 1 -> 0.9",
        lambda r: piece(r, 0, slope=lambda C, k: 0.9),
        ("FIB501",),
    ),
    TableMutant(
        "apc",
        "censor",
        "clipped to 2 C",
        lambda r: piece(r, 1, intercept=lambda C, k: 2 * C),
        ("FIB501",),
    ),
    TableMutant(
        "apc",
        "censor",
        "only the first piece",
        lambda r: replace(r, pieces=(replace(r.pieces[0], until=None),)),
        ("FIB501",),
    ),
    TableMutant(
        "apc",
        "censor",
        "passes and clips at 2 C",
        lambda r: piece(piece(r, 0, until=lambda C, k: 2 * C), 1, intercept=lambda C, k: 2 * C),
        ("FIB501",),
    ),
)


def mutated(mutant: TableMutant) -> GateRule:
    return mutant.change(builtin_gates()[mutant.gate])
