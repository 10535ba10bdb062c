"""Names to things: statements that may stand once, levels as one chain, gates from the table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal, TypeVar, cast

from fibc.resolved import ReduceStep, Resolved, ResolvedGate, ResolvedParam
from fibdsl.builtins import CELL_COUNTS, GATES, MODIFIERS, REDUCTIONS
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.syntax import ast
from fibdsl.types import BATCH, TOKEN, TRAJECTORY, Channels, Level, Signal, Space

# Names of the tensors of a batch; a key of the same name would be ambiguous in a batch file.
BATCH_TENSORS = frozenset(
    {"logp", "old_logp", "advantages", "mask", "cu_seqlens", "rollout_logp", "ref_logp"}
)
RESERVED_PARAMS = frozenset({"inf", "k", "ratio", *CELL_COUNTS})

Node = TypeVar("Node", bound=ast.Statement)


def resolve(objective: ast.Objective, diagnostics: Diagnostics) -> Resolved | None:
    """`objective` with its names resolved, or None when a statement it cannot do without is
    missing or unusable. Findings go to `diagnostics`."""
    return _Resolver(objective, diagnostics).run()


class _Resolver:
    def __init__(self, objective: ast.Objective, diagnostics: Diagnostics) -> None:
        self.objective = objective
        self.diagnostics = diagnostics

    def run(self) -> Resolved | None:
        doc = self.only(ast.Doc, needed=False)
        signal = self.signal()
        params = self.params(signal[0].space if signal else Space.PURE)
        levels = self.levels()
        reduce_statement = self.only(ast.Reduce, "reduce mean over token")
        if not self.all(ast.At):
            self.diagnostics.add(
                "FIB105",
                f"objective `{self.objective.name.text}` gates no level",
                self.objective.name.span,
                "add one, for example `at token { base clip(0.2) pessimistic }`",
            )
        if levels is None:
            return None
        gates, aggregates = self.gates(levels)
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
            steps,
            requires,
            self.objective.name.span,
            reduce_statement.span if reduce_statement else self.objective.name.span,
        )

    # --- statements -----------------------------------------------------------------------------

    def all(self, kind: type[Node]) -> list[Node]:
        return [s for s in self.objective.statements if isinstance(s, kind)]

    def only(self, kind: type[Node], example: str = "", needed: bool = True) -> Node | None:
        """The one statement of a kind; a second one, or none where one is needed, is an error."""
        found = self.all(kind)
        word = "signal" if kind is ast.SignalStatement else kind.__name__.lower()
        for extra in found[1:]:
            self.diagnostics.add(
                "FIB103", f"a second `{word}`", extra.span, "an objective has one; delete this one"
            )
        if needed and not found:
            self.diagnostics.add(
                "FIB105",
                f"objective `{self.objective.name.text}` has no `{word}`",
                self.objective.name.span,
                f"add one, for example `{example}`",
            )
        return found[0] if found else None

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
            if name in RESERVED_PARAMS:
                self.diagnostics.add(
                    "FIB104",
                    f"`{name}` is a word of the language",
                    p.name.span,
                    "choose another name for the parameter",
                )
            # A misspelt space is taken for the usual one, so that uses are not reported too.
            good = self.word(p.space, [s.value for s in Space], "space")
            space = Space(p.space.text) if good else usual
            params[name] = ResolvedParam(name, space, p.default, p.range, p.name.span)
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
            self.diagnostics.add(
                "FIB203",
                f"level `{name}` has no key",
                entry.name.span,
                f"say which ids of the batch name its cells: `{name} by {name}_id`",
            )
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
        return self.word(name, known, "level", "FIB201")

    # --- gates ----------------------------------------------------------------------------------

    def gates(self, levels: tuple[Level, ...]) -> tuple[dict[str, ResolvedGate], dict[str, str]]:
        gates: dict[str, ResolvedGate] = {}
        aggregates: dict[str, str] = {}
        names = [level.name for level in levels]
        seen: set[str] = set()
        for at in self.all(ast.At):
            level = at.level.text
            if not self.level(at.level, names):
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
        good = self.word(clause.reduction, ["mean"], "aggregate")
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
                "an aggregate is the mean over the cells of a finer level, `token` for instance",
            )
        else:
            aggregates[level] = clause.over.text

    def gate(self, level: str, clause: ast.GateClause, names: list[str]) -> ResolvedGate | None:
        gate = clause.gate
        pessimistic = False
        for modifier in clause.modifiers:
            if self.word(modifier, MODIFIERS, "modifier", "FIB102"):
                if pessimistic:
                    self.diagnostics.add(
                        "FIB103", "a second `pessimistic`", modifier.span, "delete it"
                    )
                pessimistic = True
        if not self.word(gate.name, GATES, "gate", "FIB102"):
            return None
        rule = GATES[gate.name.text]
        if pessimistic and not rule.budgets:
            self.diagnostics.add(
                "FIB401",
                f"`pessimistic` has no effect on `{rule.name}`, which has no bound",
                clause.modifiers[0].span,
                "delete it",
            )
        positional: list[ast.Argument] = []
        steepness: ast.Expr | None = None
        over: str | None = None
        for argument in gate.arguments:
            if isinstance(argument, ast.Argument):
                positional.append(argument)
            elif isinstance(argument, ast.Over):
                if not rule.neighbours:
                    self.diagnostics.add(
                        "FIB401",
                        f"`{rule.name}` takes no `over`",
                        argument.span,
                        "only `censor` looks at the other members of a cell",
                    )
                elif over is not None:
                    self.diagnostics.add("FIB103", "a second `over`", argument.span, "delete it")
                elif self.level(argument.level, names):
                    over = argument.level.text
                    if names.index(over) <= names.index(level):
                        self.diagnostics.add(
                            "FIB208",
                            f"`{over}` is not coarser than `{level}`",
                            argument.level.span,
                            "the budget is shared by the members of a coarser cell",
                        )
            elif not rule.steepness:
                self.diagnostics.add(
                    "FIB401",
                    f"`{rule.name}` takes no `{argument.name.text}`",
                    argument.span,
                    "delete it; only `rollback` has a steepness `k`",
                )
            elif self.word(argument.name, ["k"], "argument"):
                if steepness is not None:
                    self.diagnostics.add("FIB103", "a second `k`", argument.span, "delete it")
                steepness = argument.value
        return ResolvedGate(
            rule,
            clause.role,
            tuple(positional),
            steepness,
            over,
            pessimistic,
            clause.span,
            gate.span,
        )

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
