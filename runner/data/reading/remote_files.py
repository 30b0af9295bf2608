"""Files behind URLs: fetched once into the cache, and used as long as the server says unchanged.

Any protocol of ``fsspec`` will do. Credentials come from the environment (``~/.netrc``, AWS_…), not
from the recipe; what a URL holds of them is in no message and no record.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from runner.cache import cache_folder
from runner.data.reading.row_files import described_kinds, file_kind
from runner.data.reading.urls import is_chained, shown_url
from runner.digests import file_digest, text_digest
from runner.errors import DataError, MachineError
from runner.stored_json import read_json, sync_folder, write_json

CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds, for HTTP
_GLOB = re.compile(r"[*\[]")
# What servers and file systems say about a version of a file, by the names fsspec gives them.
_VALIDATORS = (
    "ETag", "etag", "Last-Modified", "LastModified", "Content-MD5", "Digest", "VersionId",
    "generation", "md5Hash", "updated", "mtime", "created", "ino",
)  # fmt: skip
# Protocol -> the extra of proofbox, or the package, that serves it.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_REFUSED = range(400, 500)  # HTTP: the server answered, and it is no


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A local copy of a remote file; ``note`` says so where it could not be compared."""

    path: Path
    name: str
    note: str = ""


def fetch_files(url: str) -> list[FetchedFile]:
    """Local copies of the files that ``url`` names, or that match it where it is a pattern.

    Raises:
        DataError: no such file, an unknown kind of file, an unknown protocol, or several in one.
        MachineError: the server is out of reach and there is no copy, or it refuses.
    """
    if is_chained(url):
        raise DataError(
            "dataset.source: a URL that chains protocols (::), which is not read here. Name the "
            "URL itself."
        )
    try:
        shown = shown_url(url)
    except ValueError:
        raise DataError("dataset.source: a URL that cannot be read") from None
    system, path = _file_system(url, shown)
    if not _GLOB.search(urlsplit(url).path):
        _check_kind(shown)
        return [_fetch(system, path, url, shown)]
    try:
        found = sorted(str(match) for match in system.glob(path))
    except _errors() as error:
        raise MachineError(f"dataset.source: {shown}: {_reason(error)}") from None
    if not found:
        raise DataError(f"dataset.source: {shown!r} matches no file")
    return [_fetch_match(system, match) for match in found]


def _fetch_match(system: Any, match: str) -> FetchedFile:  # noqa: ANN401 - fsspec ships no types
    url = system.unstrip_protocol(match)
    _check_kind(shown_url(url))
    return _fetch(system, match, url, shown_url(url))


def _check_kind(shown: str) -> None:
    name = PurePosixPath(shown).name
    if file_kind(name) is None:
        raise DataError(
            f"dataset.source: {shown!r} is none of the kinds read here: {described_kinds()}"
        )


def _file_system(url: str, shown: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition(":")[0].lower()
    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT
        )
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        install = f"pip install 'proofbox[{extra}]'" if extra else str(error)
        raise MachineError(
            f"dataset.source: {shown!r} needs a package that is not installed here: {install}"
        ) from None
    except ValueError:
        raise DataError(f"dataset.source: {shown!r}: unknown protocol {protocol!r}") from None
    return system, str(path)


def _fetch(system: Any, path: str, url: str, shown: str) -> FetchedFile:  # noqa: ANN401 - fsspec ships no types
    folder = cache_folder() / "downloads"
    entry = folder / "urls" / f"{text_digest(url)}.json"
    try:
        info = system.info(path)
        stamp = _stamp(info)
        copy = _copy_of(entry, folder)
        if copy is None or not stamp or copy.stamp != stamp:
            copy = _download(system, path, shown, info, folder)
            write_json(entry, {"stamp": stamp, "file": copy.path.name})
    except _errors() as error:
        return _unreached(error, _copy_of(entry, folder), shown)
    return FetchedFile(path=copy.path, name=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    path: Path
    stamp: Mapping[str, str]


def _copy_of(entry: Path, folder: Path) -> _Copy | None:
    if not entry.is_file():
        return None
    try:
        values = read_json(entry)
        copy = _Copy(path=folder / values["file"], stamp=values["stamp"])
    except (MachineError, KeyError, TypeError):
        return None  # damaged: fetched again
    return copy if copy.path.is_file() else None


def _stamp(info: Mapping[str, Any]) -> dict[str, str]:
    """What tells versions of a file apart, or nothing: a size alone does not."""
    said = {name: str(info[name]) for name in _VALIDATORS if info.get(name) is not None}
    return {**said, "size": str(info.get("size"))} if said else {}


def _download(
    system: Any,  # noqa: ANN401 - fsspec ships no types
    path: str,
    shown: str,
    info: Mapping[str, Any],
    folder: Path,
) -> _Copy:
    """Fetch into a temporary file, and name it by its content once it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        system.get_file(path, str(temporary))
        expected, got = info.get("size"), temporary.stat().st_size
        if expected is not None and int(expected) != got:
            raise MachineError(
                f"dataset.source: {shown}: {got:,} of {int(expected):,} bytes came. Try again."
            )
        target = folder / f"{file_digest(temporary)}{file_kind(PurePosixPath(shown).name)}"
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    return _Copy(path=target, stamp=_stamp(info))


# Failing


def _errors() -> tuple[type[BaseException], ...]:
    """What fsspec's protocols raise where a server does not answer, or answers no."""
    found: list[type[BaseException]] = [OSError, TimeoutError]
    for module, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
        ("google.auth.exceptions", "GoogleAuthError"),
    ):
        found.extend(_loaded(module, name))
    return tuple(found)


def _loaded(module: str, name: str) -> list[type[BaseException]]:
    """An exception of a module that is in use; one that was never loaded raises nothing."""
    import sys

    there = getattr(sys.modules.get(module), name, None)
    return [there] if isinstance(there, type) and issubclass(there, BaseException) else []


def _unreached(error: BaseException, copy: _Copy | None, shown: str) -> FetchedFile:
    cause = _cause(error)
    if _is_refusal(cause):
        raise (DataError if isinstance(cause, FileNotFoundError) else MachineError)(
            f"dataset.source: {shown}: {_reason(error)}"
        ) from None
    if copy is None:
        raise MachineError(
            f"dataset.source: {shown}: {_reason(error)}, and there is no copy of it in the cache"
        ) from None
    note = f"{shown}: {_reason(error)}; the copy fetched earlier is used"
    return FetchedFile(path=copy.path, name=shown, note=note)


def _cause(error: BaseException) -> BaseException:
    """What failed: of HTTP, fsspec tells everything as a file not found, and keeps the cause."""
    return error.__cause__ or error


def _is_refusal(cause: BaseException) -> bool:
    status = getattr(cause, "status", None)
    return status in _REFUSED or isinstance(cause, FileNotFoundError | PermissionError)


def _reason(error: BaseException) -> str:
    """What went wrong; texts of libraries hold whole URLs and are not repeated."""
    cause = _cause(error)
    status = getattr(cause, "status", None)
    if status is not None:
        return f"the server answered {status}"
    if isinstance(cause, FileNotFoundError):
        return "no such file"
    if isinstance(cause, PermissionError):
        return "access is denied"
    return f"the server cannot be reached ({type(cause).__name__})"
