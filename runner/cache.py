"""The cache shared by all runs: results that depend on their content alone."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.digests import text_digest
from runner.errors import MachineError
from runner.stored_json import sync_folder


def cache_folder() -> Path:
    """``$PROOFBOX_CACHE``, or ``proofbox`` in the user's cache folder."""
    named = os.environ.get("PROOFBOX_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "proofbox"


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder so that ``target`` is either whole or absent.

    Where there is one already, or another process was faster, that one stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        shutil.copytree(source, temporary)
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(target.parent)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target``, to be filled and renamed to it; else it is removed.

    What processes of this machine left there when they were killed is removed first.

    Raises:
        MachineError: the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{target.parent}: the cache cannot be written ({error.strerror}). The environment "
            "variable PROOFBOX_CACHE can name another folder."
        ) from None
    _sweep(target.parent)
    with tempfile.TemporaryDirectory(
        prefix=f".{host()}.{os.getpid()}.", dir=target.parent, ignore_cleanup_errors=True
    ) as temporary:
        folder = Path(temporary) / "entry"
        folder.mkdir()
        yield folder


def sync_files(folder: Path) -> None:
    """Make every file below ``folder``, and their names, survive a power cut."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f".{host()}.*"):
        process = path.name.split(".")[2]
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def host() -> str:
    """A short name of this machine: a cache may be shared by several."""
    return text_digest(socket.gethostname())[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
