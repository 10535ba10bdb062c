"""docs/objectives.md, made of the shipped specs; tests/docs keeps the two equal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from fibdsl.shipped import Shipped

Results = Mapping[str, Any]
"""What `make trainers-test` records: `versions` of the trainers, and `cases`, each with `spec`,
`trainer`, `loss`, `setting`, `about`, `note`, `loss_error` and `gradient_error`."""

_INTRODUCTION = """\
# Objectives

Every shipped objective: its formula, what is proved of it, what a batch must bring, how trainers
differ, and how its values and gradients compare with theirs. This page is made of the specs by `fib
specs --markdown --parity tests/trainers/results.json`; it is not edited by hand.

## Notation

The formulas follow from the compiled program and not from the text of a spec: two specs with one
meaning have one formula, up to names of parameters and levels. `fib explain` prints that of any
spec. A token adds `term` to J, and the loss is −J.

- r = π / π_old is the ratio of a token, A its advantage, and G its gated ratio. No gradient flows
  through sg(...). What stands side by side is multiplied.
- mean(e over trajectory) and sum(e over trajectory) are over the tokens of the token's trajectory;
  mean(e over trajectory in group) is over the trajectories of its group, each counting once, and
  n(trajectory in group) is how many these are. S is what the tokens of a cell drift together.
- x± stands for two channels, x⁺ and x⁻: a line with ± is read once with + and once with −.
- clip(x, low, high) = min(max(x, low), high). rollback(x; C, k) is x up to |x| = C, falls beyond
  with slope −k, and is 0 from (1 + 1/k) C on. Of two budgets the first is that for x ≥ 0; in
  channels it is that of x⁺.
- Of several cases the first that holds counts.
"""

_TABLE = """\
## All of them

Lines are counted from the word `objective` to its brace. Proved is what holds of every batch at the
default values: [the properties](language.md#require-assume). `odd`, `restorative` and
`trust_region` speak of G and its gates, whether or not the term has G in it. A `block_diagonal`
over a level implies the coarser ones, which are left out. Parity is the number of comparisons with
the losses of [trainers](#parity).
"""

_PARITY = """\
## Parity

Each case takes a loss of a trainer with options, the objective with the statements that these
options stand for, and a random batch on which every bound is reached on both sides, all in float64.
Errors are relative, of the loss and, at worst, of the gradient of a token, rounded up to a power of
ten; beyond log-ratios of 20 that of the gradient is relative to the largest. Notes say where a
trainer does something else than its options or its paper say.
"""

_MARKS = ("proved", "refuted", "unknown")


def page(objectives: Iterable[Shipped], results: Results | None = None) -> str:
    """The page of these objectives, in Markdown: a table, then a section each.

    Args:
        results: how they compare with trainers; without, there are dashes.
    """
    objectives = list(objectives)
    cases: Sequence[Mapping[str, Any]] = [] if results is None else results["cases"]
    parts = [_INTRODUCTION.rstrip(), _TABLE.rstrip()]
    for family, members in groupby(objectives, key=lambda o: o.family):
        rows = [_row(o, [c for c in cases if c["spec"] == o.name]) for o in members]
        head = "| objective | paper | lines | term | proved | parity |\n|---|---|---|---|---|---|"
        parts += [f"### {family.capitalize()}", "\n".join([head, *rows])]
    parts += _parity(results)
    for objective in objectives:
        parts += _section(objective, [c for c in cases if c["spec"] == objective.name], cases)
    return "\n\n".join(parts) + "\n"


# --- the table ----------------------------------------------------------------------------------


def _row(o: Shipped, cases: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        f"[`{o.name}`](#{o.name})",
        o.paper,
        str(o.lines),
        "<br>".join(_code(line) for line in _formula(o)),
        ", ".join(_strongest(o)) or "–",
        _counted(cases),
    ]
    return f"| {' | '.join(cells)} |"


def _formula(o: Shipped) -> Iterator[str]:
    """The term on a line, then what it is made of, but for aggregates and channels."""
    *others, term = o.formula.definitions
    yield term.right
    for d in others:
        if not d.name.startswith(("S", "x")):
            yield str(d)


def _strongest(o: Shipped) -> Iterator[str]:
    """What is proved; of the levels that tokens are independent over, the finest."""
    diagonal = False
    for promise in _of(o, "proved"):
        if promise.startswith("block_diagonal"):
            if diagonal:
                continue
            diagonal = True
        yield promise


def _of(o: Shipped, status: str) -> list[str]:
    return [promise for promise, found in o.properties.items() if found == status]


def _counted(cases: Sequence[Mapping[str, Any]]) -> str:
    trainers = list(dict.fromkeys(case["trainer"] for case in cases))
    counts = (f"{_named(t)} {sum(case['trainer'] == t for case in cases)}" for t in trainers)
    return ", ".join(counts) or "–"


# --- sections -----------------------------------------------------------------------------------


def _section(
    o: Shipped, cases: Sequence[Mapping[str, Any]], of_all: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    yield f"## {o.name}"
    yield textwrap.fill(f"{o.title} ({o.paper}).", 100)
    yield textwrap.fill(o.comment, 100)
    yield "```text\n" + "\n".join(o.formula.lines) + "\n```"
    yield "\n".join(_item(text) for text in _facts(o))
    if cases:
        yield _compared(cases, of_all)


def _facts(o: Shipped) -> Iterator[str]:
    extends = f", extends [`{o.parent}`](#{o.parent})" if o.parent else ""
    yield f"**Lines**: {o.lines}{extends}"
    params = (f"`{p.name}` = {p.default:g}, {p.space} in {p.range}" for p in o.objective.declared)
    yield f"**Parameters**: {'; '.join(params) or 'none'}"
    yield f"**A batch brings**: {', '.join(_brought(o)) or 'nothing besides what every batch has'}"
    for status in _MARKS:
        if found := _of(o, status):
            yield f"**{status.capitalize()}**: {', '.join(f'`{p}`' for p in found)}"


def _brought(o: Shipped) -> Iterator[str]:
    """What a batch has besides logp, old_logp, advantages and mask."""
    for level in o.objective.typed.levels:
        if level.key:
            yield f'`keys["{level.key}"]` (the {level.name} of a token)'
    for tensor in o.objective.tensors:
        yield f"`{tensor}`"


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", 100, subsequent_indent="  ", break_on_hyphens=False)


# --- parity -------------------------------------------------------------------------------------


def _parity(results: Results | None) -> Iterator[str]:
    yield _PARITY.rstrip()
    if results is None:
        yield "Nothing is recorded here."
        return
    versions = [f"{_named(name)} {version}" for name, version in results["versions"].items()]
    yield f"{len(results['cases'])} cases, with {', '.join(versions)}."


def _compared(cases: Sequence[Mapping[str, Any]], of_all: Sequence[Mapping[str, Any]]) -> str:
    rows = ["| trainer | loss | setting | loss error | gradient error | note |"]
    rows.append("|---|---|---|---|---|---|")
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for case in cases:
        key = case["trainer"], case["loss"], case["about"]
        groups.setdefault(key, []).append(case)
    for (trainer, loss, about), found in groups.items():
        every = {case["setting"] for case in of_all if case["trainer"] == trainer}
        settings = list(dict.fromkeys(case["setting"] for case in found))
        setting = f"all {len(every)}" if set(settings) == every else ", ".join(settings)
        said = [note for case in found for note in case["note"].split("; ") if note]
        notes = "; ".join(dict.fromkeys(said))
        errors = (max(case[f"{what}_error"] for case in found) for what in ("loss", "gradient"))
        cells = [_named(trainer), f"`{loss}`", setting + (f"; {about}" if about else "")]
        cells += [f"{error:.0e}".replace("e-0", "e-") for error in errors]
        rows.append(f"| {' | '.join([*cells, notes])} |".replace("|  |", "| |"))
    return "\n".join(rows)


def _named(trainer: str) -> str:
    return "TRL" if trainer == "trl" else trainer


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"
