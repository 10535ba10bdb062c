"""What `fib explain` says of an objective, as data (and so as JSON) and as a table."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from fibc.analysis.facts import Facts
from fibc.analysis.regimes import Regime, regimes
from fibc.analysis.survey import Extent, Surveyed, extents, survey
from fibc.cells import named_values
from fibc.formula.formula import formula
from fibdsl.objective import Objective
from fibdsl.parameters import shown_values
from fibdsl.report import shown_budgets


class RegimeReport(BaseModel):
    """One piece of a gate, for inputs of one sign. `inputs` and `slope` are formulas in |x|, the
    magnitude of what the gate sees, and k."""

    model_config = ConfigDict(frozen=True)

    level: str
    channel: str
    sign: str
    advantage: str
    regime: str
    inputs: str
    slope: str
    restorative: bool
    reach: str


class PropertyReport(BaseModel):
    """One property: what is known at the parameter values and over their ranges."""

    model_config = ConfigDict(frozen=True)

    property: str
    status: str
    status_over_ranges: str
    reason: str
    witness: str | None
    witness_file: str | None = None


class RangeReport(BaseModel):
    """The range of G for one sign of the advantage; `exact` if batches reach both ends. Infinite
    ends are None."""

    model_config = ConfigDict(frozen=True)

    advantage: str
    low: float
    high: float | None
    exact: bool


class Explanation(BaseModel):
    """An objective, explained. `formula` is text, line by line; `budgets` are those of named cells,
    by level and name."""

    model_config = ConfigDict(frozen=True)

    objective: str
    doc: str
    spec: str
    semantic_hash: str
    params: dict[str, float]
    step: int | None = None
    levels: list[str]
    keys: list[str]
    budgets: dict[str, dict[str, float]] = {}
    formula: list[str]
    regimes: list[RegimeReport]
    gated_ratio: list[RangeReport]
    properties: list[PropertyReport]


def explain(
    objective: Objective, step: int | None = None
) -> tuple[Explanation, tuple[Surveyed, ...]]:
    """Everything that can be proved or shown of an objective at its parameter values, which are
    those of a step if one is given, and the verdicts with their witnesses."""
    facts = Facts.at(objective.typed, objective.params)
    verdicts = survey(facts)
    return (
        Explanation(
            objective=objective.name,
            doc=objective.doc,
            spec=objective.checked.source.path,
            semantic_hash=objective.semantic_hash,
            params=dict(objective.params),
            step=step,
            levels=list(objective.typed.level_names),
            keys=list(objective.keys),
            budgets={
                level: named_values(budget, objective.params)
                for level, budget in objective.program.budgets.items()
            },
            formula=formula(objective.program).lines,
            regimes=[_regime(r) for r in regimes(facts)],
            gated_ratio=[_range(e) for e in extents(facts)],
            properties=[_property(s) for s in verdicts],
        ),
        verdicts,
    )


def _regime(r: Regime) -> RegimeReport:
    return RegimeReport(
        level=r.level,
        channel=r.channel,
        sign=r.sign,
        advantage=r.advantage,
        regime=r.name,
        inputs=r.inputs,
        slope=r.slope,
        restorative=r.restorative,
        reach=r.reach,
    )


def _range(e: Extent) -> RangeReport:
    high = None if e.high == float("inf") else e.high
    return RangeReport(advantage=e.advantage, low=e.low, high=high, exact=e.exact)


def _property(s: Surveyed) -> PropertyReport:
    witness = s.at_values.witness
    return PropertyReport(
        property=s.promise,
        status=s.at_values.status,
        status_over_ranges=s.over_ranges.status,
        reason=s.at_values.reason,
        witness=witness.shows if witness else None,
    )


# --- for people ---------------------------------------------------------------------------------


def table(e: Explanation) -> str:
    """The explanation as text."""
    params = shown_values(e.params, e.step)
    lines = [
        f"{e.objective}  ({e.spec})",
        *([f"  {e.doc}"] if e.doc else []),
        "",
        f"  params    {params}",
        f"  levels    {' < '.join(e.levels)}",
        *(f"  budgets   {level}: {shown_budgets(named)}" for level, named in e.budgets.items()),
        f"  semantics {e.semantic_hash}",
        "",
        "formula: r = π / π_old, A is the advantage, no gradient flows through sg",
        *(f"  {line}" for line in e.formula),
        "",
        "gates: x is what a gate sees, k its steepness",
        *_aligned(
            [
                (
                    (r.level + f" {r.channel}").strip(),
                    f"x {'>=' if r.sign == '+' else '<'} 0"
                    + (f", A {r.advantage}" if r.advantage else ""),
                    r.regime,
                    r.inputs,
                    f"slope {r.slope}",
                    "pulls back" if r.restorative else "",
                    "" if r.reach == "reachable" else r.reach,
                )
                for r in e.regimes
            ]
        ),
        "",
        "gated ratio G",
        *_aligned(
            [
                (
                    f"where A {r.advantage}",
                    f"in [{r.low:.6g}, {'inf' if r.high is None else format(r.high, '.6g')}]",
                    "exact" if r.exact else "not known to be exact",
                )
                for r in e.gated_ratio
            ]
        ),
        "",
        "properties",
        *_aligned(
            [
                ("", "at these values", "over the ranges", ""),
                *((p.property, p.status, p.status_over_ranges, _because(p)) for p in e.properties),
            ]
        ),
    ]
    lines += [
        f"  witness of {p.property}: {p.witness_file}" for p in e.properties if p.witness_file
    ]
    return "\n".join(lines)


def _because(p: PropertyReport) -> str:
    return p.witness if p.status == "refuted" and p.witness else p.reason


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{c:<{w}}" for c, w in zip(row, columns, strict=True)).rstrip()
        for row in rows
    ]
