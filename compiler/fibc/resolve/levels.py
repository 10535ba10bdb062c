"""The levels as one chain, and the keys that name their cells."""

from __future__ import annotations

from fibc.resolve.names import Names
from fibdsl.diagnostics.diagnostic import closest
from fibdsl.syntax import ast
from fibdsl.types import BATCH, TOKEN, TRAJECTORY, Level

# Names of the tensors of a batch; a key of the same name would be ambiguous in a batch file.
_BATCH_TENSORS = frozenset(
    {"logp", "old_logp", "advantages", "mask", "cu_seqlens", "rollout_logp", "ref_logp"}
)


def declared_levels(statement: ast.Levels, names: Names) -> tuple[Level, ...] | None:
    """The chain, fine to coarse; None where it does not start at the token."""
    finest = statement.entries[0].name
    if finest.text != TOKEN:
        names.diagnostics.add(
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
            names.diagnostics.add(
                "FIB202",
                f"level `{name}` stands twice in the chain",
                entry.name.span,
                "each level stands once, fine to coarse",
            )
            names.complete = False
            continue
        if name == BATCH:
            names.diagnostics.add(
                "FIB104",
                "`batch` is the root of every hierarchy and is never declared",
                entry.name.span,
                "drop it, or choose another name",
            )
            continue
        _check_key(entry, keys, names)
        chain.append(Level(name, entry.key.text if entry.key else None))
    return tuple(chain)


def _check_key(entry: ast.LevelEntry, keys: set[str], names: Names) -> None:
    name, key = entry.name.text, entry.key
    if name in (TOKEN, TRAJECTORY):
        if key is not None:
            names.diagnostics.add(
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
        names.diagnostics.add(
            "FIB203",
            f"level `{name}` has no key",
            entry.name.span,
            f"did you mean `{TRAJECTORY}`? otherwise {ids}" if meant else ids,
        )
        # The one level without a key is perhaps what it is meant to be.
        names.unknown_levels.add(TRAJECTORY)
    elif key.text in keys:
        names.diagnostics.add(
            "FIB203",
            f"key `{key.text}` already names the cells of a finer level",
            key.span,
            "two levels with one key are the same level; use another key",
        )
    elif key.text in _BATCH_TENSORS:
        names.diagnostics.add(
            "FIB203",
            f"`{key.text}` is a tensor of every batch, not a key",
            key.span,
            "name the ids differently",
        )
    else:
        keys.add(key.text)
