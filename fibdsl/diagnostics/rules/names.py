"""FIB1xx: names and words."""

from __future__ import annotations

from fibdsl.diagnostics.rules.rule import Fix, Rule

_GOOD = """\
objective o {
  param epsilon : deviation = 0.2 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(epsilon) pessimistic }
  reduce mean over token
}
"""

RULES = (
    Rule(
        "FIB101",
        "unknown-name",
        "a name that is not declared here",
        why="A budget by a name that nothing declares has no value. In a Python config such a typo "
        "is a new key that nobody reads.",
        example=_GOOD.replace("clip(epsilon)", "clip(epsilom)"),
        mended=_GOOD,
    ),
    Rule(
        "FIB102",
        "unknown-gate",
        "a gate or modifier the language does not have",
        why="What the gate does to a ratio is not known, so there is no loss. Define it in "
        "the file, `gate NAME(x, C) { ... }`, or `use` one that has it.",
        example=_GOOD.replace("clip(", "clamp("),
        mended=_GOOD,
    ),
    Rule(
        "FIB103",
        "duplicate",
        "a statement or name that may stand only once",
        why="Of two that contradict each other one would silently lose.",
        example=_GOOD.replace(
            "mean over token\n", "mean over token\n  reduce mean over trajectory, mean over token\n"
        ),
        mended=_GOOD,
    ),
    Rule(
        "FIB104",
        "reserved-name",
        "a name the language keeps for itself",
        why="`k`, `size`, `inf`, `ratio`, `advantage` and others mean something where they stand, "
        "and so do the gates of the language; a parameter, a level, a `let` or a gate of that name "
        "would be two things.",
        example=_GOOD.replace("epsilon", "k"),
        mended=_GOOD,
    ),
    Rule(
        "FIB105",
        "missing-statement",
        "a statement every objective needs",
        why="Signal, levels, a gate and `reduce` have no default: which one a trainer takes is "
        "what papers and code most often differ in.",
        example=_GOOD.replace("  reduce mean over token\n", ""),
        mended=_GOOD,
    ),
    Rule(
        "FIB106",
        "unknown-word",
        "a word that is not one of the few allowed here",
        why="Signals, channels, spaces and reductions are a short list, and each changes the loss.",
        example=_GOOD.replace("signal ratio", "signal logratio"),
        mended=_GOOD.replace("deviation", "log").replace("signal ratio", "signal log_ratio"),
    ),
    Rule(
        "FIB107",
        "override",
        "a parameter override that names or sets nothing valid",
        why="A value that reaches no parameter changes nothing, and a sweep over it compares a "
        "loss with itself. It is not about a file of objectives: it is found in `--set "
        "NAME=VALUE`, in a file of `--params`, and in the values given to `load` and "
        "`with_params`.",
        fix=Fix.NONE,
    ),
    Rule(
        "FIB108",
        "idle-override",
        "an override that overrides nothing",
        why="In an ablation a statement that replaces nothing, or says what the parent says "
        "anyway, compares an objective with itself, or adds a gate where another was meant to be "
        "replaced.",
        example=_GOOD + "\nobjective b extends o { reduce mean over token }\n",
        mended=_GOOD + "\nobjective b extends o {\n"
        "  # fib: allow[FIB606] as published\n"
        "  reduce mean over trajectory, mean over token\n}\n",
    ),
    Rule(
        "FIB109",
        "unused-let",
        "a `let` that nothing uses",
        why="It was meant to be in a surrogate, a weight or a penalty, and is not.",
        example=_GOOD.replace("  reduce", "  let drift = abs(log_ratio)\n  reduce"),
        mended=_GOOD.replace(
            "  reduce", "  let drift = abs(log_ratio)\n  penalty 0.1 * drift\n  reduce"
        ),
    ),
)
