"""What `fib eval` says, as data (and so as JSON) and as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict

from fibc.cells import named_values
from fibdsl.evaluation import Evaluation
from fibdsl.objective import Objective
from fibdsl.parameters import shown_values
from fibdsl.types import TOKEN


class GateReport(BaseModel):
    """One gate in one sign channel: the share of non-empty cells in each regime."""

    model_config = ConfigDict(frozen=True)

    sign: str
    regimes: dict[str, float]


class LevelReport(BaseModel):
    """One level: how many cells, how far they drifted (nats, or r - 1), what its gate did.
    `budgets` are those of its cells that the spec names, `else` of all others; None where it has
    none, or the batch has brought them."""

    model_config = ConfigDict(frozen=True)

    level: str
    key: str | None
    cells: int
    drift: dict[str, float]
    role: str | None
    gate: str | None
    budgets: dict[str, float] | None = None
    channels: list[GateReport]


class EvalReport(BaseModel):
    """The reference's verdict on one batch."""

    model_config = ConfigDict(frozen=True)

    objective: str
    spec: str
    params: dict[str, float]
    step: int | None = None
    tokens: int
    trajectories: int
    loss: float
    gradient_norm: float
    levels: list[LevelReport]
    metrics: dict[str, float]


def report(
    objective: Objective,
    sizes: dict[str, int],
    evaluation: Evaluation,
    step: int | None = None,
    given: Collection[str] = (),
) -> EvalReport:
    """Collects what a batch did to an objective, whose values are those of a step if one is given;
    levels from the coarsest to the token. At the levels `given` it has brought the budgets."""
    named = {
        level: named_values(budget, objective.params)
        for level, budget in objective.program.budgets.items()
        if level not in given
    }
    metrics = evaluation.metrics
    levels = []
    for level in reversed(objective.typed.levels):
        gate = objective.typed.gates.get(level.name)
        channels = []
        for sign in ("plus", "minus"):
            stem = f"regime/{level.name}/{sign}/"
            regimes = {k.removeprefix(stem): v for k, v in metrics.items() if k.startswith(stem)}
            if regimes:
                channels.append(GateReport(sign=sign, regimes=regimes))
        drift_stem = f"drift/{level.name}"
        levels.append(
            LevelReport(
                level=level.name,
                key=level.key,
                cells=sizes[level.name],
                drift={
                    k.removeprefix(drift_stem).lstrip("/") or "net": v
                    for k, v in metrics.items()
                    if k == drift_stem or k.startswith(drift_stem + "/")
                },
                role=gate.role if gate else None,
                gate=gate.rule.name if gate else None,
                budgets=named.get(level.name),
                channels=channels,
            )
        )
    return EvalReport(
        objective=objective.name,
        spec=objective.checked.source.path,
        params=dict(objective.params),
        step=step,
        tokens=sizes[TOKEN],
        trajectories=sizes["trajectory"],
        loss=evaluation.loss,
        gradient_norm=float((evaluation.gradient**2).sum() ** 0.5),
        levels=levels,
        metrics=metrics,
    )


def table(result: EvalReport) -> str:
    """The report for people."""
    params = shown_values(result.params, result.step)
    lines = [
        f"{result.objective}  ({result.spec})",
        f"  params         {params}",
        f"  batch          {_number(result.trajectories, 'trajectory', 'trajectories')}, "
        f"{_number(result.tokens, 'token', 'tokens')}",
        f"  loss           {result.loss:.9g}",
        f"  gradient norm  {result.gradient_norm:.6g}",
        "",
        f"  {'level':<12}{'cells':>7}  {'gate':<16}{'sign':<7}{'drift':>10}"
        "   regimes, share of cells",
    ]
    for level in result.levels:
        gate = f"{level.role} {level.gate}" if level.gate else "-"
        signs = [c.sign for c in level.channels] or list(level.drift)
        for position, sign in enumerate(signs):
            regimes = next((c.regimes for c in level.channels if c.sign == sign), {})
            shares = "  ".join(f"{name} {share:6.1%}" for name, share in regimes.items())
            drift = level.drift.get(sign, level.drift.get("net", 0.0) if position == 0 else None)
            first = position == 0
            lines.append(
                f"  {level.level if first else '':<12}{level.cells if first else '':>7}  "
                f"{gate if first else '':<16}{sign:<7}"
                + (f"{drift:>10.5f}" if drift is not None else " " * 10)
                + f"   {shares}".rstrip()
            )
    lines.append("")
    for level in result.levels:
        if level.budgets is not None:
            lines.append(f"  {level.level + ' budgets':<18}{shown_budgets(level.budgets)}")
    for name, value in result.metrics.items():
        if not name.startswith(("regime/", "drift/")):
            lines.append(f"  {name:<17} {value:.6g}")
    return "\n".join(lines)


def shown_budgets(budgets: Mapping[str, float]) -> str:
    """Budgets of named cells in a line."""
    return ", ".join(f"{name} {value:g}" for name, value in budgets.items())


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
