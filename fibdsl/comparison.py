"""What `fib diff` says of two specs, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fibc.analysis.compare import Change, Comparison, compare
from fibc.analysis.facts import Facts
from fibc.driver import Checked
from fibdsl.diagnostics.errors import FibError
from fibdsl.diagnostics.rules import PROMISES
from fibdsl.objective import Objective
from fibdsl.parameters import Assignment, shown_values


@dataclass(frozen=True)
class ObjectiveDiff:
    """One objective of two files. `objective` is its name, OLD -> NEW if it was renamed; `values`
    are those at which both are compared, where these are not their defaults."""

    objective: str
    old: str
    new: str
    comparison: Comparison
    witness_file: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    def with_file(self, path: str | None) -> ObjectiveDiff:
        return replace(self, witness_file=path)

    def as_data(self) -> dict[str, Any]:
        """For JSON: names, the verdict, and every line of difference."""
        c = self.comparison
        return {
            "objective": self.objective,
            "old": self.old,
            "new": self.new,
            "values": dict(self.values),
            "change": str(c.change),
            "where": list(c.where),
            "interface": list(c.interface),
            "metrics": list(c.metrics),
            "promises": list(c.promises),
            "witness": c.witness.shows if c.witness else None,
            "witness_file": self.witness_file,
        }


def diff_files(
    pairs: Sequence[tuple[Checked, Checked]], assignment: Assignment, step: int | None = None
) -> list[ObjectiveDiff]:
    """The objectives of two files, for each pair of them, by name; where each file has one,
    whatever their names.

    Args:
        assignment: values for every objective that declares them; the others have their defaults.
        step: of the schedules among these; None: 0.

    Raises:
        FibError: a file has errors, other than broken promises, or a value does not fit. An old
            file without a text has no objectives and no errors.
        ValueError: a step without schedules.
    """
    files = [checked for pair in pairs for checked in pair]
    errors = [
        d
        for checked in files
        if checked.source.text
        for d in checked.diagnostics
        if d.severity == "error" and d.code not in PROMISES
    ]
    if errors:
        raise FibError(errors)
    objectives = [Objective(c, o, o.defaults, False) for c in files for o in c.objectives]
    if not assignment.empty:
        objectives = assignment.applied(objectives)
    if step is not None:
        if not any(o.schedules for o in objectives):
            raise ValueError("--step has no effect: no parameter has a schedule")
        objectives = [o.at_step(step) if o.schedules else o for o in objectives]
    return [diff for old, new in pairs for diff in _files(old, new, objectives)]


def _files(old: Checked, new: Checked, objectives: Sequence[Objective]) -> list[ObjectiveDiff]:
    before = {o.name: o for o in objectives if o.checked is old}
    after = {o.name: o for o in objectives if o.checked is new}
    if len(before) == len(after) == 1:
        pairs = [(next(iter(before.values())), next(iter(after.values())))]
    else:
        pairs = [(before[name], after[name]) for name in before if name in after]
    compared = [_pair(a, b) for a, b in pairs]
    seen_old, seen_new = {a.name for a, _ in pairs}, {b.name for _, b in pairs}
    gone = [_alone(name, "- objective", old, new) for name in before if name not in seen_old]
    fresh = [_alone(name, "+ objective", old, new) for name in after if name not in seen_new]
    return [*compared, *gone, *fresh]


def _pair(a: Objective, b: Objective) -> ObjectiveDiff:
    name = a.name if a.name == b.name else f"{a.name} -> {b.name}"
    comparison = compare(Facts.at(a.typed, a.params), Facts.at(b.typed, b.params))
    paths = a.checked.source.path, b.checked.source.path
    values = {n: v for o in (a, b) for n, v in o.params.items() if v != o.typed.defaults[n]}
    return ObjectiveDiff(name, *paths, comparison, values=values)


def _alone(name: str, what: str, old: Checked, new: Checked) -> ObjectiveDiff:
    comparison = Comparison(Change.INTERFACE, interface=(f"{what} {name}",))
    return ObjectiveDiff(name, old.source.path, new.source.path, comparison)


_MEANING: Mapping[Change, str] = {
    Change.VALUE: "the loss changes",
    Change.GRADIENT: "the gradient changes; the loss was the same on every batch tried",
    Change.UNKNOWN: "not known to be the same, and no batch tried shows a difference",
    Change.INTERFACE: "the loss is the same at the {values} values",
    Change.METRICS: "the loss is the same",
    Change.SAME: "nothing changes",
}


def table(d: ObjectiveDiff) -> str:
    """The comparison as text."""
    c = d.comparison
    added = c.interface and c.interface[0].lstrip("+- ").startswith("objective")
    meaning = "" if added else _MEANING[c.change]
    meaning = meaning.format(values="given" if d.values else "default")
    lines = [f"{c.change}  {d.objective}: {meaning}".rstrip(": ")]
    lines.append(f"  {d.old}  ->  {d.new}")
    lines += [f"  with     {shown_values(d.values)}"] if d.values else []
    lines += [f"  differs  {regime}" for regime in c.where]
    if c.witness:
        lines.append(f"  witness  {c.witness.shows}")
        lines += _tokens(c)
    if d.witness_file:
        lines.append(f"  written  {d.witness_file}")
    for items in (c.interface, c.metrics, c.promises):
        lines += [f"  {item}" for item in items]
    return "\n".join(lines)


def _tokens(c: Comparison) -> list[str]:
    """The ratios of the witness, where they fit on a page."""
    assert c.witness is not None
    tensors = c.witness.tensors
    if tensors["mask"].size > 24:
        return []
    import numpy as np

    ratios = np.exp(tensors["logp"] - tensors["old_logp"])
    rows = []
    for row, (r, mask, A) in enumerate(
        zip(ratios, tensors["mask"], tensors["advantages"], strict=True)
    ):
        shown = "  ".join(f"{v:.4g}" for v in r[mask])
        advantages = sorted({f"{a:+g}" for a in A[mask]})
        rows.append(f"           row {row}: r = {shown}; A = {', '.join(advantages)}")
    return rows
