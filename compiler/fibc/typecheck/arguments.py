"""What gates are given: which argument is which parameter, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fibc.gates.rule import Parameter
from fibc.ir.scalar import Scalar, counted, variants
from fibc.resolved import Resolved, ResolvedGate
from fibc.typecheck.budgets import Budgets
from fibc.typecheck.numbers import default, plain, steepness
from fibc.typecheck.quantities import Quantities
from fibc.typed import Budget
from fibdsl.diagnostics.diagnostic import ReportedError, collected
from fibdsl.source import Span
from fibdsl.syntax import ast
from fibdsl.types import TOKEN


def gate_arguments(
    level: str, gate: ResolvedGate, spec: Resolved, quantities: Quantities
) -> dict[str, Budget]:
    """What the parameters of the gate of a level are, by name. All that is wrong with them is said.

    Raises:
        ReportedError: one of them is wrong, or missing.
    """
    return _Arguments(level, gate, quantities, Budgets(level, spec, quantities)).typed()


@dataclass(frozen=True)
class _Arguments:
    level: str
    gate: ResolvedGate
    quantities: Quantities
    budgets: Budgets

    def typed(self) -> dict[str, Budget]:
        rule = self.gate.rule
        makes: list[Callable[[], dict[str, Budget]]]
        if rule.neighbours or (rule.builtin and rule.pieces):
            makes = [self.budget, self.steepness]
        else:
            makes = [partial(self.argument, p, given) for p, given in self.given()]
        parts = collected(makes)
        if not self.gate.complete:
            raise ReportedError
        return {name: budget for part in parts for name, budget in part.items()}

    # --- gates of the language ------------------------------------------------------------------

    def budget(self) -> dict[str, Budget]:
        rule, arguments = self.gate.rule, self.gate.arguments
        kinds = [argument.kind for argument in arguments]
        if not rule.budgets:
            if arguments:
                raise self.quantities.diagnostics.bad(
                    "FIB401", f"`{rule.name}` takes no budget", arguments[0].span, "delete it"
                )
            return {}
        where = arguments[0].span if arguments else self.gate.gate_span
        if rule.neighbours and kinds != ["value"]:
            raise self.quantities.diagnostics.bad(
                "FIB401",
                f"`{rule.name}` takes one budget, for both sides together",
                where,
                f"write `{rule.name}(0.1, over {self.gate.over or 'LEVEL'})`",
            )
        if kinds not in (["value"], ["upper", "lower"]):
            raise self.quantities.diagnostics.bad(
                "FIB401",
                f"`{rule.name}` takes one budget for both sides, or a pair",
                where,
                f"write `{rule.name}(0.2)` or `{rule.name}(+0.2, -0.1)`",
            )
        budget = self.budgets.pair(arguments)
        if rule.neighbours:
            self.check_shared(budget.upper, where)
        return {rule.budgets[0]: budget}

    def check_shared(self, bound: Scalar, span: Span) -> None:
        """Reports a budget of several tokens that is not the same for all of them."""
        name = self.gate.rule.name
        if len(variants(bound)) > 1:
            raise self.quantities.diagnostics.bad(
                "FIB209",
                f"the budget of `{name}` is shared by tokens of both signs of the advantage",
                span,
                "write one quantity, without `by_advantage`",
            )
        if counted(bound):
            raise self.quantities.diagnostics.bad(
                "FIB209",
                f"the budget of `{name}` is shared by cells whose `budget`s may differ",
                span,
                "write one quantity, without `budget`",
            )

    def steepness(self) -> dict[str, Budget]:
        k = self.gate.rule.steepness
        if k is None:
            return {}
        scalar = steepness(self.level, self.gate, k, self.quantities)
        return {k.name: Budget(scalar, scalar)}

    # --- all others -----------------------------------------------------------------------------

    def given(self) -> list[tuple[Parameter, list[ast.Argument]]]:
        """Each parameter and what it is given: nothing, one argument, or a pair.

        Budgets go by their place. Plain numbers do too in a gate without budgets; beside budgets,
        and where one is named, they go by name.
        """
        rule, left = self.gate.rule, list(self.gate.arguments)
        found: list[tuple[Parameter, list[ast.Argument]]] = []
        for parameter in rule.parameters:
            written = self.gate.named.get(parameter.name)
            if written is not None:
                found.append((parameter, [ast.Argument("value", written.value, written.span)]))
            elif not left or (parameter.space is not None and rule.budgets):
                found.append((parameter, []))
            elif [a.kind for a in left[:2]] == ["upper", "lower"]:
                found.append((parameter, [left.pop(0), left.pop(0)]))
            else:
                found.append((parameter, [left.pop(0)]))
        if left:
            raise self.left_over([p.name for p, taken in found if not taken], left[0])
        return found

    def left_over(self, waiting: list[str], argument: ast.Argument) -> ReportedError:
        """Reports an argument that no parameter takes; `waiting` are those without one."""
        rule, named = self.gate.rule, self.gate.named
        wanted, span = _counted(len(rule.parameters)), argument.span
        if waiting:
            message = f"`{waiting[0]}` of `{rule.name}` is given by its name"
        elif named:
            name, written = next(iter(named.items()))
            span = written.span
            message = f"`{rule.name}` takes {wanted}, and `{name}` is named besides"
        else:
            message = f"`{rule.name}` takes {wanted}, and this is one more"
        return self.quantities.diagnostics.bad("FIB401", message, span, f"write {rule.usage}")

    def argument(self, parameter: Parameter, given: list[ast.Argument]) -> dict[str, Budget]:
        name, rule = parameter.name, self.gate.rule
        if given and parameter.space is None:
            if len(given) == 1 and given[0].kind != "value":
                raise self.quantities.diagnostics.bad(
                    "FIB401",
                    f"`{name}` of `{rule.name}` is one budget for both sides, or a pair",
                    given[0].span,
                    "write `0.2` or `+0.2, -0.1`",
                )
            return {name: self.budgets.pair(given)}
        if given:
            scalar = plain(self.level, rule, parameter, given, self.quantities)
        else:
            scalar = default(self.gate, parameter, self.quantities)
            if self.level == TOKEN and counted(scalar):
                raise self.quantities.diagnostics.bad(
                    "FIB406",
                    f"a token has no members to take `{name}` from",
                    self.gate.gate_span,
                    f"give it: `{rule.name}(..., {name} = 8)`",
                )
        return {name: Budget(scalar, scalar)}


def _counted(number: int) -> str:
    return f"{number} argument{'s' if number != 1 else ''}"
