"""Files of the store: JSON and JSON lines, with errors that say what to do.

Whole files are replaced atomically, so a reader sees the old bytes
or the new ones and never a half-written file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from distillbench.errors import ArtifactError, BadInput, StorageError

__all__ = [
    "append_jsonl", "drafting", "fsync_dir", "fsync_file", "indented", "json_text", "read_json",
    "remove", "require_folder", "sha256", "storage_error", "storage_guard", "unusable_path",
    "write_json", "write_jsonl",
]  # fmt: skip

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNUSABLE = frozenset(
    {*_FULL, *_DENIED, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
     errno.EISDIR}
)  # fmt: skip


def storage_error(error: BaseException, path: Path) -> StorageError | None:
    """Read a failed write as a `StorageError`, or None when the disk is not the cause.

    Libraries wrap the operating system's error (safetensors in its own class, torch in a
    RuntimeError), so the whole chain of causes and its text are looked at. A denied access counts
    only in the folder of `path`: other files are the user's, not the store's.
    """
    here = path.absolute().parent
    link: BaseException | None = error
    while link is not None:
        code = link.errno if isinstance(link, OSError) else None
        if code in _FULL or "No space left on device" in str(link):
            return _full(Path(getattr(link, "filename", None) or path))
        if isinstance(link, OSError) and code in _DENIED and _inside(link.filename, here):
            return _denied(link)
        link = link.__cause__ or link.__context__
    return None


def unusable_path(error: BaseException) -> StorageError | None:
    """Read an error of the operating system about a file or folder as one line, else None.

    Those that a defect of ours would raise too (a file that is not there) are left alone.
    """
    if not isinstance(error, OSError) or error.errno not in _UNUSABLE:
        return None
    if error.errno in _FULL:
        return _full(Path(error.filename or "."))
    return _denied(error) if error.filename else None


def _inside(name: Any, folder: Path) -> bool:
    return isinstance(name, (str, Path)) and Path(name).absolute().is_relative_to(folder)


def _full(path: Path) -> StorageError:
    folder = next((p for p in (path, *path.parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free / 2**20
    return StorageError(
        f"{path}: no space left on the disk or quota reached ({free:.0f} MiB free)",
        hint="Free some space and run the same command again; finished stages are kept",
    )


def _denied(error: OSError) -> StorageError:
    what = "written" if error.errno == errno.EROFS else "read or written"
    return StorageError(
        f"{error.filename}: cannot be {what} ({str(error.strerror).lower()})",
        hint="Mend its permissions, or name another folder with --results DIR",
    )


@contextmanager
def storage_guard(path: Path | str) -> Iterator[None]:
    """Turn any OSError about `path` into one `StorageError` line."""
    try:
        yield
    except OSError as error:
        known = storage_error(error, Path(path))
        known = known or (_denied(error) if error.errno in _DENIED else None)
        raise known or StorageError(f"{error.filename or path}: {error.strerror}") from error


def require_folder(path: Path, *, empty: bool = False) -> None:
    """Refuse a place that a command cannot write its files to, before it does any work.

    Raises:
        BadInput: there is a file, the folder cannot be written, or is not empty where it must be.
    """
    there = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if not there.is_dir():
        raise BadInput(f"{there}: not a folder", hint="name a folder to write into")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{there}: cannot be written", hint="name another folder")
    if empty and there == path and any(path.iterdir()):
        raise BadInput(f"{path}: is not empty", hint="name another folder")


def fsync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def fsync_dir(path: Path) -> None:
    """Force a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a whole folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


_SCALARS = frozenset({str, int, float, bool, type(None)})
_quoted = json.encoder.encode_basestring_ascii
_drafts: set[Path] = set()


@contextmanager
def drafting(folder: Path) -> Iterator[None]:
    """Files written into a folder that is synced as a whole when it is committed.

    Should the machine die before that, all of the folder is thrown away.
    """
    _drafts.add(folder)
    try:
        yield
    finally:
        _drafts.discard(folder)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch name beside `path` that takes its place if the block succeeds."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with storage_guard(path):
            yield scratch
            if path.parent not in _drafts:
                fsync_file(scratch)
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def json_text(value: Any) -> str:
    """JSON as the store writes it: one text for one value."""
    return indented(value, sort_keys=True) + "\n"


def indented(
    value: Any, *, sort_keys: bool = False, allow_nan: bool = True, pad: str = "\n"
) -> str:
    """What `json.dumps(value, indent=1)` says, whose encoder takes three times as long."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int or (kind is float and isfinite(value)):
        return repr(value)
    if not isinstance(value, (dict, list, tuple)) or not value:
        return json.dumps(value, allow_nan=allow_nan)
    inner = f"{pad} "
    if _flat(value.values() if isinstance(value, dict) else value):
        text = json.dumps(
            value, sort_keys=sort_keys, allow_nan=allow_nan, separators=(f",{inner}", ": ")
        )
        return f"{text[0]}{inner}{text[1:-1]}{pad}{text[-1]}"
    if not isinstance(value, dict):
        parts = [indented(v, sort_keys=sort_keys, allow_nan=allow_nan, pad=inner) for v in value]
        return f"[{inner}{f',{inner}'.join(parts)}{pad}]"
    items = sorted(value.items()) if sort_keys else value.items()
    parts = [
        f"{_quoted(k if isinstance(k, str) else json.dumps(k))}: "
        + indented(v, sort_keys=sort_keys, allow_nan=allow_nan, pad=inner)
        for k, v in items
    ]
    return f"{{{inner}{f',{inner}'.join(parts)}{pad}}}"


def _flat(values: Iterable[Any]) -> bool:
    """Whether they are plain scalars alone, which the C encoder writes as fast as can be."""
    return all(type(value) in _SCALARS for value in values)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (keys sorted) atomically. Raises StorageError."""
    with _replacing(path) as scratch:
        scratch.write_text(json_text(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises ArtifactError when it is missing or no JSON, StorageError otherwise."""
    try:
        with storage_guard(path):
            return json.loads(_read_text(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: truncated or altered (no valid JSON)") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically. Raises StorageError."""
    with _replacing(path) as scratch, open(scratch, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line in a single write, so that lines of several processes do not mix."""
    line = (json.dumps(row) + "\n").encode()
    with storage_guard(path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{path}: missing") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: truncated or altered (no UTF-8)") from error
