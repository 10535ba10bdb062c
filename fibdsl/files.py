"""Batch files in, results out; nothing is ever left half written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fibdsl.atomic import write_bytes

Array = NDArray[Any]


def read_tensors(
    path: str | Path, needed: Iterable[str] | None = None, optional: Iterable[str] = ()
) -> dict[str, Array]:
    """The tensors of a .safetensors or .npz file, by name; bfloat16 becomes float32.

    Args:
        needed: names that must be there; if given, only these and the optional ones are looked at.
        optional: names that may be there.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is of neither format, damaged, or lacks a tensor.
    """
    path = Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                return _pick(path, archive.files, archive.__getitem__, needed, optional)
        except (OSError, _MissingError):
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a readable .npz file: {error}") from None
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a batch is a .safetensors or an .npz file")
    from safetensors import SafetensorError, deserialize

    try:
        found = dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable .safetensors file: {error}") from None
    return _pick(path, found, lambda name: _array(path, name, found[name]), needed, optional)


class _MissingError(ValueError):
    """A file without a tensor that is needed."""


def _pick(
    path: Path,
    names: Iterable[str],
    read: Callable[[str], Array],
    needed: Iterable[str] | None,
    optional: Iterable[str],
) -> dict[str, Array]:
    there = sorted(names)
    if needed is None:
        return {name: read(name) for name in there}
    needed = list(needed)
    missing = [name for name in needed if name not in there]
    if missing:
        has = ", ".join(there) or "none"
        raise _MissingError(f"{path} has no {', '.join(missing)}; it has {has}")
    return {name: read(name) for name in there if name in needed or name in optional}


_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def _array(path: Path, name: str, tensor: Mapping[str, Any]) -> Array:
    kind, data = tensor["dtype"], bytes(tensor["data"])
    if kind == "BF16":
        # bfloat16 is the upper half of a float32.
        upper = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return upper.view(np.float32).reshape(tensor["shape"])
    if kind not in _TYPES:
        raise ValueError(f"{path}: tensor '{name}' is {kind}, which no batch uses")
    return np.frombuffer(data, _TYPES[kind]).reshape(tensor["shape"])


def write_tensors(path: str | Path, tensors: Mapping[str, Array]) -> None:
    """Writes a .safetensors or .npz file, whole or not at all.

    Raises:
        OSError: it cannot be written.
        ValueError: the name has another ending.
    """
    path = Path(path)
    if path.suffix == ".npz":
        import io

        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(tensors)
        np.savez(buffer, **arrays)
        write_bytes(path, buffer.getvalue())
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save

        write_bytes(path, save({name: np.asarray(t, order="C") for name, t in tensors.items()}))
    else:
        raise ValueError(f"{path}: write to a .safetensors or an .npz file")
