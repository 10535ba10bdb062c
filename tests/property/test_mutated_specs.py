"""Whatever a file says, checking it finds something or nothing, and raises nothing."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import pytest

from fibc import driver
from fibdsl.diagnostics.render.full import render
from fibdsl.resources import folder
from fibdsl.source import Source

BAD = Path(__file__).resolve().parents[1] / "bad"

TOKEN = re.compile(
    r'"[^"\n]*"|#[^\n]*|[A-Za-z_]\w*|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+|[<>]=|\s+|.'
)
KEYWORDS = re.compile(
    "edition|use|gate|odd|objective|extends|doc|param|signal|after|levels|by|at|base|fiber|"
    "aggregate|over|budget|per|cell|else|let|bypass|when|otherwise|surrogate|weight|penalty|reduce|"
    "require|assume|waive|in|and|or"
)
# In place of a name or a number: what may be wrong there in a way of its own.
EXPRESSIONS = (
    "by_advantage(0.1, 0.2)",
    "mean(log_ratio over trajectory)",
    "sum(1 over group)",
    "stopgrad(gated_ratio)",
    "(1 / advantage)",
    "log(1 - prob)",
    "sqrt(log_ratio)",
    "(x * x)",
    "|x|",
    "sign(advantage)",
    "ratio(1.2)",
    "size",
    "budget",
    "inf",
    "(inf - inf)",
    "1e308",
    "1e-308",
    "0",
)
STATEMENTS = (
    "surrogate stopgrad(gated_ratio) * logp",
    "weight { held: 0 when advantage > 0 and prob - old_prob > 0.1; ratio otherwise; }",
    "penalty 0.1 * k3(ref_logp - logp)",
    "bypass when advantage < 0 and log_ratio > 0 : min(ratio, 3)",
    "let drift = |log_ratio|",
    "param epsilon : log = 0.02 in (0, 1)",
    "levels token < trajectory < group by uid",
    "signal log_ratio split after clip(20)",
    "at group { base rollback(+budget, -0.5 * budget) budget per cell { a: 0.1, else: 0.2 } }",
    "at trajectory { aggregate sum over token base clip(0.1) }",
    "at token { base censor(0.1, over trajectory) }",
    "at token { fiber drop }",
    "reduce mean over trajectory, sum over token / 8",
    "require bounded",
    "require block_diagonal over token",
    "require trust_region tv <= 0.1",
    "waive continuous",
)


CHANGES = ("replace",) * 8 + ("swap", "delete", "double", "line", "lines") + ("insert",) * 3


@cache
def corpus() -> tuple[tuple[Path, str], ...]:
    """The shipped specs, and as many wrong ones."""
    shipped = sorted(folder("specs").glob("*.fib"))
    wrong = sorted(BAD.glob("*.fib"))
    paths = [*shipped, *wrong[:: len(wrong) // len(shipped)]]
    return tuple((path, path.read_text(encoding="utf-8")) for path in paths)


def kind(token: str) -> str:
    """Tokens of one kind stand in for each other."""
    if token[0].isalpha() or token[0] == "_":
        return "keyword" if KEYWORDS.fullmatch(token) else "name"
    if token[0].isdigit() or (token[0] == "." and len(token) > 1):
        return "number"
    return {"+": "operator", "-": "operator", "*": "operator", "/": "operator"}.get(token, token)


def mutated(text: str, rnd: random.Random) -> str:
    """The text with one or two tokens or statements deleted, doubled, swapped or replaced."""
    for _ in range(rnd.randint(1, 2)):
        tokens, lines = TOKEN.findall(text), text.split("\n")
        places = [i for i, token in enumerate(tokens) if token.strip()]
        rows = [row for row, line in enumerate(lines) if line.startswith("  ")] or [0]
        i, row, other = rnd.choice(places), rnd.choice(rows), rnd.choice(rows)
        alike = [j for j in places if kind(tokens[j]) == kind(tokens[i])]
        match rnd.choice(CHANGES):
            case "replace" if kind(tokens[i]) in ("name", "number"):
                donor = TOKEN.findall(rnd.choice(corpus())[1])
                same = [t for t in donor if t.strip() and kind(t) == kind(tokens[i])]
                other_one = rnd.choice(same or ["x"])
                tokens[i] = rnd.choice([other_one, other_one, rnd.choice(EXPRESSIONS)])
            case "replace" | "swap":
                j = rnd.choice(alike)
                tokens[i], tokens[j] = tokens[j], tokens[i]
            case "delete":
                tokens[i] = ""
            case "double":
                tokens[i] = f"{tokens[i]} {tokens[i]}"
            case "insert":
                lines.insert(row, f"  {rnd.choice(STATEMENTS)}")
            case "line":
                lines[row : row + 1] = rnd.choice(([], [lines[row]] * 2))
            case "lines":
                lines[row], lines[other] = lines[other], lines[row]
        text = "".join(tokens) if tokens != TOKEN.findall(text) else "\n".join(lines)
    return text


@pytest.mark.parametrize("seed", range(6))
def test_checking_raises_nothing(seed: int) -> None:
    rnd = random.Random(seed)
    read = 0
    for _ in range(60):
        path, text = rnd.choice(corpus())
        checked = driver.check(Source(str(path), mutated(text, rnd)))
        found = checked.diagnostics
        assert render(found) or not found
        assert all(
            d.message and (d.span is None or d.span.end <= len(d.source.text)) for d in found
        )
        said = [(d.code, d.source.path, d.span, d.message) for d in found]
        assert len(set(said)) == len(said)  # nothing is said twice
        read += not any(d.code in ("FIB001", "FIB002") for d in found)
    assert read > 20  # not all of it is spent on the form of the text
