"""Trees as text: Unicode, as docs/semantics.md writes. What stands side by side is multiplied."""

from __future__ import annotations

from fractions import Fraction

from fibc.formula.algebra import (
    Aggregate,
    Apply,
    Factors,
    Param,
    Sum,
    Symbol,
    Term,
    Tree,
    constant,
)
from fibc.ir.functions import FUNCTIONS

_NAMES = {"stopgrad": "sg"}
_FLIPPED = {"<": ">", "<=": "≥"}
_POWERS = {2: "²", 3: "³"}
# Names that always mean the same here, so that parameters which have them are quoted.
_WORDS = frozenset({"r", "A", "J", "term", "n", "sg", "rollback", *FUNCTIONS})


def show(tree: Tree) -> str:
    match tree:
        case Symbol(name):
            return name
        case Param(name):
            return f"'{name}'" if name in _WORDS else name
        case Sum(terms):
            return _sum(terms)
        case Aggregate():
            return _aggregate(tree)
        case Apply(function, arguments):
            return _apply(function, arguments)


def pieces(tree: Tree) -> list[str]:
    """The text of a sum, a piece a term, to be broken between lines."""
    if not isinstance(tree, Sum) or len(tree.terms) < 2:
        return [show(tree)]
    first, *rest = _leading(tree.terms)
    return [_signed(first), *(f"{'−' if c < 0 else '+'} {_product(abs(c), f)}" for c, f in rest)]


# --- sums and products --------------------------------------------------------------------------


def _sum(terms: tuple[Term, ...]) -> str:
    return " ".join(pieces(Sum(terms))) if len(terms) > 1 else _signed(terms[0]) if terms else "0"


def _leading(terms: tuple[Term, ...]) -> list[Term]:
    """The terms, one that is added first."""
    positive = [term for term in terms if term[0] > 0]
    return [*positive[:1], *(term for term in terms if term not in positive[:1])]


def _signed(term: Term) -> str:
    coefficient, factors = term
    return ("−" if coefficient < 0 else "") + _product(abs(coefficient), factors)


def _product(coefficient: Fraction, factors: Factors) -> str:
    above_text, below_text = number(coefficient), ""
    halved = coefficient == Fraction(1, 2)
    if factors and (halved or not _terminates(coefficient)):
        above_text, below_text = str(coefficient.numerator), str(coefficient.denominator)
        if _terminates(1 / coefficient):
            above_text, below_text = "1", number(1 / coefficient)
    # Last what would else seem to be part of a logarithm.
    upper = sorted((f for f in factors if f[1] > 0), key=lambda f: show(f[0]).startswith("log "))
    lower = [(factor, -power) for factor, power in factors if power < 0]
    over = [] if upper and above_text == "1" else [above_text]
    over += [_factor(tree, power) for tree, power in upper]
    under = [below_text] if below_text else []
    under += [_factor(tree, power) for tree, power in lower]
    text = " ".join(over)
    if not under:
        return text
    return f"{text} / {under[0]}" if len(under) == 1 else f"{text} / ({' '.join(under)})"


def _factor(tree: Tree, power: int) -> str:
    text = show(tree)
    word = isinstance(tree, Symbol) and not text.replace("_", "").isalnum()
    if isinstance(tree, Sum) or (word and power > 1):
        text = f"({text})"
    return text if power == 1 else text + _POWERS.get(power, f"^{power}")


def _terminates(value: Fraction) -> bool:
    """Whether it is a decimal number."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def number(value: Fraction) -> str:
    """A number in as few digits as say it, or six."""
    if value.denominator == 1 and abs(value) < 10**7:
        return str(value)
    if not _terminates(value):
        return f"{value.numerator} / {value.denominator}"
    text = repr(float(value))
    text = text if len(text) <= 10 else f"{float(value):.6g}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if e else text


# --- functions ----------------------------------------------------------------------------------


def _apply(function: str, arguments: tuple[Tree, ...]) -> str:
    match function, arguments:
        case (("<" | "<="), (a, b)):
            if _comes_last(a, b):
                return f"{show(b)} {_FLIPPED[function]} {show(a)}"
            return f"{show(a)} {'<' if function == '<' else '≤'} {show(b)}"
        case (("and" | "or"), (a, b)):
            return f" {function} ".join(_condition(function, side) for side in (a, b))
        case (("min" | "max"), (Apply(inner, (*several,)), last)) if inner == function:
            return _apply(function, (*several, last))
        case "is", (key, name):
            return f"{show(key)} is {show(name)}"
        case "abs", (x,):
            return f"|{show(x)}|"
        case "channel", (x,):
            return f"max(±{_signable(x)}, 0)"
        case "rollback", (x, upper, lower, k):
            return f"rollback({show(x)}; {_budgets(upper, lower)}, k = {show(k)})"
        case "bound", (x, upper, lower):
            return f"clip({show(x)}; {_budgets(upper, lower)})"
        case _:
            return f"{_NAMES.get(function, function)}({', '.join(map(show, arguments))})"


def _budgets(upper: Tree, lower: Tree) -> str:
    if upper == lower:
        return show(upper)
    signs = (("+", upper), ("−", lower))
    return ", ".join(sign + _signable(budget) for sign, budget in signs)


def _signable(tree: Tree) -> str:
    """A tree as it stands behind a sign."""
    several = isinstance(tree, Sum) and len(tree.terms) > 1
    return f"({show(tree)})" if several else show(tree)


def _comes_last(a: Tree, b: Tree) -> bool:
    """Whether a comparison reads better the other way round: what is compared, then the bound."""
    if constant(a) is not None or constant(b) is not None:
        return constant(a) is not None
    bound = isinstance(a, Param), isinstance(b, Param)
    if bound[0] != bound[1]:
        return bound[0]
    return isinstance(a, Symbol) and not isinstance(b, Symbol)


def _condition(function: str, side: Tree) -> str:
    other = "or" if function == "and" else "and"
    inside = isinstance(side, Apply) and side.function == other
    return f"({show(side)})" if inside else show(side)


def _aggregate(tree: Aggregate) -> str:
    members = "" if tree.of == "token" else f"{tree.of} in "
    if tree.kind == "n":
        return f"n({tree.of} in {tree.over})"
    by = f", by {tree.weight}" if tree.weight else ""
    return f"{tree.kind}({show(tree.body)} over {members}{tree.over}{by})"
