"""Wrong specs: what `fib check` prints for each is its golden; `--update-goldens` rewrites them."""

from pathlib import Path

import pytest

import fibdsl
from fibc import driver
from fibdsl.cli.main import main
from fibdsl.diagnostics.catalogue import catalogue
from fibdsl.diagnostics.diagnostic import Diagnostic
from fibdsl.diagnostics.rules import Severity
from fibdsl.source import Source

BAD = Path(__file__).parent / "bad"
NAMES = sorted(path.stem for path in BAD.glob("*.fib"))

NOT_OF_A_FILE = {
    "FIB107": "an override that names no parameter: test_an_override_is_checked",
}


def text_of(name: str) -> str:
    return (BAD / f"{name}.fib").read_text(encoding="utf-8")


def findings(text: str, name: str = "<string>") -> tuple[Diagnostic, ...]:
    """What is found in a text, as if it stood in the bad spec of that name, beside what it uses."""
    return driver.check(Source(str(BAD / f"{name}.fib"), text)).diagnostics


def errors(text: str, name: str) -> set[str]:
    return {d.message for d in findings(text, name) if d.severity is Severity.ERROR}


@pytest.mark.parametrize("name", NAMES)
def test_golden(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(BAD)
    status = main(["check", f"{name}.fib"])
    output = f"{capsys.readouterr().out}exit status: {status}\n"
    golden = BAD / f"{name}.golden"
    if request.config.getoption("--update-goldens"):
        golden.write_text(output, encoding="utf-8")
    assert output == golden.read_text(encoding="utf-8")


def test_every_golden_has_its_spec() -> None:
    assert sorted(path.stem for path in BAD.glob("*.golden")) == NAMES


def test_every_rule_has_a_bad_spec() -> None:
    covered = {finding.code for name in NAMES for finding in findings(text_of(name), name)}
    assert covered == catalogue().keys() - NOT_OF_A_FILE.keys()


# What to find where, counted by hand in the files.
AT = [
    ("syntax_text_not_closed", 4, 10, 'this `"` opens a text that is not closed on its line'),
    ("syntax_not_ascii", 4, 10, "the language does not use `ε`"),
    ("syntax_param_colon", 4, 17, "a `:` is missing"),
    ("syntax_levels_dangling", 7, 17, "a level is missing after `<`"),
    ("syntax_gate_not_closed", 9, 31, "a `,` or a `)` is missing"),
    (
        "syntax_budget_arithmetic",
        11,
        52,
        "this `-` reads as arithmetic, but a signed budget ends at the next `,` or `)`",
    ),
    ("syntax_reduce_comma_trailing", 11, 31, "a step of `reduce` is missing"),
    ("syntax_objective_not_closed", 11, 47, "the objective before is not closed"),
    (
        "syntax_extend",
        3,
        13,
        "an objective is said to build on another by `extends`, not by `extend`",
    ),
    ("syntax_use_unquoted", 2, 4, "the file is missing after `use`"),
    ("syntax_gate_no_parameters", 3, 10, "the parameters of the gate are missing"),
    ("syntax_case_semicolon", 4, 27, "a `;` is missing after the case"),
    ("syntax_case_if_else", 4, 5, "a case has no `if`"),
    ("syntax_case_otherwise_missing", 5, 37, "the last case is missing"),
    ("syntax_case_otherwise_when", 5, 33, "`otherwise` has no condition"),
    ("syntax_condition_chained", 11, 28, "a comparison has two sides"),
    ("syntax_condition_equality", 12, 22, "`=` is no comparison"),
    ("syntax_condition_outside_when", 11, 19, "a condition stands only behind `when`"),
    ("syntax_bars", 11, 16, "bars enclose one name"),
    ("syntax_bypass_colon", 11, 42, "a `:` is missing between the condition and the value"),
    ("syntax_surrogate_nothing", 11, 12, "a number or a name is missing"),
    ("syntax_cells_no_braces", 9, 30, "a `{` is missing"),
    ("syntax_divisor", 11, 50, "a divisor is one number or name, or stands in parentheses"),
    ("name_param_unknown", 9, 24, "unknown name `epsilom`"),
    ("name_gate_unknown", 9, 19, "unknown gate `clipp`"),
    ("level_order", 9, 10, "the chain starts with `trajectory`, but the finest level is `token`"),
    ("level_censor_not_coarser", 7, 36, "`token` is not coarser than `token`"),
    ("space_ratio_in_product", 11, 41, "`ratio(...)` is a bound, not a number to calculate with"),
    ("space_deviation_in_log", 9, 24, "a budget at `token` is a log, and this is a deviation"),
    ("budget_default_outside", 4, 32, "the default 1.2 is not in (0, 1)"),
    ("budget_count_at_token", 12, 47, "a token has no members to count"),
    ("budget_per_cell_name_twice", 12, 43, "a second budget for `math`"),
    ("budget_per_cell_two_else", 12, 43, "a second budget for `else`"),
    ("budget_per_cell_twice", 13, 5, "a second `budget` at `domain`"),
    ("budget_per_cell_not_positive", 12, 29, "this budget is not certainly positive"),
    ("budget_per_cell_space", 13, 29, "a budget at `domain` is a log, and this is a deviation"),
    ("budget_per_cell_in_k", 11, 39, "there is no `budget` here"),
    ("budget_per_cell_of_itself", 12, 35, "there is no `budget` here"),
    ("budget_per_cell_other_level", 14, 35, "there is no `budget` here"),
    ("budget_per_cell_ratio", 12, 35, "the upper bound of a ratio is above 1, and this is 0.9"),
    (
        "budget_per_cell_no_key",
        13,
        5,
        "the cells of `trajectory` have no names, because the level has no key",
    ),
    ("budget_per_cell_unused", 12, 5, "no gate uses the `budget` of `domain`"),
    (
        "require_not_diagonal",
        16,
        3,
        "`block_diagonal` does not hold: the gate at `trajectory` couples the tokens of a whole "
        "`trajectory`",
    ),
    ("require_superfluous_at", 13, 3, "`first_order_agreement` is not written like this"),
    ("require_arguments_superfluous", 16, 3, "`gated_ratio` is not written like this"),
    ("require_at_level_unknown", 16, 26, "unknown level `trajectoy`"),
    ("require_tv_space", 16, 30, "a total variation is a deviation, and this is a log"),
    ("require_tv_negative", 13, 30, "this bound is not certainly positive"),
    (
        "require_too_narrow",  # exp(-0.14), exp(0.24)
        16,
        3,
        "`gated_ratio` does not hold: the gates keep it in [0.869358, 1.27125]",
    ),
    (
        "require_tv_no_censor",  # exp(0.24) - 1
        16,
        3,
        "`trust_region` does not hold: the gates keep |G - 1| at most 0.271249 for each token, and "
        "no `censor` holds its mean over a `trajectory`",
    ),
    (
        "require_odd_refuted",
        16,
        3,
        "`odd` does not hold: the gate at `trajectory` has another budget above than below",
    ),
    (
        "require_bounded_undecided",
        13,
        3,
        "`bounded` could not be proved: a cell of n tokens may spend n times the budget of "
        "`censor` on one of them, so what bounds G grows with the cell",
    ),
    (
        "require_restorative_refuted",
        16,
        3,
        "`restorative` does not hold: `clip` at `token` does not fall beyond its budget",
    ),
    (
        "require_split_refuted",
        13,
        3,
        "`split_invariant` does not hold: a part of a `group` is taken for the whole",
    ),
    ("assume_unknown", 13, 10, "unknown property `boundd`"),
    ("syntax_require_bound", 13, 29, "a bound is missing after `<=`"),
    ("syntax_require_less_than", 13, 27, "a total variation is bounded by `<=`, not by `<`"),
    ("syntax_require_order", 13, 35, "`tv` and its bound stand before `over`"),
    ("syntax_assume_nothing", 13, 9, "a property is missing"),
    ("allow_unused", 9, 49, "no FIB602 is found here"),
    ("allow_unknown_code", 9, 3, "unknown lint `FIB660`"),
    ("lint_unreachable_gate", 7, 14, "no input reaches the lower bound 1.28 of this gate"),
    ("lint_half_overflow", 3, 11, "G can be 1.69e+05, and float16 ends at 65504"),  # exp(12.04)
    ("lint_proved_assumption", 13, 3, "`first_order_agreement` is proved"),
    ("lint_unused_param", 4, 10, "nothing uses the parameter `epsilon`"),
    (
        "lint_token_ratio_sequence_mean",
        11,
        3,
        "this divides by the length of the trajectory, but only single tokens are gated: each "
        "token of a long response counts less",
    ),
    (
        "lint_mean_of_means",
        11,
        3,
        "this is a mean of 3 means: a token counts 1 / (`turn`s of its `trajectory` x `token`s of "
        "its `turn`)",
    ),
    (
        "lint_sequence_budget",  # log 1.28
        10,
        19,
        "a budget of 0.24686 nats is a token's, but here it bounds exp(mean log r) of a whole "
        "sequence, which moves far less",
    ),
    (
        "lint_group_in_trajectory",
        3,
        11,
        "`group` stands below `trajectory`, where ids count within their trajectory: each cell of "
        "`uid` is one whole trajectory",
    ),
    (
        "lint_inverted_pair",
        11,
        14,
        "the upper bound is tighter than the lower one, 0.2 against 0.28",
    ),
    (
        "lint_ratio_as_deviation",
        10,
        14,
        "+1.28 and -0.8 are deviations here: r may be anything from 0.2 to 2.28",
    ),
    ("gate_argument_misspelt", 9, 24, "unknown argument `tua`"),
    ("gate_argument_pair", 9, 24, "`tau` of `soft` is one pure number, and no pair of budgets"),
    ("gate_argument_space", 11, 24, "`tau` of `soft` is a pure number, and this is a deviation"),
    (
        "gate_deviation_in_log",
        9,
        19,
        "`soft` gates a deviation, and the signal here is `log_ratio`",
    ),
    (
        "gate_prob_at_trajectory",
        12,
        25,
        "`spare` looks at `prob` of a token, and stands at `trajectory`",
    ),
    ("gate_size_at_token", 9, 19, "`spread` looks at `size` of a cell, and a token has none"),
    ("gate_name_built_in", 3, 6, "`clip` is a gate of the language"),
    ("gate_defined_twice", 5, 6, "a second gate `held`"),
    (
        "gate_case_value_space",
        5,
        11,
        "a gate gives back what it gates, a deviation, and this is a ratio",
    ),
    (
        "gate_odd_one_side",
        4,
        20,
        "`held` is not seen to be odd: this condition may not be the same for x and -x",
    ),
    ("gate_advantage_compared", 4, 23, "a gate sees the sign of the advantage only"),
    ("gate_aggregate_in_body", 3, 22, "`mean` cannot stand here"),
    ("value_division_range", 11, 19, "`shrink` divides by `s`, which can be 0: it is in [0, 4]"),
    ("value_division_by_x", 3, 38, "this divides by `x`, which can be 0"),
    (
        "value_in_case",
        11,
        9,
        "this takes the log of `1 - 2 * prob`, which can be 0: it is in [0, 1)",
    ),
    ("value_in_sum", 9, 27, "this divides by `log_ratio`, which can be 0"),
    ("expression_function_unknown", 9, 10, "unknown function `cilp`"),
    ("expression_arguments", 9, 10, "`clip` takes 3 arguments, not 2"),
    ("expression_spaces", 11, 21, "`min` puts a ratio and a deviation together"),
    ("expression_spaces_cases", 11, 5, "this choice puts a ratio and a log together"),
    ("expression_aggregate_level", 9, 34, "unknown level `trajectroy`"),
    ("bypass_gated_ratio", 9, 35, "`gated_ratio` cannot stand here"),
    ("bypass_space", 9, 31, "a gated ratio is a ratio, and this is a log"),
    ("let_unused", 9, 7, "nothing uses `drift`"),
    ("let_gated_ratio_in_bypass", 10, 31, "`held` cannot stand here, as it hangs on `gated_ratio`"),
    ("statement_twice", 10, 3, "a second `surrogate`"),
    (
        "after_censor",
        4,
        26,
        "`censor` looks at whole cells, and `after` gates each token by itself",
    ),
    ("reduce_divisor_range", 11, 27, "this divisor is not certainly positive"),
    ("by_advantage_negative", 7, 42, "this budget is not certainly positive"),
    ("extends_shipped_misspelt", 3, 21, "unknown objective `fibrepo`"),
    ("extends_circle", 11, 21, "objectives extend each other in a circle: a -> b -> c -> a"),
    ("extends_same", 19, 3, "this is as in `a`"),
    ("extends_level_no_gate", 19, 6, "`a` has no gate at `group`, so there is nothing to replace"),
    ("extends_waive_nothing", 19, 3, "`a` does not promise `bounded`"),
    ("extends_levels_orphan", 19, 3, "`a` gates `trajectory`, and this chain has no such level"),
    (
        "extends_promise_refuted",
        18,
        11,
        "`restorative at trajectory` does not hold: `clip` at `trajectory` does not fall beyond "
        "its budget",
    ),
    ("use_missing", 3, 1, "there is no file `used/gate.fib`"),
    ("use_outside", 3, 1, "`../../../elsewhere/gates.fib` lies outside the project"),
    (
        "use_circle",
        3,
        1,
        "files use each other in a circle: circle.fib -> circle_back.fib -> circle.fib",
    ),
    ("use_syntax_error", 7, 27, "a `,` or a `)` is missing"),
    ("use_gates_clash", 4, 1, "this brings a second gate `box`, which is another one"),
]


@pytest.mark.parametrize(("name", "line", "column", "message"), AT)
def test_place_and_message(name: str, line: int, column: int, message: str) -> None:
    first = findings(text_of(name), name)[0]
    assert (first.line, first.column, first.message) == (line, column, message)


# The mend a help text proposes, made in the file, takes its error away and brings no other.
MENDS = [
    ("syntax_text_not_closed", "is 0.2\n", 'is 0.2"\n'),
    ("syntax_levels_dangling", "token <", "token"),
    ("syntax_sign_after_operator", "epsilon * -1", "epsilon * (-(-1))"),
    ("syntax_budget_no_comma", "+c_plus - c_minus", "+c_plus, -c_minus"),
    ("syntax_budget_arithmetic", "-c_minus - 0.01", "-(c_minus + 0.01)"),
    ("syntax_base_missing", "{ clip", "{ base clip"),
    ("syntax_gate_outside_at", "base clip(epsilon) pessimistic", "at token { base clip(epsilon) }"),
    ("syntax_brace_too_many", "pessimistic } }", "pessimistic }"),
    ("syntax_reduce_comma_missing", "trajectory mean", "trajectory, mean"),
    ("syntax_bypass_value", "< 0 :\n", "< 0 : 3\n"),
    ("syntax_case_else", "else", "otherwise"),
    ("syntax_condition_chained", "0 < advantage < 1", "0 < advantage and advantage < 1"),
    ("syntax_surrogate_nothing", "surrogate\n", "surrogate gated_ratio\n"),
    ("syntax_weight_assign", "weight =", "weight"),
    ("syntax_weight_braces", "{ 0.5 }", "0.5"),
    ("name_gate_unknown_coarse", "roll_back", "rollback"),
    ("name_reserved", "size : pure", "scale : pure"),
    ("level_fiber_missing", "  at token", "  at trajectory { fiber pass }\n  at token"),
    ("level_censor_not_coarser", "over token)", "over state)"),
    ("space_ratio_in_product", "+0.5 * ratio(1.2)", "+ratio(1 + 0.2)"),
    ("budget_ratio_range", "in (0, 2)", "in (1, 2)"),
    ("budget_closed_range", "[0, 1]", "(0, 1)"),
    ("budget_rollback_at_token", "rollback(epsilon)", "rollback(epsilon, k = 8)"),
    ("budget_per_cell_two_else", ", else: 0.2", ""),
    ("budget_per_cell_in_k", "k = budget", "k = 2"),
    ("budget_per_cell_space", "else: factor", "else: 0.1"),
    ("require_not_diagonal", "over token\n}", "over trajectory\n}"),
    ("require_pass_not_diagonal", "trajectory { base pass }\n  at token { fiber", "token { base"),
    ("require_too_narrow", "[0.9, 1.1]", "[0.8, 1.3]"),
    ("require_tv_no_censor", "tv <= 0.05", "tv <= 0.28"),
    ("require_tv_refuted", "delta / 2 over", "delta over"),
    ("require_odd_refuted", "rollback(+c_plus, -c_minus)", "rollback(c_plus)"),
    ("require_bounded_refuted", " pessimistic", ""),
    ("require_bounded_undecided", "require bounded", "require trust_region tv <= delta"),
    ("require_undecided", "require gated_ratio", "assume gated_ratio"),
    ("require_at_ungated", "at group", "at trajectory"),
    ("require_restorative_refuted", "fiber clip(epsilon)", "fiber rollback(epsilon, k = 8)"),
    (
        "require_split_refuted",
        "  at group      { base  rollback(+0.08, -0.05) }\n  at trajectory { fiber",
        "  at trajectory { base",
    ),
    ("require_tv_space", "tv <= c_plus", "tv <= 0.3"),
    ("assume_refuted", "  assume bounded\n", ""),
    ("syntax_require_at_level", "restorative at", "restorative at trajectory"),
    ("syntax_require_bound", "tv <=", "tv <= 0.1"),
    ("syntax_require_order", "over state tv <= 0.1", "tv <= 0.1 over state"),
    ("syntax_require_two_levels", ", group", "\n  require block_diagonal over group"),
    ("syntax_assume_require", "require assume", "assume"),
    ("gate_argument_misspelt", "tua", "tau"),
    ("gate_argument_pair", "+1, -2", "1"),
    ("gate_number_by_place", "epsilon, 2", "epsilon, s = 2"),
    ("gate_prob_at_trajectory", "{ base  spare(0.1) }", "{ base  clip(0.1) }"),
    ("gate_value_square", "x - x * x", "x - x * x / C"),
    ("gate_value_ratio", "(1 + x) }", "(1 + x) - 1 }"),
    ("gate_odd_one_side", "when x <= C", "when |x| <= C"),
    ("gate_advantage_compared", "advantage > C", "advantage > 0"),
    ("gate_default_negative", "= -0.2", "= 0.2"),
    ("value_division_range", "[0, 4]", "(0, 4]"),
    ("value_division_by_parameter", "s : pure = 2", "s : pure = 2 in [1, 4]"),
    ("value_root_negative", "sqrt(x / C)", "sqrt(max(x / C, 1e-8))"),
    ("value_case_excludes_too_little", "x < 0", "x <= 0"),
    ("value_log_of_one_less", "log(1 - prob)", "log(max(1 - prob, 1e-8))"),
    ("expression_spaces_compare", "log_ratio > upper", "log_ratio > log(upper)"),
    ("expression_k3_of_ratio", "k3(ratio)", "k3(log(ratio))"),
    ("expression_exp_of_ratio", "exp(ratio)", "ratio"),
    ("expression_aggregate_no_over", "mean(log_ratio)", "mean(log_ratio over trajectory)"),
    ("bypass_space", ": log_ratio", ": exp(log_ratio)"),
    ("reduce_divisor_range", "pure = 64", "pure = 64 in [1, inf)"),
    ("extends_shipped_unused", "objective b", 'use "fibdsl:fiberpo.fib"\n\nobjective b'),
    ("extends_waive_arguments", "restorative at token", "restorative at trajectory"),
    ("extends_promise_refuted", "  at trajectory { base clip(0.1) }\n", "  waive restorative\n"),
    (
        "extends_levels_promise",
        "  levels token < trajectory\n}",
        "  waive block_diagonal over group\n  levels token < trajectory\n}",
    ),
    ("use_missing", "gate.fib", "gates.fib"),
    ("use_shipped_bare", "fiberpo.fib", "fibdsl:fiberpo.fib"),
]


@pytest.mark.parametrize(("name", "wrong", "right"), MENDS)
def test_the_help_mends(name: str, wrong: str, right: str) -> None:
    text = text_of(name)
    assert wrong in text
    assert errors(text.replace(wrong, right, 1), name) < errors(text, name)


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"epsilom": 0.1}, "FIB107", "objective `ppo` has no parameter `epsilom`"),
        ({"epsilon": "a lot"}, "FIB107", "`epsilon` is a number, not 'a lot'"),
        ({"epsilon": 1.5}, "FIB403", "epsilon = 1.5 is not in (0, 1)"),
    ],
)
def test_an_override_is_checked(values: dict[str, float], code: str, message: str) -> None:
    with pytest.raises(fibdsl.FibError) as caught:
        fibdsl.load("ppo").with_params(**values)
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.message) == (code, message)
    assert finding.severity is Severity.ERROR


def test_an_override_cannot_break_a_promise() -> None:
    with pytest.raises(fibdsl.FibError) as caught:
        fibdsl.load("fiberpo").with_params(epsilon=0.5)
    assert [d.code for d in caught.value.diagnostics] == ["FIB501"]


# --- several files -------------------------------------------------------------------------------


def test_an_error_of_a_used_file_is_of_that_file() -> None:
    for name, path in [
        ("use_syntax_error", "used/syntax_error.fib"),
        ("use_wrong_gate", "used/wrong_gate.fib"),
        ("use_wrong_objective", "used/wrong_objective.fib"),
        ("use_circle", "used/circle_back.fib"),
    ]:
        (finding,) = findings(text_of(name), name)
        assert finding.source.path == str(BAD / path)


def test_what_is_not_used_of_a_file_may_be_wrong() -> None:
    text = text_of("use_wrong_objective")
    own = text_of("use_missing").replace("used/gate.fib", "used/wrong_objective.fib")
    assert findings(own, "use_wrong_objective") == ()
    assert findings(text, "use_wrong_objective") != ()


def test_used_files_by_themselves() -> None:
    for name in ("gates", "other_gates", "promises"):
        path = BAD / "used" / f"{name}.fib"
        assert driver.check(Source(str(path), path.read_text(encoding="utf-8"))).diagnostics == ()


# --- `assume` -----------------------------------------------------------------------------------


def test_an_assumption_may_stay_undecided_but_not_be_refuted() -> None:
    undecided = text_of("require_undecided")
    assert [d.code for d in findings(undecided)] == ["FIB502"]
    assert findings(undecided.replace("require", "assume")) == ()
    refuted = text_of("require_bounded_refuted")
    for text in (refuted, refuted.replace("require", "assume")):
        (finding,) = findings(text)
        assert (finding.code, finding.severity) == ("FIB501", Severity.ERROR)
        assert finding.witness is not None


# --- `# fib: allow[...]` ------------------------------------------------------------------------


def test_an_error_cannot_be_allowed() -> None:
    assert {d.code for d in findings(text_of("allow_error"))} == {"FIB501", "FIB699"}


def test_an_allowance_without_a_reason_allows_nothing() -> None:
    text = text_of("allow_no_reason")
    assert [d.code for d in findings(text)] == ["FIB606", "FIB699"]
    assert findings(text.replace("[FIB606]", "[FIB606] as published")) == ()


def test_an_allowance_is_about_one_line() -> None:
    text = text_of("allow_wrong_line")
    assert [d.code for d in findings(text)] == ["FIB698", "FIB606"]
    comment = "  # fib: allow[FIB606] GRPO as published\n"
    moved = text.replace(comment, "").replace("  reduce", f"{comment}  reduce")
    assert findings(moved) == ()
    # Comments and empty lines may stand between.
    assert findings(moved.replace(comment, f"{comment}  # See section 3.\n\n")) == ()
