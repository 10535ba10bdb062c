"""Names for what would stand in a formula twice, or as a choice inside something else."""

from __future__ import annotations

import itertools
from collections import Counter

from fibc.formula.algebra import Aggregate, Apply, Sum, Symbol, Tree, rebuilt, replaced, subtrees
from fibc.formula.cases import Case, Cases, changed, flattened, trees
from fibc.formula.channels import MINUS, PLUS, SIGNED, merged_cases
from fibc.formula.reader import Reader, letters
from fibc.formula.text import show

Lines = dict[str, Cases]

# What is shorter may stand as often as it likes.
_LONG = 14
_SIGNS = (PLUS, MINUS, SIGNED)


def with_aggregates(lines: Lines, reader: Reader) -> Lines:
    """The aggregates that gates see by the name S."""
    levels = {aggregate.over for aggregate in reader.aggregates}
    bases: dict[Tree, str] = {}
    names: dict[Tree, Tree] = {}
    found: Lines = {}
    for aggregate in reader.aggregates:
        sign = _sign(aggregate)
        unsigned = _unsigned(aggregate)
        if unsigned not in bases:
            wanted = "S" if len(levels) == 1 else f"S_{aggregate.over}"
            bases[unsigned] = reader.fresh(wanted)
            reader.lines[bases[unsigned]] = ()
        symbol = Symbol(bases[unsigned] + sign)
        found[symbol.name] = (Case(rebuilt(aggregate, lambda part: replaced(part, names))),)
        names[aggregate] = symbol
    return {**found, **_with(lines, names)}


def new_name(tree: Tree, reader: Reader) -> str:
    """A name for something, which has one value a channel if the tree has."""
    name = reader.fresh()
    reader.lines[name] = ()
    return name + (SIGNED if _sign(tree) == SIGNED else "")


def named_choices(lines: Lines, reader: Reader) -> Lines:
    """Choices inside other functions by names."""
    found: Lines = {}

    def outside(tree: Tree) -> Tree:
        if not (isinstance(tree, Apply) and tree.function == "where"):
            return rebuilt(tree, outside)
        cases = changed(flattened(tree), outside)
        known = [name for name, other in found.items() if other == cases]
        name = known[0] if known else new_name(tree, reader)
        found[name] = cases
        return Symbol(name)

    for name, cases in lines.items():
        found[name] = changed(cases, outside)
    return found


def channels_as_one(lines: Lines) -> Lines:
    """One line for the two channels of a name, where they are alike."""
    found: Lines = {}
    for name, cases in lines.items():
        base = name.removesuffix(PLUS).removesuffix(MINUS)
        if name == base + MINUS and base + SIGNED in found:
            continue
        both = None
        if name == base + PLUS and base + MINUS in lines:
            both = merged_cases(cases, lines[base + MINUS])
        found[name if both is None else base + SIGNED] = cases if both is None else both
    return found


def named_repetitions(lines: Lines, reader: Reader) -> Lines:
    """What is long and stands in several places by a name, the shortest first."""
    while True:
        counted = Counter(tree for cases in lines.values() for tree in trees(cases))
        often = {tree: count for tree, count in counted.items() if count > 1 and _is_long(tree)}
        # Not what only stands in something that is to have a name.
        inside = {
            part
            for tree, count in often.items()
            for part in subtrees(tree)
            if part != tree and counted[part] == count
        }
        own = [tree for tree in often if tree not in inside]
        if not own:
            return lines
        tree = min(own, key=lambda t: len(show(t)))
        symbol = Symbol(new_name(tree, reader))
        lines = {**_with(lines, {tree: symbol}), symbol.name: (Case(tree),)}


def _with(lines: Lines, by: dict[Tree, Tree]) -> Lines:
    return {name: changed(cases, lambda tree: replaced(tree, by)) for name, cases in lines.items()}


def _is_long(tree: Tree) -> bool:
    if isinstance(tree, Aggregate):
        return tree.kind != "n"
    if not isinstance(tree, Apply | Sum) or _sign(tree) in (PLUS, MINUS):
        return False
    condition = isinstance(tree, Apply) and tree.function in ("<", "<=", "and", "or")
    return not condition and len(show(tree)) >= _LONG


def in_order(lines: Lines, reader: Reader) -> Lines:
    """The lines with the names that were made up in the order in which they are defined."""
    made = [n for n in lines if n.removesuffix(SIGNED) in set(itertools.islice(letters(), 99))]
    free = (name for name in letters() if name not in reader.names)
    new = {old: next(free) + (SIGNED if old.endswith(SIGNED) else "") for old in made}
    renamed = _with(lines, {Symbol(old): Symbol(name) for old, name in new.items()})
    return {new.get(name, name): cases for name, cases in renamed.items()}


def used(lines: Lines, name: str) -> Lines:
    """The lines that a name needs, itself last, each after those that it needs."""
    found: Lines = {}

    def visit(name: str) -> None:
        for own in (name, name[:-1] + SIGNED if name.endswith(_SIGNS) else name):
            if own in lines and own not in found:
                for tree in trees(lines[own]):
                    if isinstance(tree, Symbol):
                        visit(tree.name)
                found[own] = lines[own]
                return

    visit(name)
    return found


def _sign(tree: Tree) -> str:
    """Which channel a tree is of."""
    names = [t.name for t in subtrees(tree) if isinstance(t, Symbol)]
    signs = {name[-1] for name in names if name.endswith(_SIGNS)}
    return signs.pop() if len(signs) == 1 else ""


def _unsigned(tree: Tree) -> Tree:
    signed: dict[Tree, Tree] = {
        t: Symbol(t.name[:-1] + SIGNED)
        for t in subtrees(tree)
        if isinstance(t, Symbol) and t.name.endswith(_SIGNS)
    }
    return replaced(tree, signed)
