"""What cannot be built or loaded, and that nothing is half written."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

import fibdsl
from fibdsl.cli.main import main
from fibdsl.packaged import read

PPO = fibdsl.load("ppo")
BUILD = "aoti_compile_and_package"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "blocks"}, "layout is one of padded, packed, not 'blocks'"),
        ({"dtype": "int8"}, "dtype is one of float32, float64, bfloat16, float16, not 'int8'"),
        ({"device": "tpu"}, "device is one of cpu, cuda, not 'tpu'"),
        ({"metrics": ["kl/k4"]}, "objective 'ppo' has no metric 'kl/k4'; it has, among others"),
        ({"metrics": "kl/k3"}, "metrics is a list of names"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPO.export(tmp_path / "loss.pt2", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(fibdsl.PackageError, match="no cuda device here"):
        PPO.export(tmp_path / "loss.pt2", device="cuda")


def test_a_target_that_cannot_be_written_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.export, "export", None)
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "file").touch()
    for name, error in (
        ("folder.pt2", IsADirectoryError),
        ("missing/loss.pt2", FileNotFoundError),
        ("file/loss.pt2", NotADirectoryError),
    ):
        with pytest.raises(error) as raised:
            PPO.export(tmp_path / name)
        assert raised.value.filename == str(tmp_path / name)
    with pytest.raises(ValueError, match=r"loss.so: torch loads packages from files named \*.pt2"):
        PPO.export(tmp_path / "loss.so")


def failing(error: BaseException) -> Callable[..., None]:
    def build(*arguments: Any, **options: Any) -> None:
        Path(options["package_path"]).write_text("half")
        raise error

    return build


@pytest.mark.slow
def test_what_torch_cannot_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "loss.pt2"
    target.write_text("old")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(torch._inductor, BUILD, failing(InvalidCxxCompiler()))
    assert main(["compile", "ppo", "--aot", "-o", str(target)]) == 2
    err = capsys.readouterr().err
    assert "cannot compile the graph: there is no C++ compiler; install g++ or clang++" in err
    monkeypatch.setattr(torch._inductor, BUILD, failing(NotImplementedError("no such\nkernel")))
    with pytest.raises(fibdsl.PackageError, match=r"the graph: NotImplementedError: no such$"):
        PPO.export(target)
    monkeypatch.setattr(torch._inductor, BUILD, failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        PPO.export(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["loss.pt2"]


@pytest.mark.slow
def test_what_cannot_be_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*arguments: Any, **options: Any) -> None:
        raise torch._dynamo.exc.UserError(
            torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION, "rows != 1"
        )

    monkeypatch.setattr(torch.export, "export", export)
    with pytest.raises(fibdsl.PackageError, match=r"cannot trace the graph: UserError: rows != 1"):
        PPO.export(tmp_path / "loss.pt2")
    assert os.listdir(tmp_path) == []


def test_options_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "loss.pt2")
    for arguments, message in (
        (["--layout", "packed"], "--layout has no effect without --aot"),
        (["--metrics", "kl/k3"], "--metrics has no effect without --aot"),
        (["--aot"], "--aot writes a package; say where, -o FILE.pt2"),
        (["-o", target], f"{target} is the name of a package; compile it with --aot"),
        (["--aot", "-o", "loss.so"], "loss.so: torch loads packages from files named *.pt2 only"),
        (["--aot", "-o", target, "--metrics", "kl/k4"], "objective 'ppo' has no metric 'kl/k4'"),
    ):
        assert main(["compile", "ppo", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"fib compile: {message}" in err
    assert os.listdir(tmp_path) == []


# --- loading ------------------------------------------------------------------------------------


def test_what_is_no_package(tmp_path: Path) -> None:
    file = tmp_path / "loss.pt2"
    with pytest.raises(FileNotFoundError):
        fibdsl.load_compiled(file)
    file.write_text("def loss(): ...")
    with pytest.raises(ValueError, match=r"loss.pt2 is no loss compiled ahead of time; `fib comp"):
        fibdsl.load_compiled(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data/model_metadata.json", json.dumps({"AOTI_DEVICE_KEY": "cpu"}))
    with pytest.raises(ValueError, match="is no loss compiled ahead of time"):
        fibdsl.load_compiled(file)


def changed(package: Path, target: Path, library: bytes | None = None, **entries: Any) -> Path:
    """A copy of a package that says something else of itself."""
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("_metadata.json"):
                data = json.loads(content)
                data["fibdsl"] = json.dumps(json.loads(data["fibdsl"]) | entries)
                content = json.dumps(data).encode()
            elif name.endswith(".so") and library is not None:
                content = library
            new.writestr(name, content)
    return target


@pytest.mark.slow
def test_packages_that_cannot_run_here(padded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt2"
    machine = [*read(padded).machine, "avx1024"]
    for entries, message in (
        ({"machine": machine}, "was built for a machine with avx1024, which this one lacks; build"),
        (
            {"runtime": "0" * 16, "fibdsl": "0.0.1"},
            r"was built by another fibdsl \(0.0.1; this is .*; build it again",
        ),
        (
            {"library": b"no library", "torch": "1.0"},
            r"torch 2.* cannot load .*copy.pt2, which torch 1.0 built; build it again: ",
        ),
    ):
        with pytest.raises(fibdsl.PackageError, match=message):
            fibdsl.load_compiled(changed(padded, copy, **entries))
    if not torch.cuda.is_available():
        with pytest.raises(fibdsl.PackageError, match="built for cuda, and torch finds no such"):
            fibdsl.load_compiled(changed(padded, copy, device="cuda"))


@pytest.mark.slow
def test_what_a_package_says_of_itself(padded: Path) -> None:
    contents = read(padded)
    objective = fibdsl.load("fiberpo_domain")
    assert str(contents) == "fiberpo_domain, padded float32 for cpu"
    assert contents.semantic_hash == objective.semantic_hash
    assert {n: p.default for n, p in contents.params.items()} == dict(objective.params)
    assert contents.levels == (("trajectory", None), ("group", "uid"), ("domain", "data_source"))
    assert (contents.outermost, contents.whole) == ("trajectory", "group")
    assert contents.torch == torch.__version__
