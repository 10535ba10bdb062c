"""`fib diff`: two specs, a spec and a commit, witnesses, JSON, errors and exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fibdsl
from fibdsl.cli.main import main
from fibdsl.files import read_tensors
from fibdsl.resources import shipped_specs

PPO = shipped_specs()["ppo"].read_text(encoding="utf-8")
DAPO = shipped_specs()["dapo"].read_text(encoding="utf-8")


def spec(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["diff", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


# --- two specs ----------------------------------------------------------------------------------


def test_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = spec(tmp_path, "mine.fib", PPO.replace("# PPO", "# My PPO").replace("  ", "    "))
    code, out, err = ran(capsys, "ppo", mine)
    assert (code, err) == (0, "")
    assert out.startswith("SAME  ppo: nothing changes\n")
    assert f"->  {mine}" in out


def test_another_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = spec(tmp_path, "mine.fib", PPO.replace("= 0.2", "= 0.3"))
    code, out, err = ran(capsys, "ppo", mine)
    assert (code, err) == (1, "")
    assert out.startswith("VALUE  ppo: the loss changes\n")
    assert "  differs  token in clipped\n" in out
    assert "  ~ param epsilon : deviation = 0.2 in (0, 1)  ->  epsilon : deviation = 0.3" in out


def test_a_renamed_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = spec(tmp_path, "mine.fib", PPO.replace("objective ppo", "objective mine"))
    code, out, _ = ran(capsys, "ppo", mine)
    assert code == 0
    assert out.startswith("SAME  ppo -> mine: ")


def test_json_and_the_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = spec(tmp_path, "mine.fib", PPO.replace("= 0.2", "= 0.3"))
    code, out, err = ran(capsys, "ppo", mine, "--json", "--witnesses", str(tmp_path / "w"))
    assert (code, err) == (1, "")
    [found] = json.loads(out)
    assert found["objective"] == "ppo"
    assert found["change"] == "VALUE"
    assert found["new"] == mine
    assert found["where"] == ["token in clipped"]
    assert found["metrics"]
    assert found["promises"] == []
    file = Path(found["witness_file"])
    assert file.parent == tmp_path / "w"
    tensors = read_tensors(file)
    r, A = np.exp(tensors["logp"] - tensors["old_logp"]), tensors["advantages"]
    losses = []
    for bound, name in ((0.2, "ppo"), (0.3, mine)):
        expected = -np.minimum(r * A, np.clip(r, 1 - bound, 1 + bound) * A).mean()
        assert main(["eval", name, "--batch", str(file), "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
        assert losses[-1] == pytest.approx(expected, rel=1e-12)
    assert abs(losses[0] - losses[1]) > 1e-6


def test_several_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paired by name; one that is gone and one that is new are said to be."""
    body = PPO.partition("edition 2026")[2]
    old = spec(tmp_path, "old.fib", body + body.replace("objective ppo", "objective gone"))
    new = spec(tmp_path, "new.fib", body + body.replace("objective ppo", "objective fresh"))
    code, out, err = ran(capsys, old, new, "--json")
    assert (code, err) == (1, "")
    found = {d["objective"]: (d["change"], d["interface"]) for d in json.loads(out)}
    assert found == {
        "ppo": ("SAME", []),
        "gone": ("INTERFACE", ["- objective gone"]),
        "fresh": ("INTERFACE", ["+ objective fresh"]),
    }


def test_what_came_and_went_is_in_the_order_of_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = PPO.partition("edition 2026")[2]
    gone, fresh = [[f"{what}_{letter}" for letter in "qbzdyafx"] for what in ("gone", "fresh")]

    def file(name: str, objectives: list[str]) -> str:
        return spec(tmp_path, name, "".join(body.replace("ppo {", f"{o} {{") for o in objectives))

    _, out, _ = ran(capsys, file("old.fib", gone), file("new.fib", fresh), "--json")
    assert [d["objective"] for d in json.loads(out)] == [*gone, *fresh]


# --- against a commit ---------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    (folder / "specs").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    spec(folder / "specs", "ppo.fib", PPO)
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    identity += ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, timeout=60)


def test_against_a_commit(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "specs" / "ppo.fib"
    assert ran(capsys, "--against", "main", str(path))[0] == 0
    path.write_text(PPO.replace("= 0.2", "= 0.1"), encoding="utf-8")
    code, out, err = ran(capsys, "--against", "main", str(path))
    assert (code, err) == (1, "")
    assert out.startswith("VALUE  ppo: ")
    assert f"  main:{path}  ->  {path}\n" in out
    git(repository, "commit", "--quiet", "-a", "-m", "second")
    assert ran(capsys, "--against", "HEAD", str(path))[0] == 0
    assert ran(capsys, "--against", "HEAD~1", str(path))[0] == 1


def test_from_another_folder(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "specs")
    assert ran(capsys, "--against", "main", "ppo.fib")[0] == 0


def test_a_new_file_and_new_and_deleted_objectives(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = spec(repository / "specs", "dapo.fib", DAPO)
    code, out, err = ran(capsys, "--against", "main", fresh)
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "INTERFACE  dapo"
    assert "  + objective dapo" in out
    path = repository / "specs" / "ppo.fib"
    both = PPO + DAPO.partition("edition 2026")[2]
    path.write_text(both, encoding="utf-8")
    code, out, _ = ran(capsys, "--against", "main", str(path), "--json")
    changes = {d["objective"]: (d["change"], d["interface"]) for d in json.loads(out)}
    assert code == 1
    assert changes == {"ppo": ("SAME", []), "dapo": ("INTERFACE", ["+ objective dapo"])}
    git(repository, "commit", "--quiet", "-a", "-m", "two")
    path.write_text(PPO, encoding="utf-8")
    code, out, _ = ran(capsys, "--against", "HEAD", str(path), "--json")
    changes = {d["objective"]: (d["change"], d["interface"]) for d in json.loads(out)}
    assert code == 1
    assert changes == {"ppo": ("SAME", []), "dapo": ("INTERFACE", ["- objective dapo"])}


def test_several_files(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = spec(repository / "specs", "dapo.fib", DAPO)
    code, out, _ = ran(capsys, "--against", "main", str(repository / "specs" / "ppo.fib"), fresh)
    assert code == 1
    assert [line for line in out.splitlines() if not line.startswith(" ") and line] == [
        "SAME  ppo: nothing changes",
        "INTERFACE  dapo",
    ]


# --- what is refused ----------------------------------------------------------------------------


def test_an_unknown_commit(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(repository / "specs" / "ppo.fib")
    code, out, err = ran(capsys, "--against", "nowhere", path)
    assert (code, out) == (2, "")
    assert err == f"fib diff: {path}: no commit 'nowhere' in its repository\n"


def test_outside_of_git(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec(tmp_path, "mine.fib", PPO)
    code, out, err = ran(capsys, "--against", "main", path)
    assert (code, out) == (2, "")
    assert err == f"fib diff: {path}: not in git\n"


def test_a_shipped_name_against_a_commit(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, "--against", "main", "ppo")
    assert (code, out) == (2, "")
    assert "ppo: --against compares files" in err


@pytest.mark.parametrize("specs", [["ppo"], ["ppo", "dapo", "grpo"]])
def test_not_two_specs(specs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, *specs)
    assert (code, out) == (2, "")
    assert err.startswith("fib diff: give two specs")


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ran(capsys, "ppo", str(tmp_path / "none.fib"))
    assert (code, out) == (2, "")
    assert "none.fib" in err


def test_a_wrong_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = spec(tmp_path, "wrong.fib", PPO.replace("clip", "clap"))
    code, out, err = ran(capsys, "ppo", wrong)
    assert code == 1
    assert "FIB102" in out + err
    assert "wrong.fib" in out + err


def test_a_spec_that_breaks_its_promise_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = spec(
        tmp_path,
        "mine.fib",
        PPO.replace("over token\n  require", "over token\n  require odd\n  require"),
    )
    assert any(d.code == "FIB501" for d in fibdsl.check(broken))
    code, out, err = ran(capsys, "ppo", broken)
    assert (code, err) == (0, "")
    assert "  + require odd" in out
