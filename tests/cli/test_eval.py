"""`fib eval`: batch files of both formats and layouts, the report, what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fibdsl
from fibdsl.cli.main import main
from fibdsl.files import read_tensors, write_tensors
from fibdsl.report import EvalReport

Array = NDArray[Any]
DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
TOKENS = ("logp", "old_logp", "advantages", "mask")
KEYS = ("uid", "data_source")
TYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL"}


def random_batch(rows: int = 5, width: int = 6) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    mask = np.arange(width) < np.array([6, 4, 1, 0, 5])[:rows, None]
    old = -rng.exponential(1.0, mask.shape)
    logp = old + rng.normal(0.05, 0.2, mask.shape)
    logp[~mask] = np.nan
    return {
        "logp": logp,
        "old_logp": old,
        "advantages": rng.normal(size=mask.shape),
        "mask": mask,
        "uid": np.array([4, 4, 9, 9, 2])[:rows],
        "data_source": np.array([1, 1, 1, 1, 0])[:rows],
    }


def safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """Writes the format by hand: 8 bytes of header length, a JSON header, the data."""
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def raw(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return TYPES[str(array.dtype)], array.shape, array.tobytes()


def save(folder: Path, tensors: Mapping[str, Array], name: str = "batch.safetensors") -> Path:
    path = folder / name
    if path.suffix == ".npz":
        arrays: dict[str, Any] = dict(tensors)
        np.savez(path, **arrays)
        return path
    return safetensors(path, {name: raw(array) for name, array in tensors.items()})


def evaluate(
    tensors: Mapping[str, Array], spec: str | fibdsl.Objective = "fiberpo_domain"
) -> fibdsl.Evaluation:
    objective = fibdsl.load(spec) if isinstance(spec, str) else spec
    keys = {key: tensors[key] for key in objective.keys}
    cu = tensors.get("cu_seqlens")
    logp, old_logp, advantages, mask = (tensors[name] for name in TOKENS)
    return objective.evaluate(logp, old_logp, advantages, mask, keys, cu_seqlens=cu)


def evaluated(
    capsys: pytest.CaptureFixture[str], path: Path, *options: str, spec: str = "fiberpo_domain"
) -> EvalReport:
    assert main(["eval", spec, "--batch", str(path), "--json", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return EvalReport.model_validate_json(out)


def refused(
    capsys: pytest.CaptureFixture[str], path: Path, *options: str, spec: str = "fiberpo_domain"
) -> str:
    assert main(["eval", spec, "--batch", str(path), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fib eval: ")
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("rollouts", ["near", "far"])
@pytest.mark.parametrize("spec", ["fiberpo_domain", "grpo"])
def test_real_rollouts(capsys: pytest.CaptureFixture[str], rollouts: str, spec: str) -> None:
    path = DATA / f"rollouts_{rollouts}.safetensors"
    report = evaluated(capsys, path, spec=spec)
    tensors = read_tensors(path)
    expected = evaluate(tensors, spec)
    objective = fibdsl.load(spec)
    assert report.loss == expected.loss
    assert report.metrics == expected.metrics
    assert report.gradient_norm == pytest.approx(np.linalg.norm(expected.gradient), rel=1e-12)
    assert report.params == dict(objective.params)
    assert (report.objective, report.trajectories) == (spec, 48)
    assert report.tokens == tensors["mask"].sum()
    cells = {level.level: level.cells for level in report.levels}
    assert cells["token"] == report.tokens
    assert cells["trajectory"] == 48
    if spec == "fiberpo_domain":
        assert [level.level for level in report.levels] == [
            "domain",
            "group",
            "trajectory",
            "token",
        ]
        assert (cells["group"], cells["domain"]) == (12, 3)
        domain = report.levels[0]
        assert (domain.key, domain.role, domain.gate) == ("data_source", "base", "rollback")
        for level in report.levels:
            assert set(level.drift) == {"plus", "minus"}
            for channel in level.channels:
                assert sum(channel.regimes.values()) == pytest.approx(1)
    else:
        assert report.levels[0].gate is None


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA / "rollouts_far.safetensors"
    assert main(["eval", "fiberpo_domain", "--batch", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = evaluate(read_tensors(path))
    assert lines[0].startswith("fiberpo_domain  (")
    assert "  batch          48 trajectories, 1374 tokens" in lines
    assert f"  loss           {expected.loss:.9g}" in lines
    words = [line.split() for line in lines]
    for level, cells in (("domain", 3), ("group", 12), ("trajectory", 48), ("token", 1374)):
        [row] = [row for row in words if row[:2] == [level, str(cells)]]
        assert f"{expected.metrics[f'drift/{level}/plus']:.5f}" in row
        share = expected.metrics[f"regime/{level}/plus/pass"]
        assert row[row.index("pass") + 1] == f"{share:.1%}"
    assert ["tokens_clipped", f"{expected.metrics['tokens_clipped']:.6g}"] in words
    assert all(line == line.rstrip() for line in lines)


def test_table_of_what_statements_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "held.fib"
    spec.write_text(
        """
        objective held {
          signal ratio
          levels token < trajectory
          at token { base clip(0.2) pessimistic }
          bypass when ratio > 3 : 3
          weight { kept: 2 when advantage >= 0; 1 otherwise; }
          penalty 0.5
          reduce mean over token
        }
        """,
        encoding="utf-8",
    )
    batch = random_batch()
    mask = batch["mask"]
    batch["logp"] = batch["old_logp"] + np.log(4) * (np.arange(6) == 0)
    batch["advantages"] = np.where(np.arange(6) == 1, 1.0, -1.0) + 0 * batch["logp"]
    assert main(["eval", str(spec), "--batch", str(save(tmp_path, batch))]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    first, second = mask[:, 0].sum() / mask.sum(), mask[:, 1].sum() / mask.sum()
    assert ["bypassed", f"{first:.6g}"] in words
    assert ["weight/kept", f"{second:.6g}"] in words
    assert ["weight/mean", f"{1 + second:.6g}"] in words
    assert ["penalty/mean", "0.5"] in words


def test_params(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = random_batch()
    report = evaluated(capsys, save(tmp_path, batch), "--set", "epsilon=0.01", spec="fiberpo")
    assert report.params == {"c_plus": 0.2, "c_minus": 0.1, "epsilon": 0.01}
    objective = fibdsl.load("fiberpo", epsilon=0.01)
    assert report.loss == evaluate(batch, objective).loss
    assert report.loss != evaluate(batch, "fiberpo").loss


@pytest.mark.parametrize("name", ["out.safetensors", "out.npz"])
@pytest.mark.parametrize("given", ["batch.safetensors", "batch.npz"])
def test_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, name: str) -> None:
    batch = random_batch()
    out = tmp_path / name
    report = evaluated(capsys, save(tmp_path, batch, given), "--out", str(out))
    written = read_tensors(out)
    assert set(written) == {"gated_ratio", "gradient"}
    expected = evaluate(batch)
    assert report.loss == expected.loss
    for tensor, reference in (
        (written["gated_ratio"], expected.gated_ratio),
        (written["gradient"], expected.gradient),
    ):
        assert tensor.dtype == np.float64
        assert tensor.shape == (5, 6)
        assert (tensor[~batch["mask"]] == 0).all()
        np.testing.assert_array_equal(tensor, reference)
    assert (written["gated_ratio"][batch["mask"]] > 0).all()
    assert {p.name for p in tmp_path.iterdir()} == {given, name}


def test_out_with_another_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pt"
    assert "out.pt: write to a .safetensors or an .npz file" in refused(
        capsys, save(tmp_path, random_batch()), "--out", str(out)
    )
    assert not out.exists()


@pytest.mark.parametrize("name", ["packed.safetensors", "packed.npz"])
def test_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    batch = random_batch()
    keep = batch["mask"].copy()
    keep[0, :] = True
    keep[1, -1] = True  # a masked token among the packed ones
    lengths = keep.sum(1)
    packed = {n: a[keep] if n in TOKENS else a for n, a in batch.items()}
    packed["cu_seqlens"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    out = tmp_path / "out.npz"
    report = evaluated(capsys, save(tmp_path, packed, name), "--out", str(out))
    expected = evaluate(batch)
    assert report.loss == pytest.approx(expected.loss, rel=1e-12)
    assert report.metrics == pytest.approx(expected.metrics, rel=1e-12)
    written = read_tensors(out)
    for tensor, reference in (
        (written["gated_ratio"], expected.gated_ratio),
        (written["gradient"], expected.gradient),
    ):
        assert tensor.shape == (lengths.sum(),)
        np.testing.assert_allclose(tensor, reference[keep], rtol=1e-12)


def test_bfloat16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Multiples of 1/8 up to 16 have 7 bits, so bfloat16 holds them exactly.
    rng = np.random.default_rng(1)
    x = (rng.integers(-16, 17, (3, 4)) / 8).astype(np.float32)
    batch = {
        "logp": x - 1,
        "old_logp": np.full_like(x, -1),
        "advantages": (rng.integers(-8, 9, (3, 4)) / 4).astype(np.float32),
        "mask": np.ones((3, 4), bool),
    }

    def upper_half(array: Array) -> tuple[str, tuple[int, ...], bytes]:
        bits = array.astype("<f4").view("<u4")
        assert (bits & 0xFFFF == 0).all()
        return "BF16", array.shape, (bits >> 16).astype("<u2").tobytes()

    tensors = {n: upper_half(a) if n != "mask" else raw(a) for n, a in batch.items()}
    path = safetensors(tmp_path / "batch.safetensors", tensors)
    read = read_tensors(path)
    assert read["logp"].dtype == np.float32
    np.testing.assert_array_equal(read["logp"], batch["logp"])
    assert evaluated(capsys, path, spec="fiberpo").loss == evaluate(batch, "fiberpo").loss


@pytest.mark.parametrize("name", ["batch.safetensors", "batch.npz"])
def test_other_entries_are_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    batch = random_batch()
    path = save(tmp_path, batch, name)
    if path.suffix == ".npz":
        others: dict[str, Any] = {"text": np.array(["a"]), "things": np.array([None, {}], object)}
        np.savez(path, **(others | batch))
    else:
        eight = {"logits": ("F8_E4M3", (2,), b"ab"), "states": ("U16", (1,), b"ab")}
        safetensors(path, {n: raw(a) for n, a in batch.items()} | eight)
    assert evaluated(capsys, path).loss == evaluate(batch).loss


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", ["logp", "mask", "uid"])
def test_a_missing_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, suffix: str
) -> None:
    batch = random_batch()
    del batch[name]
    path = save(tmp_path, batch, f"batch{suffix}")
    assert f"{path} has no {name}; it has {', '.join(sorted(batch))}" in refused(capsys, path)


def test_keys_that_no_level_needs_may_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = {name: array for name, array in random_batch().items() if name not in KEYS}
    path = save(tmp_path, batch)
    assert evaluated(capsys, path, spec="grpo").tokens == 16
    assert "has no uid, data_source; it has" in refused(capsys, path)


def test_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("batch.safetensors", "batch.npz"):
        path = save(tmp_path, random_batch(), name)
        whole = path.read_bytes()
        # In a .npz the middle of a member changes, which its checksum shows.
        flipped = (
            whole.replace(whole[200:208], bytes(8), 1) if name.endswith("npz") else b"\xff" * 8
        )
        for content in (b"", b"\x00", whole[: len(whole) // 2], whole[:-1], flipped, b"text " * 9):
            path.write_bytes(content)
            message = refused(capsys, path)
            assert f"{path} is not a readable {path.suffix} file" in message


def test_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.npz"
    assert f"{missing}: no such file" in refused(capsys, missing)
    missing = tmp_path / "missing.safetensors"
    assert f"{missing}: no such file" in refused(capsys, missing)
    other = tmp_path / "batch.pt"
    other.write_bytes(b"PK")
    assert "a batch is a .safetensors or an .npz file" in refused(capsys, other)
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert f"{folder}: is a directory" in refused(capsys, folder)


def test_a_type_that_no_batch_uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {name: raw(array) for name, array in random_batch().items()}
    tensors["logp"] = ("F8_E4M3", (5, 6), bytes(30))
    path = safetensors(tmp_path / "batch.safetensors", tensors)
    assert "tensor 'logp' is F8_E4M3, which no batch uses" in refused(capsys, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Prompt 9 has one trajectory in each of two domains.
        ({"data_source": np.array([1, 1, 1, 1, 0]), "uid": np.array([4, 4, 9, 9, 9])},
         "keys['data_source'] (level 'domain') splits a cell of level 'group'"),
        ({"uid": np.array([4.0, 4, 9, 9, 2])}, "keys['uid'] (level 'group') is float64"),
        ({"uid": np.array([4, 4])}, "keys['uid'] (level 'group') has shape (2,)"),
        ({"old_logp": np.zeros((5, 5))}, "old_logp has shape (5, 5), but logp has (5, 6)"),
        ({"mask": np.full((5, 6), 0.5)}, "mask has values other than 0 and 1"),
        ({"cu_seqlens": np.array([0, 3])}, "logp has shape (5, 6), but with cu_seqlens"),
    ],
)  # fmt: skip
def test_a_contradictory_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Array], message: str
) -> None:
    path = save(tmp_path, random_batch() | change)
    out = tmp_path / "out.npz"
    assert message in refused(capsys, path, "--out", str(out))
    assert not out.exists()


@pytest.mark.parametrize("rows", [0, 3])
def test_a_batch_without_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int
) -> None:
    batch = {name: array[:rows] for name, array in random_batch().items()}
    batch["mask"] = np.zeros_like(batch["mask"])
    path = save(tmp_path, batch)
    report = evaluated(capsys, path)
    assert (report.tokens, report.loss, report.gradient_norm) == (0, 0, 0)
    assert main(["eval", "fiberpo_domain", "--batch", str(path)]) == 0


# --- broken promises ----------------------------------------------------------------------------

BOUNDED = """\
objective o {
  param  epsilon : deviation = 0.2 in (0, 1)
  signal ratio
  levels token < trajectory
  at token { base clip(epsilon) pessimistic }
  reduce mean over token
  require bounded
}
"""


def test_a_broken_promise_is_evaluated_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = random_batch()
    arguments = ["eval", "fiberpo", "--batch", str(save(tmp_path, batch)), "--set", "c_plus=0.9"]
    out = tmp_path / "out.npz"
    assert main([*arguments, "--out", str(out)]) == 1
    table, err = capsys.readouterr()
    assert table.startswith("fiberpo  (")
    assert err.startswith("error[FIB501]: `gated_ratio` does not hold: ")
    assert main([*arguments, "--json"]) == 1
    text, again = capsys.readouterr()
    assert again == err
    report = EvalReport.model_validate_json(text)
    objective = fibdsl.load("fiberpo", promises=False).with_params(c_plus=0.9)
    expected = evaluate(batch, objective)
    assert report.loss == expected.loss
    assert report.params == dict(objective.params)
    np.testing.assert_array_equal(read_tensors(out)["gated_ratio"], expected.gated_ratio)


def test_a_value_that_keeps_the_promise_is_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, random_batch())
    spec = tmp_path / "mine.fib"
    text = fibdsl.load("fiberpo").checked.source.text
    spec.write_text(text.replace("c_plus  : log = 0.20", "c_plus  : log = 0.90"), encoding="utf-8")
    assert main(["eval", str(spec), "--batch", str(path)]) == 1
    assert "FIB501" in capsys.readouterr().err
    assert main(["eval", str(spec), "--batch", str(path), "--set", "c_plus=0.2"]) == 0
    assert capsys.readouterr().err == ""


def test_a_spec_with_another_error_is_not_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "mine.fib"
    spec.write_text(BOUNDED.replace("clip(epsilon)", "clip(epsilom)"), encoding="utf-8")
    assert main(["eval", str(spec), "--batch", str(save(tmp_path, random_batch()))]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[FIB101]" in err


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (BOUNDED, "bounded"),
        (BOUNDED.replace("bounded", "odd"), "odd"),
        (BOUNDED.replace("bounded", "gated_ratio in [0.5, 2]"), "gated_ratio"),
        (BOUNDED.replace("bounded", "restorative at token"), "restorative"),
        (BOUNDED.replace("require bounded", "assume bounded"), "bounded"),
    ],
)
def test_a_witness_of_check_is_a_batch_of_eval(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.fib").write_text(text, encoding="utf-8")
    assert main(["check", "mine.fib", "--witnesses", "shown"]) == 1
    out, err = capsys.readouterr()
    file = f"mine.o.{name}.safetensors"
    assert [path.name for path in Path("shown").iterdir()] == [file]
    assert f"a batch that shows it: {Path('shown') / file}" in out
    assert "1 witness file written" in err
    assert main(["eval", "mine.fib", "--batch", f"shown/{file}", "--out", "out.npz"]) == 1
    assert "error[FIB501]" in capsys.readouterr().err
    G = read_tensors(Path("out.npz"))["gated_ratio"]
    if name == "bounded":
        assert G.max() >= 1e6
    if name == "gated_ratio":
        assert ((G < 0.5) | (G > 2)).any()


def test_a_witness_that_couples_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One token has an advantage, and tokens of other cells a gradient."""
    monkeypatch.chdir(tmp_path)
    text = fibdsl.load("fiberpo_domain").checked.source.text
    text = text.replace("block_diagonal over domain", "block_diagonal over group")
    Path("mine.fib").write_text(text, encoding="utf-8")
    assert main(["check", "mine.fib", "--witnesses", "shown"]) == 1
    file = "shown/mine.fiberpo_domain.block_diagonal.safetensors"
    assert main(["eval", "mine.fib", "--batch", file, "--out", "out.npz"]) == 1
    capsys.readouterr()
    batch = read_tensors(Path(file))
    [(row, column)] = np.argwhere(batch["advantages"] != 0)
    groups = np.broadcast_to(batch["uid"].reshape(len(batch["uid"]), -1), batch["mask"].shape)
    others = groups != groups[row, column]
    assert np.abs(read_tensors(Path("out.npz"))["gradient"][others]).max() > 1e-9


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "fiberpo"])
    assert stop.value.code == 2
    assert "--batch" in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.npz"
    write_tensors(path, {"a": np.arange(3)})

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_tensors(path, {"a": np.zeros(9)})
    np.testing.assert_array_equal(read_tensors(path)["a"], np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz"])
def test_tensors_of_every_kind_are_read_back(tmp_path: Path, name: str) -> None:
    kinds = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
    tensors = {kind: np.array([[0, 1, 1], [1, 0, 1]], kind) for kind in kinds}
    tensors |= {"none": np.zeros((0, 4)), "scalar": np.array(2.5), "strided": np.eye(4)[:, ::2]}
    write_tensors(tmp_path / name, tensors)
    read = read_tensors(tmp_path / name)
    assert set(read) == set(tensors)
    for key, array in tensors.items():
        assert read[key].dtype == array.dtype
        assert read[key].shape == array.shape
        np.testing.assert_array_equal(read[key], array)
