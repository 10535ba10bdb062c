"""The generated module: it stands alone, says where it is from, and holds nothing but its spec.

No test here runs Inductor: the same code is run eagerly.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import io
import keyword
import math
import os
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fibc
import fibdsl
from fibdsl.objective import Objective
from fibdsl.resources import shipped_specs
from tests import deep

ROOTS = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]
SHIPPED = sorted(shipped_specs())
FIBERPO = fibdsl.load("fiberpo")


# --- what the text holds ------------------------------------------------------------------------


def own_statements(text: str) -> list[ast.stmt]:
    """The statements that come from the spec: all but imports, the runtime and the class Loss."""
    own, marker, rest = text.partition("\n# The runtime of fibdsl ")
    _, assignment, rest = rest.partition("\nOBJECTIVE = ")
    assert marker
    assert assignment
    statements = ast.parse(own + assignment + rest.partition("\n\n\nclass Loss(")[0]).body
    return [s for s in statements if not isinstance(s, ast.Import | ast.ImportFrom)]


def defined(statements: list[ast.stmt]) -> set[str]:
    """The functions and classes that these statements define."""
    return {s.name for s in statements if isinstance(s, ast.FunctionDef | ast.ClassDef)}


def heading(text: str) -> str:
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring is not None
    return docstring


TEXTS = {name: fibdsl.load(name).source() for name in SHIPPED}
OWN = {name: own_statements(text) for name, text in TEXTS.items()}
WHOLE = ast.parse(TEXTS["fiberpo"]).body
RUNTIME = defined(WHOLE) - defined(OWN["fiberpo"])
IMPORTED = {
    alias.asname or alias.name.partition(".")[0]
    for statement in WHOLE
    if isinstance(statement, ast.Import | ast.ImportFrom)
    for alias in statement.names
}


def namespace(text: str) -> dict[str, Any]:
    """The module's names, executed as its own file would be."""
    module = types.ModuleType(f"generated_{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    sys.modules[module.__name__] = module
    exec(builtins.compile(text, "<generated>", "exec"), module.__dict__)
    return module.__dict__


@pytest.mark.parametrize("name", SHIPPED)
def test_imports_only_torch_and_the_standard_library(name: str) -> None:
    tops = set()
    for node in ast.walk(ast.parse(TEXTS[name])):
        if isinstance(node, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            tops.add((node.module or "").partition(".")[0])
    assert "torch" in tops
    assert tops - {"torch"} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", SHIPPED)
def test_heading(name: str) -> None:
    objective = fibdsl.load(name)
    text = heading(TEXTS[name])
    spec = shipped_specs()[name].read_bytes()
    assert text.startswith(f"{name}: {objective.doc}\n")
    for part in (
        f"fibdsl {fibdsl.__version__} from {name}.fib, edition 2026, ",
        f"sha256 {hashlib.sha256(spec).hexdigest()[:16]}",
        *(level.name for level in objective.typed.levels),
        *objective.keys,
        *objective.params,
    ):
        assert part in text


@pytest.mark.parametrize("name", SHIPPED)
def test_the_module_says_what_it_means(name: str) -> None:
    found = namespace(TEXTS[name])["SEMANTIC_HASH"]
    assert re.fullmatch(r"[0-9a-f]{16}", found)
    assert found == fibdsl.load(name).semantic_hash


def test_modules_of_one_meaning_have_one_hash() -> None:
    """Values a module starts with are not what it means; the defaults of its spec are."""
    hashes = {name: namespace(text)["SEMANTIC_HASH"] for name, text in TEXTS.items()}
    assert len(set(hashes.values())) == len(TEXTS)
    other = namespace(fibdsl.load("fiberpo", epsilon=0.01).source())
    assert other["SEMANTIC_HASH"] == hashes["fiberpo"]


def test_text_is_deterministic() -> None:
    code = """\
        import hashlib, sys, fibdsl
        for name in sys.argv[1:]:
            print(hashlib.sha256(fibdsl.load(name).source().encode()).hexdigest())
    """
    others = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *SHIPPED],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert others == [[hashlib.sha256(text.encode()).hexdigest() for text in TEXTS.values()]] * 2


ALLOWED: tuple[type[ast.AST], ...] = (
    *(ast.Expr, ast.Constant, ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Subscript),
    *(ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.Return, ast.Call, ast.keyword),
    *(ast.Tuple, ast.List, ast.Dict, ast.UnaryOp, ast.USub, ast.BinOp, ast.Compare),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitOr, ast.BitAnd),
    *(ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq),
)
METHODS = {
    *("abs", "clamp", "to", "values", "dtype"),
    *("sum", "sums", "collect", "collects", "lift", "pull", "total", "spread"),
}
TORCH = {"where", "zeros_like", "ones_like", "relu", "log", "isnan", "exp"}
TORCH |= {"sigmoid", "tanh", "sqrt"}
BUILTINS = {"list"}


def check_only_arithmetic(own: list[ast.stmt]) -> None:
    """Nothing but assignments of arithmetic and of calls to functions that are known here."""
    functions = RUNTIME | defined(own)
    for statement in own:
        assert isinstance(statement, ast.FunctionDef | ast.Assign | ast.Expr)
        for node in ast.walk(statement):
            assert isinstance(node, ALLOWED), ast.dump(node)
            if isinstance(node, ast.Attribute):
                root = node.value
                if isinstance(root, ast.Name) and root.id in ("torch", "math"):
                    assert node.attr in (TORCH if root.id == "torch" else {"inf"})
                else:
                    assert node.attr in METHODS
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id in functions | BUILTINS
            elif isinstance(node, ast.Expr):
                assert isinstance(node.value, ast.Constant)
                assert isinstance(node.value.value, str)
        if isinstance(statement, ast.FunctionDef):
            check_names(statement, functions)


def check_names(function: ast.FunctionDef, functions: set[str]) -> None:
    """Names are set before they are read, and hide nothing of the module or of Python."""
    local = {argument.arg for argument in function.args.args}
    outside = functions | BUILTINS | {"torch", "math"}
    known = local | outside
    assert not local & outside
    for statement in function.body:
        names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
        assert {n.id for n in names if isinstance(n.ctx, ast.Load)} <= known
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        assert not stored & outside
        assert not any(keyword.iskeyword(name) for name in stored)
        known |= stored


@pytest.mark.parametrize("name", SHIPPED)
def test_only_arithmetic(name: str) -> None:
    check_only_arithmetic(OWN[name])


def test_floats_round_trip() -> None:
    spec = """\
        objective floats {
          param a : log = 0.30000000000000004 in (5e-324, 1.7976931348623157e308]
          param b : pure = 1e22 in [9007199254740993, inf)
          param c : log = 0.123456789012345678 in (0, 1)
          signal log_ratio
          levels token < trajectory
          at trajectory { base rollback(+0.1, -2.2250738585072014e-308, k = 1234567.1234567891) }
          at token { fiber clip(+(0.7 + 0.1), -a / 3.0000000000000004) pessimistic }
          reduce mean over token
        }
    """
    text = fibdsl.load_text(spec).source()
    floats = {
        node.value
        for statement in own_statements(text)
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    }
    assert floats >= {
        *(0.30000000000000004, 5e-324, 1.7976931348623157e308),
        *(1e22, 9007199254740992.0, 0.123456789012345678),
        *(0.1, 2.2250738585072014e-308, 1234567.1234567891),
        *(0.7 + 0.1, 3.0000000000000004),
    }
    assert all(math.isfinite(value) for value in floats)
    b = namespace(text)["OBJECTIVE"].params["b"]
    assert (b.low, b.high, b.high_open) == (9007199254740992, math.inf, True)


# --- texts that try to be code ------------------------------------------------------------------

DOCS = [
    "a'b '' ''' c",
    "ends with a backslash \\",
    "ends with two \\\\",
    r"\n \t \x41 \u0041 \N{BULLET} \101 \'\'\' \\n",
    "''' + __import__('os').system('false') + '''",
    "{x} {0} %s %(x)s ${x} `x`",
    "# comment // -- ;",
    "a\rb\x0cc\x0bd\u2028e\u2029f\x85g\x00h\x1a\ufeff",
    "\u202eright to left\u202c, é ε 🎈",
    "'",
    " ",
    "",
]


def with_doc(doc: str) -> str:
    return f"""\
objective o {{
  doc "{doc}"
  param a : log = 0.1 in (0, 1)
  signal log_ratio
  levels token < trajectory
  at token {{ base clip(a) }}
  reduce mean over token
}}
"""


def after_heading(text: str) -> str:
    """The module's text without its first statement, the docstring."""
    first = ast.parse(text).body[0]
    assert isinstance(first, ast.Expr)
    return "\n".join(text.split("\n")[first.end_lineno :])


PLAIN = fibdsl.load_text(with_doc("plain")).source()


@pytest.mark.parametrize("doc", DOCS)
def test_a_doc_stays_a_text(doc: str) -> None:
    objective = fibdsl.load_text(with_doc(doc))
    assert objective.doc == doc
    text = objective.source()
    # Safe also when it has been through a file, whose line ends are translated.
    for version in (text, io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8").read()):
        assert heading(version).startswith(f"o: {doc or 'a policy loss'}\n\nGenerated by fibdsl")
        assert after_heading(version) == after_heading(PLAIN)
    assert objective.compile(backend=None).params == {"a": 0.1}


@pytest.mark.parametrize("file", ['""".fib', "a\\", "'''\n import os #.fib", "{x}%s\u2028.fib"])
def test_a_file_name_stays_a_text(file: str) -> None:
    objective = fibdsl.load_text(with_doc("plain"), path=f"/some/folder/{file}")
    text = objective.source()
    assert f" from {file}, edition 2026, " in heading(text)
    assert "/some/folder" not in text
    assert after_heading(text) == after_heading(PLAIN)


def test_comments_and_spellings_of_a_spec_are_not_copied() -> None:
    text = fibdsl.load_text(with_doc("plain").replace("0.1", "1.0e-01 # import os\n")).source()
    assert "import os" not in text
    assert after_heading(text) == after_heading(PLAIN)


# --- names that are words of Python, of torch, or of the module ---------------------------------

VALUES = {
    node.id
    for name in ("fiberpo", "gspo", "apc")
    for statement in OWN[name]
    for node in ast.walk(statement)
    if isinstance(node, ast.Name)
}
OTHERS = """
    list len sum max print type exec eval open id all map set vars input super
    __debug__ __import__ __name__ __doc__ __build_class__ __class__ __ _ x_ torch_
    x a C k y self cls params levels mask loss metrics objective normalizer keys
    trajectory batch token size tokens inf abs uid logp up down plus minus deviation
    OBJECTIVE Loss BLOCK STAGES INPUTS S J K n u g y_token gate_clip clip rollback
    backend value weight of over in by base fiber require doc edition
"""
WORDS = sorted(
    {*keyword.kwlist, *keyword.softkwlist, *RUNTIME, *IMPORTED, *VALUES, *OTHERS.split()}
)

Words = tuple[str, ...]
LEVELS: Words = ("one", "two", "three", "four")
KEYS: Words = ("ka", "kb", "kc", "kd")
PARAMS: Words = ("pa", "pb", "pc", "pd")


def named(level: Words, key: Words, param: Words, title: str) -> str:
    """A spec of six levels, with four names of each kind."""
    return f"""\
objective {title} {{
  param {param[0]} : log = 0.06 in (0, 1)
  param {param[1]} : log = 0.04 in (0, 1)
  param {param[2]} : pure = 3 in (1, 9)
  param {param[3]} : log = 0.05 in (0, 1)
  signal log_ratio split
  levels token < {level[0]} by {key[0]} < {level[1]} by {key[1]} < trajectory
       < {level[2]} by {key[2]} < {level[3]} by {key[3]}
  at {level[3]} {{ base rollback(+{param[0]}, -{param[1]}) }}
  at {level[2]} {{ fiber rollback(+{param[3]} / 2, -0.05, k = {param[2]} + tokens) pessimistic }}
  at trajectory {{ fiber clip({param[1]} + {param[0]}) pessimistic }}
  at {level[1]} {{ fiber pass }}
  at {level[0]} {{ fiber clip(+{param[3]}, -0.05) }}
  at token {{ fiber clip({param[1]}) pessimistic }}
  reduce mean over {level[2]}, mean over trajectory, mean over token
}}
"""


def light(level: Words, key: Words, param: Words) -> str:
    """The same names in a spec that is checked in no time."""
    given = " ".join(f"param {name} : pure = 1 in (0, 2)" for name in param)
    return f"""\
objective o {{
  {given}
  signal log_ratio
  levels token < {level[0]} by {key[0]} < {level[1]} by {key[1]} < trajectory
       < {level[2]} by {key[2]} < {level[3]} by {key[3]}
  surrogate ratio * ({" + ".join(param)})
  reduce {", ".join(f"mean over {name}" for name in reversed(level))}, mean over token
}}
"""


def accepted(role: str, words: Words) -> bool:
    """Whether the language takes these words as names of this kind; some are its own."""
    names = {"level": LEVELS, "key": KEYS, "param": PARAMS}
    names[role] = (*words, *names[role][len(words) :])
    try:
        fibdsl.load_text(light(**names))
    except fibdsl.FibError as error:
        codes = {d.code for d in error.diagnostics}
        if not codes & {"FIB001", "FIB104", "FIB202", "FIB203"}:
            raise
        return False
    return True


def groups(role: str) -> list[Words]:
    """The words that may have this role, four and four."""
    words: list[str] = []
    for group in in_fours(WORDS):
        words += group if accepted(role, group) else [w for w in group if accepted(role, (w,))]
    return in_fours([*words, *LEVELS[: -len(words) % 4]])


def in_fours(words: list[str]) -> list[Words]:
    return [tuple(words[i : i + 4]) for i in range(0, len(words), 4)]


def batch() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    mask = np.arange(7) < np.array([7, 5, 0, 3, 7, 1])[:, None]
    old = -rng.exponential(1.0, mask.shape)
    logp = old + rng.normal(0, 0.1, mask.shape) + rng.normal(0, 0.06, (6, 1))
    return {
        "logp": np.where(mask, logp, np.nan),
        "old_logp": old,
        "advantages": rng.normal(size=mask.shape),
        "mask": mask,
    }


POSITION = np.arange(42).reshape(6, 7)
IDS = (POSITION // 2, POSITION // 4, np.arange(6) // 2, np.arange(6) // 4)


def check_against_the_reference(objective: Objective, keys: dict[str, NDArray[Any]]) -> float:
    """Loss, gradient and metrics of the module are the reference interpreter's; gives the loss."""
    tensors = batch()
    expected = objective.evaluate(**tensors, keys=keys)
    text = objective.source()
    check_only_arithmetic(own_statements(text))
    loss_fn = namespace(text)["Loss"](backend=None)
    given = {name: torch.from_numpy(array) for name, array in tensors.items()}
    logp = given.pop("logp").requires_grad_()
    out = loss_fn(logp, **given, keys={name: torch.from_numpy(ids) for name, ids in keys.items()})
    out.loss.backward()
    assert out.loss.item() == pytest.approx(expected.loss, rel=1e-12, abs=1e-12)
    assert logp.grad is not None
    np.testing.assert_allclose(logp.grad.numpy(), expected.gradient, rtol=1e-12, atol=1e-12)
    assert set(out.metrics) == set(expected.metrics)
    found = torch.stack([out.metrics[name] for name in expected.metrics]).numpy()
    np.testing.assert_allclose(found, list(expected.metrics.values()), rtol=1e-12, atol=1e-12)
    return expected.loss


@pytest.mark.parametrize("part", deep.cases(range(3), 1))
def test_any_name_works(part: int) -> None:
    """Each word as a level, as a key and as a parameter, in one spec where the language allows: a
    third of the words."""
    levels, keys, params = groups("level"), groups("key"), groups("param")
    asked = {"lambda", "torch", "x", "Loss", "mean", "class", "params", "self", "x_plus"}
    for role in (levels, keys, params):
        assert {word for group in role for word in group} >= asked
    assert {"trajectory", "S_trajectory"} <= {word for group in params for word in group}
    neutral = fibdsl.load_text(named(LEVELS, KEYS, PARAMS, "o"))
    expected = check_against_the_reference(neutral, dict(zip(KEYS, IDS, strict=True)))
    for index in range(part, max(map(len, (levels, keys, params))), 3):
        # Much the same words in each role at once.
        level, key, param = (group[index % len(group)] for group in (levels, keys, params))
        objective = fibdsl.load_text(named(level, key, param, title="torch"))
        assert check_against_the_reference(objective, dict(zip(key, IDS, strict=True))) == expected


@pytest.mark.parametrize("word", ["self", "backend"])
def test_a_parameter_named_like_an_argument_of_loss(word: str) -> None:
    text = with_doc("plain").replace("param a", f"param {word}").replace("clip(a)", f"clip({word})")
    check_against_the_reference(fibdsl.load_text(text), {})


@pytest.mark.parametrize(
    "word",
    ["up", "down", "abs", "token_", "plus", "J", "S", "n", "weighted"],
)
def test_metrics_do_not_depend_on_what_a_level_is_called(word: str) -> None:
    text = """\
        objective o {
          signal ratio
          levels token < %s by ids < trajectory
          at trajectory { base clip(0.1) pessimistic }
          at %s { fiber pass }
          at token { fiber pass }
          reduce mean over token
        }
    """
    expected = fibdsl.load_text(text % ("one", "one")).evaluate(**batch(), keys={"ids": IDS[0]})
    found = fibdsl.load_text(text % (word, word)).evaluate(**batch(), keys={"ids": IDS[0]})
    metrics = {name.replace("/one", f"/{word}"): v for name, v in expected.metrics.items()}
    assert found.metrics == metrics


# --- the module by itself -----------------------------------------------------------------------


def test_runs_where_fibdsl_is_not(tmp_path: Path) -> None:
    objective = fibdsl.load("fiberpo_domain", epsilon=0.03)
    (tmp_path / "loss.py").write_text(objective.source(), encoding="utf-8")
    tensors = batch()
    keys: dict[str, Any] = {"uid": IDS[2], "data_source": IDS[3]}
    np.savez(tmp_path / "batch.npz", **tensors, **keys)
    code = f"""\
        import importlib.util, sys
        # As if they were not installed: importing them raises ImportError.
        sys.modules["fibdsl"] = sys.modules["fibc"] = None
        spec = importlib.util.spec_from_file_location("loss", {str(tmp_path / "loss.py")!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["loss"] = module
        spec.loader.exec_module(module)
        import numpy, torch
        with numpy.load({str(tmp_path / "batch.npz")!r}) as file:
            t = {{name: torch.from_numpy(file[name]) for name in file.files}}
        keys = {{"uid": t.pop("uid"), "data_source": t.pop("data_source")}}
        t["logp"].requires_grad_()
        out = module.Loss(backend=None, epsilon=0.03)(**t, keys=keys)
        out.loss.backward()
        print(repr(out.loss.item()), repr(t["logp"].grad.abs().sum().item()))
        print([m for m in sys.modules if m.partition(".")[0] in ("lark", "pydantic", "fibc")][1:])
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    numbers, others = done.stdout.splitlines()
    loss, gradient = map(float, numbers.split())
    expected = objective.evaluate(**tensors, keys=keys)
    assert loss == pytest.approx(expected.loss, rel=1e-12)
    assert gradient == pytest.approx(np.abs(expected.gradient).sum(), rel=1e-12)
    assert others == "[]"


def test_parameters_of_the_constructor() -> None:
    Loss = namespace(TEXTS["fiberpo"])["Loss"]
    assert Loss(None).params == dict(FIBERPO.params)
    assert Loss(backend=None, epsilon=0.01).params == dict(FIBERPO.params) | {"epsilon": 0.01}
    with pytest.raises(ValueError, match="has no parameter 'eps'"):
        Loss(None, eps=0.1)
    with pytest.raises(ValueError, match=r"epsilon = 1 is outside its range \(0, 1\)"):
        Loss(None, epsilon=1)


def test_set_params_is_all_or_nothing() -> None:
    loss_fn = namespace(TEXTS["fiberpo"])["Loss"](None)
    before = loss_fn.params
    for wrong in (
        {"c_plus": 0.15, "epsilon": 0.0},
        {"c_plus": 0.15, "epsilon": float("nan")},
        {"c_plus": 0.15, "c_minus": float("inf")},
        {"c_plus": 0.15, "budget": 0.1},
        {"c_plus": 0.15, "epsilon": "0.1"},
        {"c_plus": 0.15, "epsilon": True},
    ):
        with pytest.raises(ValueError, match=r"epsilon|c_minus|budget"):
            loss_fn.set_params(**wrong)
        assert loss_fn.params == before
    copy = loss_fn.params
    copy["epsilon"] = 5.0
    assert loss_fn.params == before
    loss_fn.set_params(c_plus=0.15, epsilon=0.01)
    assert loss_fn.params == before | {"c_plus": 0.15, "epsilon": 0.01}


def test_set_params_changes_the_loss() -> None:
    tensors = {name: torch.from_numpy(array) for name, array in batch().items()}
    loss_fn = FIBERPO.compile(backend=None)
    first = loss_fn(**tensors).loss.item()
    loss_fn.set_params(epsilon=0.005)
    expected = FIBERPO.with_params(epsilon=0.005).evaluate(**batch())
    assert loss_fn(**tensors).loss.item() == pytest.approx(expected.loss, rel=1e-12)
    assert expected.loss != first


def test_the_guard_keeps_promises() -> None:
    loss_fn = FIBERPO.compile(backend=None)
    before = loss_fn.params
    with pytest.raises(fibdsl.FibError) as error:
        loss_fn.set_params(epsilon=0.01, c_plus=0.9)
    assert [d.code for d in error.value.diagnostics] == ["FIB501"]
    assert loss_fn.params == before
    # A module from a file has no checker at hand: it knows the ranges only.
    alone = namespace(TEXTS["fiberpo"])["Loss"](None)
    alone.set_params(c_plus=0.9)
    assert alone.params["c_plus"] == 0.9


def test_parameters_travel_in_the_state() -> None:
    loss_fn = FIBERPO.compile(backend=None)
    loss_fn.set_params(epsilon=0.01, c_minus=0.05)
    file = io.BytesIO()
    torch.save(loss_fn.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for other in (FIBERPO.compile(backend=None), namespace(TEXTS["fiberpo"])["Loss"](None)):
        assert other.params != loss_fn.params
        assert other.load_state_dict(state).missing_keys == []
        assert other.params == loss_fn.params
    # A state that breaks a promise is refused as a whole.
    other = FIBERPO.compile(backend=None)
    [key] = state
    with pytest.raises((fibdsl.FibError, RuntimeError)):
        other.load_state_dict({key: state[key] | {"c_plus": 0.9}})
    assert other.params == dict(FIBERPO.params)
