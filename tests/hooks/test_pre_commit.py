"""The hooks of `.pre-commit-hooks.yaml`, run by pre-commit in a repository that uses them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / ".pre-commit-hooks.yaml"
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.skipif(not HOOKS.exists(), reason="the hooks are in the repository only"),
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
    pytest.mark.skipif(not (BIN / "pre-commit").exists(), reason="needs pre-commit"),
    pytest.mark.skipif(not (BIN / "fib").exists(), reason="fibdsl is not installed here"),
]

GOOD = """\
edition 2026

objective small {
  param epsilon : deviation = 0.2 in (0, 1)

  signal ratio
  levels token < trajectory

  at token { base clip(epsilon) pessimistic }

  reduce mean over token
}
"""
BAD = GOOD.replace("clip(epsilon)", "clip(epsilom)")


def run(cwd: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command as its user would run it, with a home and caches of its own and no network."""
    home = cwd.parent / "home"
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PATH": os.pathsep.join((str(BIN), os.environ["PATH"])),
        "HOME": str(home),
        "PRE_COMMIT_HOME": str(home / "pre-commit"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "file",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "PYTHONIOENCODING": "utf-8",
        "LC_ALL": "C.UTF-8",
    }
    # In-process settings of the test run, coverage and so on, are none of the hooks' business.
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def git(cwd: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = run(cwd, "git", *who, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path, files: dict[str, str]) -> str:
    """Makes a repository of these files; returns its commit."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--no-verify", "-m", "files")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository that uses both hooks, with a README and no spec yet."""
    (tmp_path / "home").mkdir()
    hooks = tmp_path / "hooks"
    commit = repository(hooks, {HOOKS.name: HOOKS.read_text(encoding="utf-8")})
    config = (
        f"repos:\n- repo: {hooks}\n  rev: {commit}\n  hooks:\n  - id: fib-check\n  - id: fib-fmt\n"
    )
    folder = tmp_path / "project"
    repository(folder, {".pre-commit-config.yaml": config, "README.md": "not a spec\n"})
    return folder


def hook(project: Path, name: str, spec: str | None = None) -> tuple[int, str]:
    if spec is not None:
        (project / "mine.fib").write_text(spec, encoding="utf-8")
        git(project, "add", ".")
    done = run(project, BIN / "pre-commit", "run", "--all-files", name)
    return done.returncode, done.stdout + done.stderr


def test_check(project: Path) -> None:
    code, said = hook(project, "fib-check")
    assert (code, "Skipped" in said) == (0, True)
    code, said = hook(project, "fib-check", GOOD)
    assert (code, "Passed" in said) == (0, True)
    code, said = hook(project, "fib-check", BAD)
    assert code == 1
    assert "- exit code: 1" in said
    assert "error[FIB101]: unknown name `epsilom`" in said
    assert "--> mine.fib:9:24" in said
    assert "1 file checked, 1 finding" in said


def test_check_keeps_to_the_settings_of_the_project(project: Path) -> None:
    spare = GOOD.replace("\n  signal", "  param spare : log = 1 in (0, 2)\n\n  signal")
    code, said = hook(project, "fib-check", spare)
    assert (code, "FIB601" in said) == (1, True)
    (project / "pyproject.toml").write_text('[tool.fibdsl]\nignore = ["FIB601"]\n')
    code, said = hook(project, "fib-check")
    assert (code, "Passed" in said) == (0, True)


def test_fmt(project: Path) -> None:
    messy = GOOD.replace("  reduce", "     reduce")
    code, said = hook(project, "fib-fmt", messy)
    assert code == 1
    assert "files were modified by this hook" in said
    formatted = (project / "mine.fib").read_text(encoding="utf-8")
    assert "\n  reduce mean over token\n}\n" in formatted
    code, said = hook(project, "fib-fmt", formatted)
    assert (code, "Passed" in said) == (0, True)
