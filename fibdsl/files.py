"""Batch files in, results out; nothing is ever left half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def read_tensors(path: str | Path) -> dict[str, Array]:
    """The tensors of a .safetensors or .npz file, by name; bfloat16 becomes float32.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is of neither format, or damaged.
    """
    path = Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a readable .npz file: {error}") from None
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a batch is a .safetensors or an .npz file")
    from safetensors import SafetensorError, deserialize

    try:
        return {name: _array(path, name, t) for name, t in deserialize(path.read_bytes())}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable .safetensors file: {error}") from None


_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
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
        np.savez(buffer, **dict(tensors))
        _replace(path, buffer.getvalue())
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save

        _replace(path, save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))
    else:
        raise ValueError(f"{path}: write to a .safetensors or an .npz file")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    _replace(Path(path), text.encode())


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes private files; give it the mode any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
