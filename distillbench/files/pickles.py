"""Names and shapes of the tensors in a torch pickle, without torch and without running its code.

A file of `torch.save` is a zip whose `data.pkl` speaks of a handful of functions that put tensors
together. Those are replaced by stand-ins that keep names and shapes; any other is refused, because
loading the file would run it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillbench.files.weight_files import Tensors

__all__ = ["tensors_of_pickle"]

PICKLE_BYTES = 100 << 20


class _Shape:
    """A tensor's shape in the tensor's place."""

    def __init__(self, shape: Any) -> None:
        self.shape = tuple(int(side) for side in shape)


def _tensor(storage: Any, offset: int, size: Any, *_: Any) -> _Shape:
    return _Shape(size)


def _same(value: Any, *_: Any) -> Any:
    return value


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _same,
    ("torch", "Size"): tuple,
}
_PLAIN = ("torch", "torch.storage")  # storages and dtypes, of which nothing is needed


class _Names(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module in _PLAIN and (name.endswith("Storage") or name in _DTYPES):
            return object
        raise _Foreign(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return None


_DTYPES = ("float16", "float32", "float64", "bfloat16", "int64")


class _Foreign(Exception):
    """The pickle calls something that is no tensor."""


def tensors_of_pickle(file: Path) -> Tensors:
    """Names and shapes, a `state_dict` inside the file taken for the file.

    Raises:
        ValueError: it runs code, is of torch's format before 1.6, or is no such file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if n.endswith("data.pkl")]
            if len(names) != 1 or archive.getinfo(names[0]).file_size > PICKLE_BYTES:
                raise ValueError(f"{file.name} is no file of torch.save")
            with archive.open(names[0]) as stream:
                read = _Names(stream).load()
    except _Foreign as error:
        raise ValueError(
            f"{file.name} is a pickle that runs code ({error}); only plain tensors are read"
        ) from None
    except zipfile.BadZipFile:
        raise ValueError(f"{file.name} is no whole file of torch.save (1.6 or newer)") from None
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{file.name} cannot be read ({type(error).__name__})") from None
    inner = read.get("state_dict", read) if isinstance(read, dict) else read
    if not isinstance(inner, dict) or not all(isinstance(v, _Shape) for v in inner.values()):
        raise ValueError(f"{file.name} holds no plain table of tensors")
    return {str(name): value.shape for name, value in inner.items()}
