"""action.yml: its steps, run by bash as GitHub runs them, on good and bad specs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hooks.test_pre_commit import BAD, GOOD

ACTION = Path(__file__).resolve().parents[2] / "action.yml"
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.skipif(not ACTION.exists(), reason="the action is in the repository only"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]

UNUSED = GOOD.replace("\n  signal", "  param spare : log = 1 in (0, 2)\n\n  signal")


@pytest.fixture
def action() -> dict[str, Any]:
    content = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "specs").mkdir(parents=True)
    return folder


def run_step(
    step: dict[str, Any], inputs: dict[str, str], workspace: Path
) -> subprocess.CompletedProcess[str]:
    """One step: its script as it stands, its environment with the inputs put in."""
    environment = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: inputs[m[1]], text)
        for name, text in step.get("env", {}).items()
    }
    script = workspace.parent / "step.sh"
    script.write_text(step["run"], encoding="utf-8")
    # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=workspace,
        env={
            "PATH": os.pathsep.join((str(BIN), os.environ["PATH"])),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_STEP_SUMMARY": str(workspace.parent / "summary.md"),
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "PYTHONIOENCODING": "utf-8",
            **environment,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def check(
    action: dict[str, Any], workspace: Path, **given: str
) -> subprocess.CompletedProcess[str]:
    """The action without its install step."""
    if not (BIN / "fib").exists():
        pytest.skip("fibdsl is not installed here")
    inputs = {name: entry["default"] for name, entry in action["inputs"].items()}
    inputs |= {name.replace("_", "-"): text for name, text in given.items()}
    _, step = action["runs"]["steps"]
    return run_step(step, inputs, workspace)


def write(workspace: Path, name: str, text: str) -> None:
    (workspace / name).write_text(text, encoding="utf-8")


def summary(workspace: Path) -> str:
    return (workspace.parent / "summary.md").read_text(encoding="utf-8")


# --- its form -----------------------------------------------------------------------------------


def test_its_form(action: dict[str, Any]) -> None:
    assert set(action) == {"name", "description", "inputs", "runs"}
    assert action["runs"]["using"] == "composite"
    for name, entry in action["inputs"].items():
        assert set(entry) == {"description", "default"}, name
        assert isinstance(entry["default"], str)
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        # An input in a script would be run; in the environment it is only text.
        assert "${{" not in step["run"]
        used = re.findall(r"\$\{\{(.*?)\}\}", " ".join(step.get("env", {}).values()))
        assert {name.strip().removeprefix("inputs.") for name in used} <= set(action["inputs"])


def test_it_installs_everything_but_torch(action: dict[str, Any], workspace: Path) -> None:
    """With a python that only writes down what it would install."""
    fake = workspace.parent / "bin"
    fake.mkdir()
    asked = workspace.parent / "asked"
    write(
        fake,
        "python",
        f'#!/bin/sh\nif [ "$1" = - ]; then exec "{sys.executable}" "$@"; fi\n'
        f'echo "$@" >> "{asked}"\n'
        f'while [ $# -gt 0 ]; do if [ "$1" = -r ]; then cat "$2" >> "{asked}"; fi; shift; done\n',
    )
    (fake / "python").chmod(0o755)
    step, _ = action["runs"]["steps"]
    assert step["if"] == "inputs.install == 'true'"
    step = {**step, "env": {"PATH": os.pathsep.join((str(fake), os.environ["PATH"]))}}
    done = run_step(step, {}, workspace)
    assert (done.returncode, done.stderr) == (0, "")
    first, *needs, last = asked.read_text(encoding="utf-8").splitlines()
    assert first.startswith("-m pip install")
    assert {re.split("[<>=]", need)[0] for need in needs} == {
        "lark",
        "pydantic",
        "pyyaml",
        "numpy",
        "safetensors",
    }
    assert last.endswith(f"--no-deps {ACTION.parent}")


# --- what it does -------------------------------------------------------------------------------


def test_good(action: dict[str, Any], workspace: Path) -> None:
    write(workspace, "specs/good.fib", GOOD)
    done = check(action, workspace)
    assert (done.returncode, done.stdout) == (0, "")
    assert summary(workspace) == "### fib check: 1 file, no findings\n"


def test_bad(action: dict[str, Any], workspace: Path) -> None:
    write(workspace, "specs/bad.fib", BAD)
    write(workspace, "specs/good.fib", GOOD)
    done = check(action, workspace)
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    # `  at token { base clip(epsilom) pessimistic }` is line 9 of the spec.
    assert line.startswith(
        "::error file=specs/bad.fib,line=9,col=24,endLine=9,endColumn=31,"
        "title=FIB101 unknown-name::unknown name `epsilom`%0A"
    )
    assert done.stderr == "2 files checked, 1 finding\n"
    assert "### fib check: 2 files, 1 finding\n" in summary(workspace)
    assert "| error FIB101 | specs/bad.fib:9:24 | unknown name `epsilom` |" in summary(workspace)


@pytest.mark.parametrize(("fail_on", "code"), [("", 1), ("warning", 1), ("error", 0), ("never", 0)])
def test_fail_on(action: dict[str, Any], workspace: Path, fail_on: str, code: int) -> None:
    write(workspace, "specs/unused.fib", UNUSED)
    done = check(action, workspace, fail_on=fail_on)
    assert done.returncode == code
    assert done.stdout.startswith("::warning file=specs/unused.fib,line=5,col=9,")


def test_sarif(action: dict[str, Any], workspace: Path) -> None:
    write(workspace, "specs/bad.fib", BAD)
    done = check(action, workspace, sarif_file="fib report.sarif")
    assert done.returncode == 1
    assert done.stdout.startswith("::error file=specs/bad.fib")
    content = json.loads((workspace / "fib report.sarif").read_text(encoding="utf-8"))
    assert [result["ruleId"] for result in content["runs"][0]["results"]] == ["FIB101"]


def test_paths(action: dict[str, Any], workspace: Path) -> None:
    (workspace / "more specs").mkdir()
    write(workspace, "specs/bad.fib", BAD)
    write(workspace, "more specs/good.fib", GOOD)
    write(workspace, "unused.fib", UNUSED)
    done = check(action, workspace, paths="more specs\n\nunused.fib\n")
    assert done.returncode == 1
    assert done.stderr == "2 files checked, 1 finding\n"


@pytest.mark.parametrize(
    "given",
    [
        {"paths": '"; touch hacked; echo "'},
        {"paths": "$(touch hacked)"},
        {"paths": "--output-file=hacked\nspecs"},
        {"fail_on": "error; touch hacked"},
        {"sarif_file": "$(touch hacked).sarif", "paths": "`touch hacked`"},
    ],
)
def test_inputs_are_not_run(action: dict[str, Any], workspace: Path, given: dict[str, str]) -> None:
    write(workspace, "specs/good.fib", GOOD)
    assert check(action, workspace, **given).returncode == 2
    assert not (workspace / "hacked").exists()
