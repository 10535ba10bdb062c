"""`fib` as a process: exit codes, help, what is imported, pipes that close early."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fibc
import fibdsl
from fibc import driver
from fibdsl.cli.main import COMMANDS, main, parser

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
# Where the packages under test are, for processes that do not have pytest's import path.
ROOTS = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "PYTHONIOENCODING": "utf-8"}
ENVIRONMENT["PYTHONSAFEPATH"] = "1"  # the checkout is not where they are
NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]


def python(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT | environment,
        timeout=60,
    )


# --- the process --------------------------------------------------------------------------------


def test_a_session(tmp_path: Path) -> None:
    """The first session that `fib --help` shows, from an empty folder."""

    def fib(*arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-m", "fibdsl", *arguments, cwd=tmp_path)

    (tmp_path / "mine.fib").write_text(fib("specs", "fiberpo").stdout, encoding="utf-8")
    checked = fib("check", "mine.fib")
    assert (checked.returncode, checked.stdout) == (0, "")
    compiled = fib("compile", "mine.fib", "-o", "loss.py")
    assert (compiled.returncode, compiled.stdout) == (0, "")
    assert "class Loss" in (tmp_path / "loss.py").read_text(encoding="utf-8")
    batch = str(DATA / "rollouts_near.safetensors")
    shown = fib("eval", "mine.fib", "--batch", batch, "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["tokens"] == 1374
    (tmp_path / "mine.fib").write_text("objective {", encoding="utf-8")
    assert fib("check", "mine.fib").returncode == 1
    assert fib("compile", "gone.fib").returncode == 2
    assert fib("retrain").returncode == 2


def test_console_script() -> None:
    # Installed beside the interpreter, by a wheel and by an editable install alike.
    script = Path(sys.executable).with_name("fib")
    if not script.exists():
        pytest.skip("fibdsl is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"fib {fibdsl.__version__}\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently")
@pytest.mark.parametrize("command", ["compile fiberpo_domain", "specs"])
def test_a_reader_that_stops_early(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fibdsl", *command.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_closed_standard_output() -> None:
    shell = f"'{sys.executable}' -m fibdsl compile fiberpo >&-"
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_the_characters(tmp_path: Path) -> None:
    path = tmp_path / "ε.fib"
    path.write_text("objective small { levels token < εε }", encoding="utf-8")
    done = python("-m", "fibdsl", "check", str(path), PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "\\u03b5.fib" in done.stdout
    assert "Traceback" not in done.stderr


# --- what is imported ---------------------------------------------------------------------------

REPORT = (
    "; import sys, json; print('\\n' + json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
)


def imported(code: str) -> set[str]:
    """The top-level modules a fresh process has after running `code`."""
    done = python("-c", code + REPORT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: str) -> str:
    return f"from fibdsl.cli.main import main; assert main({list(arguments)!r}) == 0"


def test_importing_fibdsl_is_light() -> None:
    modules = imported("import fibdsl; dir(fibdsl); fibdsl.__version__")
    assert "fibdsl" in modules
    heavy = {"torch", "lark", "numpy", "pydantic", "yaml", "safetensors", "fibc", "argparse"}
    assert not modules & heavy


def test_check_imports_no_number_library() -> None:
    modules = imported(command("check", "fiberpo", "apc"))
    assert "fibc" in modules
    assert not modules & {"torch", "numpy", "pydantic", "safetensors"}


def test_compile_imports_no_torch(tmp_path: Path) -> None:
    modules = imported(command("compile", "fiberpo", "-o", str(tmp_path / "loss.py")))
    assert "fibc" in modules
    assert not modules & {"torch", "pydantic", "safetensors"}


def test_eval_imports_no_torch() -> None:
    batch = str(DATA / "rollouts_near.safetensors")
    modules = imported(command("eval", "fiberpo", "--batch", batch))
    assert "numpy" in modules
    assert "torch" not in modules


def test_loading_by_the_api_imports_no_torch() -> None:
    assert "torch" not in imported("import fibdsl; fibdsl.load('fiberpo').source()")


# --- help ---------------------------------------------------------------------------------------


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for name in NAMES:
        assert f"fib {name}" in text
    assert "exit codes: 0 clean, 1 findings, 2 usage or input/output, 3 a bug of fibdsl" in text


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_teaches(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = help_of(capsys, name)
    assert f"usage: fib {name}" in text
    # An example that can be typed as it stands, up to the file names.
    [example] = re.findall(r"example: (fib [^>]*)", text)
    words = example.split()
    assert words[1] == name
    options = parser().parse_args(words[1:])
    assert options.command == name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fib {fibdsl.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["train"], ["check"], ["specs", "a", "b"], ["--flag"]])
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: fib" in capsys.readouterr().err


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [fibdsl.InternalError("two stages disagree"), KeyError("level"), RecursionError("deep")],
)
def test_a_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def broken(source: object) -> None:
        raise error

    monkeypatch.setattr(driver, "check", broken)
    assert main(["check", "fiberpo"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert type(error).__name__ in err
    assert "Traceback" in err
    assert "this is a bug of fibdsl; please report it" in err.splitlines()[-1]


def test_an_interrupt_is_not_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    from fibdsl.cli.main import entry

    def interrupted(source: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "check", interrupted)
    monkeypatch.setattr(sys, "argv", ["fib", "check", "fiberpo"])
    with pytest.raises(SystemExit) as stop:
        entry()
    assert stop.value.code == 130
