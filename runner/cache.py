"""The cache shared by all runs: results that depend on their content alone."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from pathlib import Path

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
