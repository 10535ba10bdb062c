"""What two objectives have in common: loss, gradient, how they are called, what they report.

Equal is proved, by the hash of what they mean. Different is shown, by a batch on which the
interpreter says so. Anything else is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fibc.analysis.facts import Facts
from fibc.analysis.witnesses.witness import Witness
from fibc.ir.hash import hash_at, hash_by_name, metric_hashes, number
from fibc.typed import TypedObjective, TypedParam

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fibc.analysis.witnesses.lab import Trial

_TOLERANCE = 1e-9
# After this many differing batches the regimes in which they differ are known.
_ENOUGH = 400


class Change(StrEnum):
    """What a change of a spec does, the gravest first."""

    VALUE = "VALUE"
    """The loss changes."""
    GRADIENT = "GRADIENT"
    """The loss is the same on the batches tried, its gradient is not."""
    UNKNOWN = "UNKNOWN"
    """Not known to be the same, and no batch was found on which they differ."""
    INTERFACE = "INTERFACE"
    """The loss is the same at the parameter values; parameters, keys or normalizers differ."""
    METRICS = "METRICS"
    """Only the metrics differ."""
    SAME = "SAME"
    """Loss, parameters, keys and metrics are the same."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How objective B differs from objective A.

    Attributes:
        change: the gravest difference.
        where: the regimes of A in which the loss or gradient differ, the most telling first.
        interface, metrics, promises: one line for each difference.
        witness: a batch on which they differ.
    """

    change: Change
    where: tuple[str, ...] = ()
    interface: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    witness: Witness | None = None


def compare(a: Facts, b: Facts) -> Comparison:
    """B against A, each at its parameter values."""
    assert a.values is not None
    assert b.values is not None
    interface = tuple(_interface(a, b))
    metrics = tuple(_metrics(a, b))
    promises = tuple(_promises(a.objective, b.objective))
    if hash_at(a.program, a.values) == hash_at(b.program, b.values):
        if not interface and hash_by_name(a.program) != hash_by_name(b.program):
            interface = ("the parameters have other roles: at other values the losses differ",)
        change = Change.INTERFACE if interface else Change.METRICS if metrics else Change.SAME
        return Comparison(change, (), interface, metrics, promises)
    change, where, witness = _difference(a, b)
    return Comparison(change, where, interface, metrics, promises, witness)


# --- what is written ----------------------------------------------------------------------------


def _interface(a: Facts, b: Facts) -> Iterator[str]:
    old = {p.name: p for p in a.objective.params}
    new = {p.name: p for p in b.objective.params}
    for name in [*old, *(n for n in new if n not in old)]:
        if name not in new:
            yield f"- param {_param(old[name])}"
        elif name not in old:
            yield f"+ param {_param(new[name])}"
        elif _param(old[name]) != _param(new[name]):
            yield f"~ param {_param(old[name])}  ->  {_param(new[name])}"
    for name, level in _changed(_keys(a.objective), _keys(b.objective)):
        yield f"{name} key {level}"
    for sign, tensor in _changed(list(a.objective.tensors), list(b.objective.tensors)):
        yield f"{sign} tensor {tensor}"
    for sign, cell in _changed(_cells(a), _cells(b)):
        yield f"{sign} cell {cell}"
    outer = a.program.outermost, b.program.outermost
    if outer[0] != outer[1]:
        yield f"~ normalizer {outer[0] or 'none'}  ->  {outer[1] or 'none'}"


def _param(p: TypedParam) -> str:
    return f"{p.name} : {p.space} = {p.default:g} in {p.range}"


def _keys(objective: TypedObjective) -> list[str]:
    return [f"{level.key} (level {level.name})" for level in objective.levels if level.key]


def _cells(facts: Facts) -> list[str]:
    """The names whose ids a caller gives."""
    return [f"{b.key}.{name}" for b in facts.program.budgets.values() for name in b.entries]


def _changed(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    yield from (("-", item) for item in old if item not in new)
    yield from (("+", item) for item in new if item not in old)


def _metrics(a: Facts, b: Facts) -> Iterator[str]:
    # Parameters by their values: a metric changes if its number does.
    assert a.values is not None
    assert b.values is not None
    at_a, at_b = a.values, b.values
    old = metric_hashes(a.program, lambda name: number(at_a[name]))
    new = metric_hashes(b.program, lambda name: number(at_b[name]))
    yield from (f"{sign} {name}" for sign, name in _changed(list(old), list(new)))
    yield from (f"~ {name}" for name in old if name in new and old[name] != new[name])


def _promises(a: TypedObjective, b: TypedObjective) -> Iterator[str]:
    def written(objective: TypedObjective) -> list[str]:
        return [f"{'assume' if p.assumed else 'require'} {p}" for p in objective.promises]

    yield from (f"{sign} {text}" for sign, text in _changed(written(a), written(b)))


# --- what is computed ---------------------------------------------------------------------------


def _difference(a: Facts, b: Facts) -> tuple[Change, tuple[str, ...], Witness | None]:
    """Looks for batches on which loss or gradient differ, and the regimes they are in."""
    value: Witness | None = None
    gradient: Witness | None = None
    where: dict[str, int] = {}
    weighed_apart, terms_apart, seen = False, False, 0
    for one, other in _pairs(a, b):
        losses = one.run.loss + 0.0, other.run.loss + 0.0  # no -0 in print
        scale = max(1.0, *map(abs, losses))
        apart = abs(losses[0] - losses[1]) > _TOLERANCE * scale
        steep = _apart(one.gradient, other.gradient)
        if not apart and not steep:
            continue
        seen += 1
        tokens = one.gated_ratio, other.gated_ratio
        if not _apart(*tokens):
            # Where only gradients differ, a gate at its budget may be all there is to it.
            other_terms = _apart(one.factor, other.factor) or _apart(one.penalty, other.penalty)
            terms_apart = terms_apart or (apart and other_terms)
            weighed_apart = weighed_apart or (apart and not other_terms)
        if _apart(*tokens) or not apart:
            differing = tokens if apart else (one.gradient, other.gradient)
            for regime in _regimes(one, abs(differing[0] - differing[1]).argmax()):
                where[regime] = where.get(regime, 0) + 1
        name = f"{a.objective.name}.difference"
        if apart and (value is None or _smaller(one, value)):
            shows = f"the loss is {losses[0]:.6g} and {losses[1]:.6g}"
            value = Witness(name, one.tensors, shows + _named(one))
        elif steep and gradient is None:
            norms = [float((t.gradient**2).sum() ** 0.5) for t in (one, other)]
            shows = (
                f"the loss is {losses[0]:.6g}, with gradient norms {norms[0]:.6g}, {norms[1]:.6g}"
            )
            gradient = Witness(name, one.tensors, shows + _named(one))
        if seen >= _ENOUGH:
            break
    change = Change.VALUE if value else Change.GRADIENT if gradient else Change.UNKNOWN
    ordered = sorted(where, key=lambda regime: -where[regime])
    if _PASSING in where:
        ordered = ["in every regime, also where all gates pass"]
    if terms_apart:
        same = "G is the same, what" if not where else "what"
        ordered.append(
            f"in every regime: {same} is made of it (surrogate, weight, penalty) differs"
        )
    if weighed_apart:
        what = "G is the same, its weights" if not where else "the weights of G"
        ordered.append(f"in every regime: {what} (`reduce`) differ")
    return change, tuple(ordered), value or gradient


_PASSING = "where all gates pass"


def _apart(a: NDArray[Any], b: NDArray[Any]) -> bool:
    scale = max(1.0, float(abs(a).max()), float(abs(b).max()))
    return bool(abs(a - b).max() > _TOLERANCE * scale)


def _smaller(trial: Trial, witness: Witness) -> bool:
    """Whether a batch is easier to read: fewer tokens, then smaller log-ratios."""

    def size(tensors: Mapping[str, NDArray[Any]]) -> tuple[int, float]:
        return tensors["mask"].size, float(abs(tensors["logp"] - tensors["old_logp"]).max())

    return size(trial.built.tensors) < size(witness.tensors)


def _pairs(a: Facts, b: Facts) -> Iterator[tuple[Trial, Trial]]:
    """Batches made for either objective, evaluated under both."""
    from fibc.analysis.witnesses.designs import Built
    from fibc.analysis.witnesses.extremes import extreme_trials
    from fibc.analysis.witnesses.lab import evaluate
    from fibc.batch import BatchError

    for facts, other in ((a, b), (b, a)):
        for trial in extreme_trials(facts):
            for tensors in _with_keys(trial.built.tensors, other.objective):
                built = Built(tensors, trial.built.at, trial.built.cells)
                for named in _names(a, b):
                    try:
                        one, two = (evaluate(f, built, named) for f in (facts, other))
                    except BatchError:
                        continue  # cells that nest for one objective and not for the other
                    yield (one, two) if facts is a else (two, one)


def _names(a: Facts, b: Facts) -> list[str | None]:
    """What to call all cells: each name, or `else`, that has a budget in both; None where there are
    no budgets per cell."""
    words = [{word for b in f.program.budgets.values() for word in b.words} for f in (a, b)]
    if not any(words):
        return [None]
    # An objective without any takes cells of every name.
    takes = [w or {"else"} for w in words]
    names = [w for w in sorted(words[0] | words[1]) if all(w in t or "else" in t for t in takes)]
    return [*names] or [None]


def _named(trial: Trial) -> str:
    """Of a witness in which all cells have a name, which it is."""
    if trial.named is None:
        return ""
    called = "have no name" if trial.named == "else" else f"are called {trial.named}"
    return f" where all cells {called}"


def _with_keys(
    tensors: Mapping[str, NDArray[Any]], objective: TypedObjective
) -> Iterator[dict[str, NDArray[Any]]]:
    """The batch with ids for what `objective` needs besides: each row for itself, or all as one."""
    import numpy as np

    others = [name for name in objective.tensors if name not in tensors]
    tensors = {**tensors, **dict.fromkeys(others, tensors["old_logp"])}
    missing = [key for key in objective.keys if key not in tensors]
    rows, width = tensors["mask"].shape
    alone = np.repeat(np.arange(rows)[:, None], width, axis=1)
    for ids in (alone, np.zeros_like(alone)) if missing else (alone,):
        yield {**tensors, **dict.fromkeys(missing, ids)}


def _regimes(trial: Trial, token: Any) -> list[str]:
    """The regimes, other than the first, of the gates that a token meets."""
    from fibc import interp
    from fibc.analysis.witnesses.lab import gate_ops

    facts = trial.facts
    at = divmod(int(token), trial.built.tensors["mask"].shape[1])
    lean = ".up" if trial.built.tensors["advantages"][at] >= 0 else ".down"
    batch_cells = trial.cells
    found = []
    for level in reversed(list(facts.objective.gates)):
        for op in gate_ops(facts, level):
            if op.name.endswith((".up", ".down")) and not op.name.endswith(lean):
                continue
            cell = int(batch_cells[level][at])
            index = int(interp.gate_state(op, trial.run).regime[cell])
            if index > 0:
                channel = " (+)" if ".plus" in op.name else " (-)" if ".minus" in op.name else ""
                found.append(f"{level}{channel} in {op.rule.pieces[index].regime}")
    return found or [_PASSING]
