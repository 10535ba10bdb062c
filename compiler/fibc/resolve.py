"""Names to things: statements that may stand once, levels as one chain, gates from the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeVar, cast

from fibc.gates.rule import GateRule
from fibc.ir.expression import Const, Input
from fibc.link import Gates
from fibc.resolved import ReduceStep, Resolved, ResolvedGate, ResolvedParam
from fibdsl.builtins import MODIFIERS, REDUCTIONS, RESERVED
from fibdsl.diagnostics.diagnostic import Diagnostics, closest, nearest
from fibdsl.syntax import ast
from fibdsl.types import BATCH, TOKEN, TRAJECTORY, Channels, Level, Signal, Space

# Names of the tensors of a batch; a key of the same name would be ambiguous in a batch file.
BATCH_TENSORS = frozenset(
    {"logp", "old_logp", "advantages", "mask", "cu_seqlens", "rollout_logp", "ref_logp"}
)

_TOKEN_STATEMENTS = (ast.Let, ast.Bypass, ast.Surrogate, ast.Weight, ast.Penalty)

Node = TypeVar("Node", bound=ast.Statement)


def resolve(objective: ast.Objective, gates: Gates, diagnostics: Diagnostics) -> Resolved | None:
    """`objective` with its names resolved, or None when a statement it cannot do without is
    missing or unusable. Findings go to `diagnostics`."""
    return _Resolver(objective, gates, diagnostics).run()


class _Resolver:
    def __init__(
        self,
        objective: ast.Objective,
        known: Gates,
        diagnostics: Diagnostics,
    ) -> None:
        self.objective = objective
        self.known = known
        self.diagnostics = diagnostics
        # Whether every gate and level of the text is known; what is missing was reported.
        self.complete = True
        # Levels that were reported as unknown; once is enough.
        self.unknown_levels: set[str] = set()
        self.summed: set[str] = set()
        self.budgets: dict[str, ast.PerCell] = {}

    def run(self) -> Resolved | None:
        doc = self.only(ast.Doc, needed=False)
        signal = self.signal()
        params = self.params(signal[0].space if signal else Space.PURE)
        levels = self.levels()
        reduce_statement = self.only(ast.Reduce, "reduce mean over token")
        after = self.after()
        token = self.token_statements()
        # What a token adds may be said without a gate; G is then its ratio.
        gated = bool(self.all(ast.At)) or any(isinstance(s, ast.Surrogate) for s in token)
        if not gated:
            self.diagnostics.add(
                "FIB105",
                f"objective `{self.objective.name.text}` gates no level",
                self.objective.name.span,
                "add one, for example `at token { base clip(0.2) pessimistic }`",
            )
        if levels is None:
            return None
        gates, aggregates = self.gates(levels)
        if not gates and not self.all(ast.At):
            span = self.objective.name.span
            rule = self.known.rules["pass"]
            gates = {TOKEN: ResolvedGate(rule, "base", (), {}, None, False, span, span)}
        steps = self.reduce(reduce_statement, levels) if reduce_statement else ()
        requires = self.requires(levels)
        if signal is None:
            return None
        return Resolved(
            self.objective.name.text,
            doc.text if doc else "",
            params,
            *signal,
            levels,
            gates,
            aggregates,
            frozenset(self.summed),
            self.budgets,
            after,
            token,
            steps,
            self.divisors(reduce_statement),
            requires,
            frozenset(self.known.rules),
            frozenset(self.unknown_levels),
            self.objective.name.span,
            reduce_statement.span if reduce_statement else self.objective.name.span,
            self.complete,
        )

    # --- statements -----------------------------------------------------------------------------

    def all(self, kind: type[Node]) -> list[Node]:
        return [s for s in self.objective.statements if isinstance(s, kind)]

    def only(self, kind: type[Node], example: str = "", needed: bool = True) -> Node | None:
        """The one statement of a kind; a second one, or none where one is needed, is an error."""
        found = self.all(kind)
        word = "signal" if kind is ast.SignalStatement else kind.__name__.lower()
        self.once(found, word)
        if needed and not found:
            self.diagnostics.add(
                "FIB105",
                f"objective `{self.objective.name.text}` has no `{word}`",
                self.objective.name.span,
                f"add one, for example `{example}`",
            )
        return found[0] if found else None

    def once(self, found: list[Node], word: str) -> None:
        for extra in found[1:]:
            self.diagnostics.add(
                "FIB103", f"a second `{word}`", extra.span, "an objective has one; delete this one"
            )

    def token_statements(
        self,
    ) -> tuple[ast.Let | ast.Bypass | ast.Surrogate | ast.Weight | ast.Penalty, ...]:
        """The statements about single tokens."""
        self.once(self.all(ast.Surrogate), "surrogate")
        self.once(self.all(ast.Weight), "weight")
        self.once(self.all(ast.Penalty), "penalty")
        return tuple(s for s in self.objective.statements if isinstance(s, _TOKEN_STATEMENTS))

    def after(self) -> ResolvedGate | None:
        """The gate after which signals are aggregated."""
        statements = self.all(ast.SignalStatement)
        if not statements or statements[0].after is None:
            return None
        statement = statements[0]
        assert statement.after is not None
        known = self.known.rules.get(statement.after.name.text)
        if known is not None and known.neighbours:
            self.diagnostics.add(
                "FIB401",
                f"`{known.name}` looks at whole cells, and `after` gates each token by itself",
                statement.after.span,
                "let it be the gate of a level",
            )
            return None
        return self.called(TOKEN, "base", statement.after, statement.modifiers, [TOKEN])

    def divisors(self, statement: ast.Reduce | None) -> dict[int, ast.Expr]:
        steps = statement.steps if statement is not None else ()
        return {i: step.divisor for i, step in enumerate(steps) if step.divisor is not None}

    def word(self, name: ast.Name, known: Iterable[str], what: str, code: str = "FIB106") -> bool:
        choices = list(known)
        if name.text in choices:
            return True
        self.diagnostics.add(
            code, f"unknown {what} `{name.text}`", name.span, nearest(name.text, choices)
        )
        return False

    def params(self, usual: Space) -> dict[str, ResolvedParam]:
        params: dict[str, ResolvedParam] = {}
        for p in self.all(ast.Param):
            name = p.name.text
            if name in params:
                self.diagnostics.add(
                    "FIB103", f"a second `param {name}`", p.name.span, "rename or delete this one"
                )
                continue
            if name in RESERVED:
                self.diagnostics.add(
                    "FIB104",
                    f"`{name}` is a word of the language",
                    p.name.span,
                    "choose another name for the parameter",
                )
            # A misspelt space is taken for the usual one; uses are not judged by it.
            good = self.word(p.space, [s.value for s in Space], "space")
            space = Space(p.space.text) if good else usual
            params[name] = ResolvedParam(name, space, p.default, p.range, p.name.span, good)
        return params

    def signal(self) -> tuple[Signal, Channels] | None:
        statement = self.only(ast.SignalStatement, "signal log_ratio split")
        if statement is None:
            return None
        channels = Channels.NET
        word = statement.channels
        if word and self.word(word, [c.value for c in Channels], "channel"):
            channels = Channels(word.text)
        if not self.word(statement.signal, [s.value for s in Signal], "signal"):
            return None
        return Signal(statement.signal.text), channels

    # --- levels ---------------------------------------------------------------------------------

    def levels(self) -> tuple[Level, ...] | None:
        statement = self.only(ast.Levels, "levels token < trajectory")
        if statement is None:
            return None
        finest = statement.entries[0].name
        if finest.text != TOKEN:
            self.diagnostics.add(
                "FIB202",
                f"the chain starts with `{finest.text}`, but the finest level is `token`",
                finest.span,
                "write the levels fine to coarse: `levels token < trajectory < ...`",
            )
            return None
        chain: list[Level] = []
        keys: set[str] = set()
        for entry in statement.entries:
            name = entry.name.text
            if name in {level.name for level in chain}:
                self.diagnostics.add(
                    "FIB202",
                    f"level `{name}` stands twice in the chain",
                    entry.name.span,
                    "each level stands once, fine to coarse",
                )
                self.complete = False
                continue
            if name == BATCH:
                self.diagnostics.add(
                    "FIB104",
                    "`batch` is the root of every hierarchy and is never declared",
                    entry.name.span,
                    "drop it, or choose another name",
                )
                continue
            self.check_key(entry, keys)
            chain.append(Level(name, entry.key.text if entry.key else None))
        return tuple(chain)

    def check_key(self, entry: ast.LevelEntry, keys: set[str]) -> None:
        name, key = entry.name.text, entry.key
        if name in (TOKEN, TRAJECTORY):
            if key is not None:
                self.diagnostics.add(
                    "FIB203",
                    f"`{name}` takes no key",
                    key.span,
                    "a trajectory is a row of the batch, a token one of its positions; "
                    "give other cells a level of their own",
                )
            return
        if key is None:
            ids = f"say which ids of the batch name its cells: `{name} by {name}_id`"
            meant = closest(name, [TRAJECTORY]) is not None
            self.diagnostics.add(
                "FIB203",
                f"level `{name}` has no key",
                entry.name.span,
                f"did you mean `{TRAJECTORY}`? otherwise {ids}" if meant else ids,
            )
            # The one level without a key is perhaps what it is meant to be.
            self.unknown_levels.add(TRAJECTORY)
        elif key.text in keys:
            self.diagnostics.add(
                "FIB203",
                f"key `{key.text}` already names the cells of a finer level",
                key.span,
                "two levels with one key are the same level; use another key",
            )
        elif key.text in BATCH_TENSORS:
            self.diagnostics.add(
                "FIB203",
                f"`{key.text}` is a tensor of every batch, not a key",
                key.span,
                "name the ids differently",
            )
        else:
            keys.add(key.text)

    def level(self, name: ast.Name, known: Iterable[str]) -> bool:
        if name.text in self.unknown_levels:
            return False
        good = self.word(name, known, "level", "FIB201")
        if not good:
            self.unknown_levels.add(name.text)
        return good

    # --- gates ----------------------------------------------------------------------------------

    def gates(self, levels: tuple[Level, ...]) -> tuple[dict[str, ResolvedGate], dict[str, str]]:
        gates: dict[str, ResolvedGate] = {}
        aggregates: dict[str, str] = {}
        names = [level.name for level in levels]
        seen: set[str] = set()
        for at in self.all(ast.At):
            level = at.level.text
            if not self.level(at.level, names):
                self.complete = False
                continue
            if level in seen:
                self.diagnostics.add(
                    "FIB103",
                    f"a second `at {level}`",
                    at.level.span,
                    "say everything about a level in one block",
                )
                continue
            seen.add(level)
            if not at.clauses:
                self.diagnostics.add(
                    "FIB105",
                    f"`at {level}` says nothing",
                    at.span,
                    "add a `base` or `fiber` gate, or delete the block",
                )
            for clause in at.clauses:
                if isinstance(clause, ast.Aggregate):
                    self.aggregate(level, clause, names, aggregates)
                elif isinstance(clause, ast.PerCell):
                    self.budget(levels[names.index(level)], clause)
                elif level in gates:
                    self.diagnostics.add(
                        "FIB103",
                        f"a second gate at `{level}`",
                        clause.span,
                        "a level has one gate; compose two on two levels",
                    )
                else:
                    gate = self.gate(level, clause, names)
                    if gate:
                        gates[level] = gate
        return gates, aggregates

    def aggregate(
        self, level: str, clause: ast.Aggregate, names: list[str], aggregates: dict[str, str]
    ) -> None:
        good = self.word(clause.reduction, REDUCTIONS, "aggregate")
        if not self.level(clause.over, names) or not good:
            return
        if level in aggregates:
            self.diagnostics.add(
                "FIB103", f"a second `aggregate` at `{level}`", clause.span, "delete this one"
            )
        elif names.index(clause.over.text) >= names.index(level):
            self.diagnostics.add(
                "FIB207",
                f"`{clause.over.text}` is not finer than `{level}`",
                clause.over.span,
                "a token has nothing to aggregate; delete this"
                if level == TOKEN
                else "an aggregate is over the cells of a finer level, `token` for instance",
            )
        else:
            aggregates[level] = clause.over.text
            if clause.reduction.text == "sum":
                self.summed.add(level)

    def budget(self, level: Level, clause: ast.PerCell) -> None:
        """The budgets of the cells of a level, by their names."""
        if level.name in self.budgets:
            self.diagnostics.add(
                "FIB103", f"a second `budget` at `{level.name}`", clause.span, "delete this one"
            )
            return
        self.budgets[level.name] = clause
        if level.key is None:
            self.diagnostics.add(
                "FIB203",
                f"the cells of `{level.name}` have no names, because the level has no key",
                clause.span,
                "give budgets to the cells of a level `by KEY`",
            )
            return
        seen: set[str | None] = set()
        for entry in clause.entries:
            name = entry.name.text if entry.name else None
            if name in seen:
                self.diagnostics.add(
                    "FIB103",
                    f"a second budget for `{name or 'else'}`",
                    entry.span,
                    "a cell has one budget; delete this one",
                )
            seen.add(name)

    def gate(self, level: str, clause: ast.GateClause, names: list[str]) -> ResolvedGate | None:
        found = self.called(level, clause.role, clause.gate, clause.modifiers, names)
        return replace(found, span=clause.span) if found is not None else None

    def called(
        self,
        level: str,
        role: Literal["base", "fiber"],
        gate: ast.Gate,
        modifiers: tuple[ast.Name, ...],
        names: list[str],
    ) -> ResolvedGate | None:
        """A gate as it is written: its rule and what it is given."""
        pessimistic = False
        for modifier in modifiers:
            if self.word(modifier, MODIFIERS, "modifier", "FIB102"):
                if pessimistic:
                    self.diagnostics.add(
                        "FIB103", "a second `pessimistic`", modifier.span, "delete it"
                    )
                pessimistic = True
        rule = self.rule(gate.name)
        if rule is None:
            self.complete = False
            return None
        if pessimistic and [case.value for case in rule.cases] in ([Input(0)], [Const(0.0)]):
            self.diagnostics.add(
                "FIB401",
                f"`pessimistic` has no effect on `{rule.name}`, which has no bound",
                modifiers[0].span,
                "delete it",
            )
        positional: list[ast.Argument] = []
        named: dict[str, ast.NamedArgument] = {}
        over: str | None = None
        complete = True
        for argument in gate.arguments:
            match argument:
                case ast.Argument():
                    positional.append(argument)
                case ast.NamedArgument():
                    complete = self.named(rule, argument, named) and complete
                case ast.Over() if over is not None:
                    self.diagnostics.add("FIB103", "a second `over`", argument.span, "delete it")
                case ast.Over():
                    over = self.over(rule, argument, level, names)
                    complete = over is not None and complete
        return ResolvedGate(
            rule, role, tuple(positional), named, over, pessimistic, gate.span, gate.span, complete
        )

    def rule(self, name: ast.Name) -> GateRule | None:
        """What a gate does; None where that is not known, which is reported once."""
        if self.known.reported(name.text) or not self.word(
            name, self.known.rules, "gate", "FIB102"
        ):
            return None
        return self.known.rules[name.text]

    def named(
        self, rule: GateRule, argument: ast.NamedArgument, named: dict[str, ast.NamedArgument]
    ) -> bool:
        """Takes an argument that is given by its name; False if there is no such."""
        name = argument.name.text
        plain = [p.name for p in rule.parameters if p.space is not None]
        if name in rule.budgets:
            self.diagnostics.add(
                "FIB401",
                f"`{name}` of `{rule.name}` is a budget, which is given by its place",
                argument.span,
                f"write {rule.usage}",
            )
        elif not plain:
            k = "; only `rollback` has a steepness `k`" if name == "k" else ""
            self.diagnostics.add(
                "FIB401", f"`{rule.name}` takes no `{name}`", argument.span, f"delete it{k}"
            )
        elif name in named:
            self.diagnostics.add("FIB103", f"a second `{name}`", argument.span, "delete it")
        elif self.word(argument.name, plain, "argument"):
            named[name] = argument
            return True
        return False

    def over(self, rule: GateRule, argument: ast.Over, level: str, names: list[str]) -> str | None:
        """The level whose cells share the budget of a gate."""
        over = argument.level.text
        if not rule.neighbours:
            self.diagnostics.add(
                "FIB401",
                f"`{rule.name}` takes no `over`",
                argument.span,
                "only `censor` looks at the other members of a cell",
            )
            return None
        if not self.level(argument.level, names):
            return None
        if names.index(over) <= names.index(level):
            self.diagnostics.add(
                "FIB208",
                f"`{over}` is not coarser than `{level}`",
                argument.level.span,
                "the budget is shared by the members of a coarser cell",
            )
        return over

    # --- reduce and require ---------------------------------------------------------------------

    def reduce(self, statement: ast.Reduce, levels: tuple[Level, ...]) -> tuple[ReduceStep, ...]:
        names = [level.name for level in levels]
        # A row of the batch can always be named, also where the chain does not nest in it.
        known = names if TRAJECTORY in names else [*names, TRAJECTORY]
        steps: list[ReduceStep] = []
        for step in statement.steps:
            good = self.word(step.reduction, REDUCTIONS, "reduction")
            if self.level(step.level, known) and good:
                reduction = cast(Literal["mean", "sum"], step.reduction.text)
                steps.append(ReduceStep(reduction, step.level.text))
        if len(steps) < len(statement.steps):
            return ()
        order = {name: rank for rank, name in enumerate(names)}
        for (outer, inner), step in zip(
            itertools.pairwise(steps), statement.steps[1:], strict=False
        ):
            nested = (
                inner.level == TOKEN != outer.level
                if TRAJECTORY not in order and TRAJECTORY in (outer.level, inner.level)
                else order[inner.level] < order[outer.level]
            )
            if not nested:
                self.diagnostics.add(
                    "FIB206",
                    f"`{inner.level}` does not nest in `{outer.level}`",
                    step.level.span,
                    "write the steps coarse to fine, each level inside the one before",
                )
                return ()
        if steps[-1].level != TOKEN:
            self.diagnostics.add(
                "FIB206",
                f"the last step is over `{steps[-1].level}`, but the objective is a sum of tokens",
                statement.steps[-1].level.span,
                "end with `mean over token`",
            )
        return tuple(steps)

    def requires(self, levels: tuple[Level, ...]) -> tuple[ast.Require, ...]:
        names = [level.name for level in levels]
        return tuple(
            r
            for r in self.all(ast.Require)
            # A list: of two unknown levels both are reported.
            if all([self.level(name, names) for name in (r.at, r.over) if name])  # noqa: C419
        )
