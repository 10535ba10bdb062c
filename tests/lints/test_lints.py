"""Lints: their own examples, near misses, and thresholds counted by hand."""

from __future__ import annotations

import pytest

from fibc import allow, driver
from fibc.lints import LINTS
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.rules import Fix, Rule, Severity
from fibdsl.source import Source

RULES = [*(lint.rule for lint in LINTS), *allow.RECORDS]


def findings(text: str, code: str) -> list[Diagnostic]:
    """What is found of one code in a spec that has no error."""
    found = driver.check(Source("<string>", text)).diagnostics
    assert [d.message for d in found if d.severity is Severity.ERROR] == []
    return [d for d in found if d.code == code]


def spec(
    *at: str,
    signal: str = "ratio",
    levels: str = "token < trajectory",
    reduce: str = "mean over token",
    params: str = "",
) -> str:
    gates = "\n".join(f"  at {block}" for block in at)
    return (
        f"objective o {{\n  {params}\n  signal {signal}\n  levels {levels}\n{gates}\n"
        f"  reduce {reduce}\n}}\n"
    )


# --- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_an_example_has_what_it_is_an_example_of(rule: Rule) -> None:
    assert findings(rule.example, rule.code)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_mended_example_has_it_no_more(rule: Rule) -> None:
    assert (rule.mended == "") == (rule.fix is Fix.NONE)
    if rule.mended:
        assert findings(rule.mended, rule.code) == []


# --- FIB606 token-ratio-sequence-mean -----------------------------------------------------------

CLIP = "token { base clip(0.2) pessimistic }"
GRPO = "mean over trajectory, mean over token"


@pytest.mark.parametrize(
    "text",
    [
        spec(CLIP, reduce=GRPO),
        spec(CLIP, reduce="sum over trajectory, mean over token"),
        spec(CLIP, reduce=f"mean over group, {GRPO}", levels="token < trajectory < group by uid"),
        spec("token { base pass }", reduce=GRPO),
        # Rows can be named where the chain does not have them.
        spec(CLIP, reduce=GRPO, levels="token < expert by expert_id"),
    ],
)
def test_606_found(text: str) -> None:
    (found,) = findings(text, "FIB606")
    assert found.message == (
        "this divides by the length of the trajectory, but only single tokens are gated: "
        "each token of a long response counts less"
    )


@pytest.mark.parametrize(
    "text",
    [
        spec(CLIP, reduce="mean over token"),
        spec(CLIP, reduce="mean over trajectory, sum over token"),
        spec(CLIP, reduce="mean over group, mean over token", levels="token < group by uid"),
        # The trajectory is gated too: what is averaged is what is gated.
        spec("trajectory { base clip(0.2) }", "token { fiber clip(0.02) }", reduce=GRPO),
        spec("trajectory { base clip(3e-4) }", "token { fiber drop }", reduce=GRPO),
    ],
)
def test_606_near_misses(text: str) -> None:
    assert findings(text, "FIB606") == []


# --- FIB607 mean-of-means -----------------------------------------------------------------------

TURNS = "token < turn by turn_id < trajectory < group by uid"
MEANS = "mean over trajectory, mean over turn, mean over token"


def test_607_says_what_a_token_weighs() -> None:
    (found,) = findings(spec(CLIP, levels=TURNS, reduce=MEANS), "FIB607")
    assert found.message == (
        "this is a mean of 3 means: a token counts "
        "1 / (`turn`s of its `trajectory` x `token`s of its `turn`)"
    )


def test_607_sums_do_not_divide() -> None:
    levels = "token < step by step_id < turn by turn_id < trajectory"
    reduce = "mean over trajectory, sum over turn, mean over step, mean over token"
    (found,) = findings(spec(CLIP, levels=levels, reduce=reduce), "FIB607")
    assert "1 / (`step`s of its `turn` x `token`s of its `step`)" in found.message


@pytest.mark.parametrize(
    "reduce",
    [
        "mean over token",
        "mean over trajectory, mean over token",
        "mean over turn, mean over token",
        "mean over trajectory, mean over turn, sum over token",
        "sum over trajectory, mean over turn, mean over token",
        # Groups hold several trajectories: another lint's.
        "mean over group, mean over trajectory, mean over token",
        f"mean over group, {MEANS}",
    ],
)
def test_607_near_misses(reduce: str) -> None:
    assert findings(spec(CLIP, levels=TURNS, reduce=reduce), "FIB607") == []


# --- FIB608 sequence-budget ---------------------------------------------------------------------


def gspo(gate: str, token: str = "fiber drop", signal: str = "log_ratio") -> str:
    at = (f"trajectory {{ base {gate} pessimistic }}", f"token {{ {token} }}")
    return spec(*at, signal=signal, reduce=GRPO)


@pytest.mark.parametrize(
    ("gate", "size"),
    [
        ("clip(0.2)", "0.2"),
        ("clip(0.05)", "0.05"),
        ("clip(+0.28, -0.0003)", "0.28"),
        ("clip(+inf, -0.2)", "0.2"),
        ("rollback(0.1)", "0.1"),
        ("clip(+ratio(1.0513), -ratio(0.9997))", "0.0500275"),  # exp(0.05) = 1.05127
    ],
)
def test_608_found(gate: str, size: str) -> None:
    (found,) = findings(gspo(gate), "FIB608")
    assert found.message.startswith(f"a budget of {size} nats is a token's, ")
    assert found.help is not None
    assert "`+ratio(1.0004), -ratio(0.9997)`" in found.help


@pytest.mark.parametrize(
    "text",
    [
        gspo("clip(0.0499)"),
        gspo("clip(+ratio(1.0512), -ratio(0.9997))"),
        gspo("clip(+inf, -inf)"),
        gspo("clip(0.2)", token="fiber clip(0.02)"),
        gspo("clip(0.2)", token="fiber pass"),
        gspo("clip(0.2)", signal="log_ratio split"),
        gspo("clip(0.2)", signal="ratio"),
        spec(CLIP, signal="log_ratio"),
        spec(
            "trajectory { base clip(0.2) }",
            "turn { fiber pass }",
            "token { fiber drop }",
            signal="log_ratio",
            levels="token < turn by turn_id < trajectory",
        ),
    ],
)
def test_608_near_misses(text: str) -> None:
    assert findings(text, "FIB608") == []


# --- FIB610 level-names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "messages"),
    [
        (
            "token < trajectory < turn by turn_id",
            [
                "`turn_id` splits the cells of `trajectory`, which stands below `turn`: "
                "one `trajectory` has many of them"
            ],
        ),
        (
            "token < trajectory < domain by data_source < group by uid",
            [
                "`uid` splits the cells of `domain`, which stands below `group`: "
                "one `data_source` has many of them"
            ],
        ),
        (
            "token < group by uid < trajectory",
            [
                "`group` stands below `trajectory`, where ids count within their trajectory: "
                "each cell of `uid` is one whole trajectory"
            ],
        ),
        # The key says what the cells are, whatever the level is called.
        (
            "token < trajectory < mine by dataset < yours by prompt_id",
            [
                "`prompt_id` splits the cells of `mine`, which stands below `yours`: "
                "one `dataset` has many of them"
            ],
        ),
        # One between them whose place nobody knows.
        (
            "token < trajectory < domain by data_source < bucket by bucket_id < group by uid",
            [
                "`uid` splits the cells of `domain`, which stands below `group`: "
                "one `data_source` has many of them"
            ],
        ),
    ],
)
def test_610_says_which_id_splits_which_cell(levels: str, messages: list[str]) -> None:
    found = findings(spec(CLIP, levels=levels), "FIB610")
    assert [d.message for d in found] == messages


@pytest.mark.parametrize(
    ("levels", "mended"),
    [
        (
            "token < trajectory < turn by turn_id < group by uid",
            "token < turn by turn_id < trajectory < group by uid",
        ),
        (
            "token < domain by data_source < group by uid < trajectory",
            "token < trajectory < group by uid < domain by data_source",
        ),
        (
            "token < trajectory < domain by data_source < bucket by bucket_id < group by uid",
            "token < trajectory < group by uid < bucket by bucket_id < domain by data_source",
        ),
    ],
)
def test_610_the_help_is_a_chain_without_it(levels: str, mended: str) -> None:
    for found in findings(spec(CLIP, levels=levels), "FIB610"):
        assert found.help == f"write `levels {mended}`"
    assert findings(spec(CLIP, levels=mended), "FIB610") == []


@pytest.mark.parametrize(
    "levels",
    [
        "token < segment by segment_id < turn by turn_id < trajectory < group by uid",
        "token < turn by turn_id < segment by segment_id < trajectory",
        "token < trajectory < group by uid < domain by data_source",
        "token < trajectory < prompt by prompt_id < group by uid",
        "token < expert by expert_id",
        "token < state by state_id < trajectory < cluster by cluster_id",
        # A prompt to some trainers, a domain to others.
        "token < trajectory < work by task_id < group by uid",
    ],
)
def test_610_near_misses(levels: str) -> None:
    assert findings(spec(CLIP, levels=levels), "FIB610") == []


# --- FIB611 inverted-pair -----------------------------------------------------------------------


def pair(
    budgets: str, signal: str = "ratio", modifier: str = "pessimistic", params: str = ""
) -> str:
    return spec(f"token {{ base clip({budgets}) {modifier} }}", signal=signal, params=params)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (pair("+0.2, -0.28"), "0.2 against 0.28"),
        (pair("+0.2, -0.28", "log_ratio"), "0.2 against 0.28"),
        (pair("+ratio(1.0003), -ratio(0.9996)", "log_ratio"), "0.0003 against 0.0004"),
        (pair("+ratio(1.2), -ratio(0.7)"), "0.2 against 0.3"),
        # log 1.2 = 0.1823 against 0.25, and 0.2 against 1 - exp(-0.25) = 0.2212.
        (pair("+ratio(1.2), -0.25", "log_ratio"), "0.182322 against 0.25"),
        (
            pair("+high, -0.2", params="param high : deviation = 0.1 in (0, 1)"),
            "0.1 against 0.2",
        ),
    ],
)
def test_611_found(text: str, numbers: str) -> None:
    (found,) = findings(text, "FIB611")
    assert found.message == f"the upper bound is tighter than the lower one, {numbers}"


@pytest.mark.parametrize(
    "text",
    [
        pair("0.2"),
        pair("ratio(1.2)", "log_ratio"),
        pair("+0.2, -0.2"),
        pair("+0.28, -0.2"),
        pair("+0.2, -0.28", modifier=""),
        pair("+0.2, -0.28", "log_ratio split"),
        # Symmetric as ratios: as logarithms 0.182 and 0.223, as floats 0.30000000000000004 and 0.3.
        pair("+ratio(1.2), -ratio(0.8)", "log_ratio"),
        pair("+ratio(1.3), -ratio(0.7)"),
        # Symmetric as logarithms: as ratios 1.2214 and 0.8187.
        pair("+0.2, -0.2", "log_ratio"),
        # 0.1823 against 0.2, but 0.2 against 1 - exp(-0.2) = 0.1813.
        pair("+ratio(1.2), -0.2", "log_ratio"),
        # A lower bound that no ratio reaches is none.
        pair("+0.2, -inf"),
        pair("+0.2, -1"),
        pair("+0.2, -inf", "log_ratio"),
        pair("+high, -0.2", params="param high : deviation = 0.2 in (0, 1)"),
        # Arithmetic that looks like a conversion from the other side.
        pair(
            "+(1 - c), -(1 - d)",  # 0.3, 0.2
            params="param c : deviation = 0.7 in (0, 1) param d : deviation = 0.8 in (0, 1)",
        ),
    ],
)
def test_611_near_misses(text: str) -> None:
    assert findings(text, "FIB611") == []


# --- FIB612 ratio-as-deviation ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "range", "mended"),
    [
        ("+1.2, -0.8", "0.2 to 2.2", "+ratio(1.2), -ratio(0.8)"),
        ("+1.28, -0.8", "0.2 to 2.28", "+ratio(1.28), -ratio(0.8)"),
        ("+1.0004, -0.9997", "0.0003 to 2.0004", "+ratio(1.0004), -ratio(0.9997)"),
        ("+1.6, -0.8", "0.2 to 2.6", "+ratio(1.6), -ratio(0.8)"),  # 0.6 is 3 times 0.2
    ],
)
def test_612_found(budgets: str, range: str, mended: str) -> None:
    (found,) = findings(pair(budgets), "FIB612")
    assert found.message.endswith(f" are deviations here: r may be anything from {range}")
    assert found.help == f"if they are ratios, write `{mended}`"
    assert findings(pair(mended), "FIB612") == []


def test_612_names_the_parameters() -> None:
    params = "param high : deviation = 1.2 in (0, 5) param low : deviation = 0.8 in (0, 1)"
    (found,) = findings(pair("+high, -low", params=params), "FIB612")
    assert found.help == (
        "if they are ratios, declare them `: ratio` and write `+ratio(high), -ratio(low)`"
    )


@pytest.mark.parametrize(
    "text",
    [
        pair("+0.28, -0.2"),
        pair("+1.2, -0.2"),
        pair("+1.2, -0.5"),
        pair("+1, -0.8"),
        pair("+2, -0.8"),
        pair("+1.7, -0.8"),  # 0.7 is 3.5 times 0.2
        pair("+1.05, -0.8"),  # 0.2 is 4 times 0.05
        pair("+1.2, -inf"),
        pair("0.9"),
        pair("+ratio(2.2), -ratio(0.2)"),  # the same range, and the unit is said
        pair("+1.2, -0.8", "log_ratio"),
    ],
)
def test_612_near_misses(text: str) -> None:
    assert findings(text, "FIB612") == []


# --- FIB605 unbounded, FIB614 no-gradient, of statements at the token ---------------------------


def stated(statements: str, at: str = "at token { base clip(0.2) pessimistic }") -> str:
    return (
        f"objective o {{ signal ratio levels token < trajectory {at} {statements} "
        "reduce mean over token }"
    )


def test_what_bounds_a_weight_is_no_gate() -> None:
    (found,) = findings(stated("weight exp(old_logp - rollout_logp)"), "FIB605")
    assert found.message.startswith("weight times surrogate has no upper bound")
    assert (found.help or "").startswith("hold it by `min`, `clip` or `truncate`")
    held = stated("weight truncate(exp(old_logp - rollout_logp), 2)")
    assert findings(held, "FIB605") == []


def test_without_a_gate_there_is_none_to_point_at() -> None:
    (found,) = findings(stated("surrogate ratio", at=""), "FIB605")
    assert found.labels == ()
    (found,) = findings(stated("surrogate gated_ratio", at="at token { base pass }"), "FIB605")
    assert [label.text for label in found.labels] == ["lets `token` through"]


@pytest.mark.parametrize("surrogate", ["stopgrad(gated_ratio)", "old_prob"])
def test_a_surrogate_without_a_gradient_is_not_blamed_on_gates(surrogate: str) -> None:
    (found,) = findings(stated(f"surrogate {surrogate}"), "FIB614")
    assert found.message == "nothing that is added up has a gradient, so the loss has none"
    assert "`stopgrad`" in (found.help or "")
    assert findings(stated(f"surrogate {surrogate} penalty k2(log_ratio)"), "FIB614") == []


# --- FIB617 advantage-twice, FIB618 negative-weight, FIB619 idle-penalty ------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "surrogate ratio * advantage",
        "surrogate gated_ratio * abs(advantage)",
        "surrogate { ratio * advantage when advantage > 0; ratio otherwise; }",
        "let twice = ratio * advantage surrogate clip(twice, -1, 1)",
        "weight max(advantage, 0)",
    ],
)
def test_more_than_the_sign_of_the_advantage(statement: str) -> None:
    (found,) = findings(stated(statement), "FIB617")
    assert found.message.startswith("the weight has" if "weight" in statement else "the surrogate")


@pytest.mark.parametrize(
    "statement",
    [
        "surrogate by_advantage(min(ratio, 2), ratio)",
        "surrogate { 2 * ratio when advantage > 0.5; ratio otherwise; }",
        "surrogate ratio * sign(advantage)",
        "surrogate ratio * mean(advantage over trajectory)",
        "weight by_advantage(1, 0.5)",
        "penalty 0.1 * k2(log_ratio) * abs(advantage)",
    ],
)
def test_617_near_misses(statement: str) -> None:
    assert findings(stated(statement), "FIB617") == []


@pytest.mark.parametrize(
    ("weight", "range"),
    [
        ("advantage * advantage - 1", "[-1, inf)"),
        ("truncate(old_logp - rollout_logp, 2)", "(-inf, 2]"),
        ("by_advantage(1, 0 - 0.1)", "[-0.1, 1]"),
    ],
)
def test_a_weight_below_0(weight: str, range: str) -> None:
    (found,) = findings(stated(f"weight {weight}"), "FIB618")
    assert found.message == f"the weight can be negative: it is in {range}"


@pytest.mark.parametrize(
    "weight",
    [
        "truncate(exp(old_logp - rollout_logp), 2)",
        "mask(exp(sum(old_logp - rollout_logp over trajectory)), 0.5, 2)",
        "{ 0 when prob < 0.1; 1 otherwise; }",
        "1 - prob",
        "log_ratio * log_ratio",
        "k3(old_logp - rollout_logp)",
    ],
)
def test_618_near_misses(weight: str) -> None:
    assert findings(stated(f"weight {weight}"), "FIB618") == []


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        ("0.1 * k1(ref_logp - logp)", "the penalty's gradient is the same at every token"),
        ("0.1 * (logp - ref_logp)", "the penalty's gradient is the same at every token"),
        ("0.1 * k1(log_ratio)", "the penalty's gradient is the same at every token"),
        ("0 - k3(ref_logp - logp)", "the penalty is never above 0"),
        ("0 - 0.5 * log_ratio * log_ratio", "the penalty is never above 0"),
    ],
)
def test_a_penalty_that_holds_nothing_back(penalty: str, message: str) -> None:
    (found,) = findings(stated(f"penalty {penalty}"), "FIB619")
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    "penalty",
    [
        "0.1 * k2(ref_logp - logp)",
        "0.1 * k3(ref_logp - logp)",
        "0.1 * ratio * k1(logp - ref_logp)",
        "0.1 * stopgrad(k1(ref_logp - logp)) * logp",
        "k2(sum(log_ratio over trajectory))",
        "prob",
    ],
)
def test_619_near_misses(penalty: str) -> None:
    assert findings(stated(f"penalty {penalty}"), "FIB619") == []
