"""`fib rule`: the list, a record for people and for programs, and codes that are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fibc
import fibdsl
from fibdsl.cli.main import main


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["rule", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    codes = [line.split()[0] for line in lines]
    assert codes == sorted(codes)
    rows = {tuple(line.split(maxsplit=3)) for line in lines}
    assert (
        "FIB206",
        "reduce-order",
        "error",
        "reduce steps that are not nested, coarse to fine",
    ) in rows
    assert (
        "FIB601",
        "unused-param",
        "warning",
        "a parameter, or a budget per cell, that nothing uses",
    ) in rows
    assert {row[2] for row in rows if row[0] < "FIB600"} == {"error"}
    assert {row[2] for row in rows if row[0] >= "FIB600"} == {"warning"}


UNUSED = """\
FIB698 unused-allow (warning)
an `allow` of a lint that finds nothing there

It was left behind when the spec changed, or stands on the wrong line; the next
finding of that kind on its line would be hidden.

found in:

    objective o {
      signal ratio
      levels token < trajectory
      at token { base clip(0.2) pessimistic }  # fib: allow[FIB602] the budgets are symmetric on \
purpose
      reduce mean over token
    }

mended:

    objective o {
      signal ratio
      levels token < trajectory
      at token { base clip(0.2) pessimistic }
      reduce mean over token
    }

The mend does not change the loss.
"""


def test_a_record_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "FIB698") == UNUSED


def test_what_a_mend_does_and_how_to_allow(capsys: pytest.CaptureFixture[str]) -> None:
    lint = printed(capsys, "FIB606")
    assert lint.endswith(
        "The mend changes the loss: whoever owns the objective decides.\n"
        "Where it is meant, say why on its line or the one before:\n\n"
        "    # fib: allow[FIB606] the reason\n"
    )
    error = printed(capsys, "FIB301")
    assert error.endswith("A spec with an error has no loss; mending it gives it one.\n")
    assert "allow" not in error
    of_no_file = printed(capsys, "FIB107")
    assert "objective o" not in of_no_file
    assert of_no_file.endswith("There is no one way to mend it.\n")


def test_several_in_the_order_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "FIB606", "FIB101").splitlines()
    titles = [line for line in lines if line.startswith("FIB")]
    assert titles == ["FIB606 token-ratio-sequence-mean (warning)", "FIB101 unknown-name (error)"]


@pytest.mark.parametrize("word", ["FIB602", "fib602", "kl-bias", "KL-Bias"])
def test_a_code_or_a_name(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert printed(capsys, word).startswith("FIB602 kl-bias (warning)\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, "FIB402", "FIB602", "FIB107", "--json"))
    assert list(document) == ["rules"]
    budget, bias, override = document["rules"]
    keys = "code name severity summary why example mended fix allowable"
    assert [list(rule) for rule in document["rules"]] == [keys.split()] * 3
    assert budget["severity"] == "error"
    assert (budget["fix"], budget["allowable"]) == ("safe", False)
    assert "clip(epsilon - 0.1)" in budget["example"]
    assert "clip(epsilon / 2)" in budget["mended"]
    assert (bias["severity"], bias["fix"], bias["allowable"]) == ("warning", "unsafe", True)
    assert (override["example"], override["mended"], override["fix"]) == (None, None, "none")


def test_json_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [line.split()[0] for line in printed(capsys).splitlines()]
    rules = json.loads(printed(capsys, "--json"))["rules"]
    assert [rule["code"] for rule in rules] == listed


@pytest.mark.parametrize(
    ("word", "help"),
    [
        ("FIB60", "did you mean `FIB6"),
        ("fib999", "did you mean `FIB"),
        ("kl-bais", "did you mean `kl-bias`?"),
        ("zzz", "`fib rule` lists them"),
    ],
)
def test_unknown(capsys: pytest.CaptureFixture[str], word: str, help: str) -> None:
    assert main(["rule", "FIB101", word]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fib rule: no rule '{word}'; {help}")


def test_it_is_light() -> None:
    roots = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]
    code = (
        "import sys; from fibdsl.cli.main import main; assert main(['rule', 'FIB602']) == 0; "
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
