"""Slips in the shipped specs and in the table of gates, and whether the checker sees them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import fibdsl
from fibc import driver
from fibc.gates.builtin import builtin_gates
from fibdsl.resources import shipped_specs
from fibdsl.source import Source
from tests.analysis.mutants import TABLE, TEXT, Mutant, TableMutant, mutated

SPECS = {name: path.read_text(encoding="utf-8") for name, path in shipped_specs().items()}
# Written out, so that there is something to change in it.
WRITTEN_OUT = Path(__file__).with_name("fiberpo_domain.fib").read_text(encoding="utf-8")
SPECS["fiberpo_domain"] = WRITTEN_OUT


def mutant_text(mutant: Mutant) -> str:
    changed = SPECS[mutant.spec]
    for old, new in mutant.edits:
        assert changed.count(old) == 1, f"{old!r} stands {changed.count(old)} times"
        changed = changed.replace(old, new)
    return changed


def codes(spec: str) -> set[str]:
    return {d.code for d in driver.check(Source("mutant.fib", spec)).diagnostics}


def family(code: str) -> str:
    if code in ("FIB501", "FIB502"):
        return {"FIB501": "refuted", "FIB502": "undecided"}[code]
    return "lint" if code.startswith("FIB6") else "error"


def test_the_shipped_specs_have_no_findings() -> None:
    assert {name: codes(spec) for name, spec in SPECS.items()} == {name: set() for name in SPECS}


@pytest.mark.parametrize("mutant", TEXT, ids=lambda m: m.name)
def test_a_slip_in_a_spec(mutant: Mutant) -> None:
    found = codes(mutant_text(mutant))
    assert bool(mutant.codes) != bool(mutant.why)
    assert found >= set(mutant.codes)
    assert bool(found) == bool(mutant.codes)


@pytest.mark.parametrize("mutant", TABLE, ids=lambda m: f"{m.spec} {m.gate} {m.name}")
def test_a_slip_in_the_table_of_gates(mutant: TableMutant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(builtin_gates(), mutant.gate, mutated(mutant))
    found = codes(SPECS[mutant.spec])
    assert bool(mutant.codes) != bool(mutant.why)
    assert found >= set(mutant.codes)
    assert bool(found) == bool(mutant.codes)


UNCAUGHT = 36
"""Mutants that are other objectives a person may mean; each says why where it stands."""


def test_how_many_are_caught() -> None:
    uncaught = [m.name for m in ALL if m.why]
    assert len(uncaught) == UNCAUGHT
    assert len({m.name for m in TEXT}) == len(TEXT)
    assert len(TEXT) + len(TABLE) - len(uncaught) >= 140
    print(summary())


ALL: tuple[Mutant | TableMutant, ...] = (*TEXT, *TABLE)


def summary() -> str:
    """A table: for each kind of slip the mutants, and how many each family catches first."""
    kinds: dict[str, Counter[str]] = {}
    for mutant in ALL:
        kind = mutant.kind if isinstance(mutant, Mutant) else f"table: {mutant.gate}"
        families = {family(code) for code in mutant.codes} or {"not caught"}
        order = ("error", "refuted", "undecided", "lint", "not caught")
        kinds.setdefault(kind, Counter())[next(f for f in order if f in families)] += 1
    columns = ("error", "refuted", "undecided", "lint", "not caught")
    rows = [f"{'':24} {'all':>4} " + " ".join(f"{c:>10}" for c in columns)]
    total: Counter[str] = Counter()
    for kind, counted in kinds.items():
        total += counted
        rows.append(_row(kind, counted, columns))
    return "\n".join([*rows, _row("total", total, columns)])


def _row(name: str, counted: Counter[str], columns: tuple[str, ...]) -> str:
    return f"{name:24} {counted.total():4} " + " ".join(f"{counted[c]:10}" for c in columns)


def test_fiberpo_domain_written_out_is_the_shipped_one() -> None:
    written, shipped = fibdsl.load_text(WRITTEN_OUT), fibdsl.load("fiberpo_domain")
    assert written.semantic_hash == shipped.semantic_hash
