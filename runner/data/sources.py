"""Where rows come from: local files and the Hub. Finds them, digests them, reads them faithfully.

Files are read here and not by the builders of ``datasets``: those guess types (a column of ISO
dates becomes timestamps, the text "NA" in a CSV becomes null) and do not say which line is broken.
The rows still end in a ``datasets.Dataset``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.row_faults import RowFaults
from runner.data.row_files import READERS, Row
from runner.digests import digest_of_json, file_digest
from runner.errors import DataError, MachineError
from runner.recipe import Dataset as DatasetBlock

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

HUB_TIMEOUT = 5.0  # seconds until the Hub counts as unreachable
CHUNK = 10_000  # rows turned into Arrow at a time
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A local file of rows; ``name`` is what messages call it."""

    name: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """Rows that were found and not read yet: either local files or a Hub dataset.

    ``revision`` is the commit of a Hub dataset; ``snapshot`` its folder in the Hub's local cache
    where the Hub cannot be reached.
    """

    files: tuple[SourceFile, ...]
    hub: str | None
    split: str
    revision: str | None
    snapshot: str | None
    digest: str

    def as_json(self) -> dict[str, Any]:
        """The values that ``lock.json`` keeps under ``data``: nothing that differs by machine."""
        files = [{k: v for k, v in asdict(file).items() if k != "path"} for file in self.files]
        return {"digest": self.digest, "files": files, "revision": self.revision}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that is read. ``fault`` names what is wrong with a value, or gives None."""

    name: str
    fault: Callable[[object], str | None]
    messages: bool = False


def resolve_source(dataset: DatasetBlock, base_folder: Path) -> SourceRecord:
    """Find a recipe's rows: files relative to ``base_folder`` with digests, or a Hub commit.

    Raises:
        DataError: no such file, an unknown kind of file, or files mixed with a Hub dataset.
        MachineError: a Hub dataset that cannot be had from here.
    """
    hub = [name for name in dataset.sources if _is_hub_name(name, base_folder)]
    if not hub:
        return _resolve_files(dataset, base_folder)
    if len(dataset.sources) > 1:
        raise DataError(
            f"dataset.source: {hub[0]!r} is no file here and so means a Hub dataset; a list takes "
            "local files only. Give the Hub dataset alone, or correct the path."
        )
    return _resolve_hub(hub[0], dataset)


def load_rows(source: SourceRecord, columns: Sequence[Column]) -> datasets.Dataset:
    """Read ``columns`` of every row, in order, and check every value.

    Raises:
        DataError: a malformed line, a row without a column, a value of the wrong type, or no rows.
    """
    import datasets

    table = _arrow_table(_checked_chunks(source, columns), columns)
    if not table.num_rows:
        raise DataError(f"dataset.source: {_describe(source)} has no rows")
    return datasets.Dataset(datasets.table.InMemoryTable(table), fingerprint=source.digest[:16])


def text_fault(value: object) -> str | None:
    """What keeps ``value`` from being a text, or None."""
    if not isinstance(value, str):
        return f"holds {type_name(value)}, not a text"
    return None if _is_unicode(value) else "holds half of a surrogate pair, which no text has"


def type_name(value: object) -> str:
    """The type of a value in the words of JSON."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), "a list")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Finding


def _is_hub_name(name: str, folder: Path) -> bool:
    if _GLOB.search(name) or name.startswith((".", "/", "~")) or (folder / name).exists():
        return False
    return bool(_HUB_NAME.fullmatch(name)) and Path(name).suffix.lower() not in READERS


def _resolve_files(dataset: DatasetBlock, folder: Path) -> SourceRecord:
    paths: dict[Path, str] = {}
    for name in dataset.sources:
        paths.update({path: _shown_name(path, folder) for path in _matches(name, folder)})
    if dataset.split != "train":
        raise DataError(
            f"dataset.split: {dataset.split!r} is for Hub datasets; local files have no splits. "
            "Take the key out, and name only the files that are meant."
        )
    if dataset.revision is not None:
        raise DataError(
            f"dataset.revision: {dataset.revision!r} is for Hub datasets; local files have no "
            "revisions. Take the key out: the lock records their digests."
        )
    files = tuple(_source_file(path, name) for path, name in paths.items())
    digest = digest_of_json([[Path(file.name).suffix.lower(), file.sha256] for file in files])
    return SourceRecord(
        files=files, hub=None, split="train", revision=None, snapshot=None, digest=digest
    )


def _matches(name: str, folder: Path) -> list[Path]:
    pattern = Path(name).expanduser()
    if _GLOB.search(name) and not (folder / pattern).exists():
        found = _glob(folder, pattern)
        if not found:
            raise DataError(f"dataset.source: {name!r} matches no file (looked in {folder})")
    else:
        found = [folder / pattern]
    for path in found:
        _check_file(path, name)
    return found


def _glob(folder: Path, pattern: Path) -> list[Path]:
    root = Path(pattern.anchor) if pattern.is_absolute() else folder
    relative = pattern.relative_to(root) if pattern.is_absolute() else pattern
    return sorted(path for path in root.glob(str(relative)) if path.is_file())


def _check_file(path: Path, name: str) -> None:
    kinds = ", ".join(READERS)
    if path.is_dir():
        raise DataError(
            f"dataset.source: {name!r} is a folder. Name its files, for example {name}/*.jsonl"
        )
    if not path.is_file():
        raise DataError(f"dataset.source: {name!r}: no such file (looked for {path})")
    if path.suffix.lower() not in READERS:
        raise DataError(f"dataset.source: {path.name!r} is none of the kinds read here: {kinds}")


def _shown_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _source_file(path: Path, name: str) -> SourceFile:
    try:
        size, digest = path.stat().st_size, file_digest(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror}") from None
    return SourceFile(name=name, path=str(path), sha256=digest, bytes=size)


def _resolve_hub(name: str, dataset: DatasetBlock) -> SourceRecord:
    commit, snapshot = _hub_commit(name, dataset.revision)
    return SourceRecord(
        files=(),
        hub=name,
        split=dataset.split,
        revision=commit,
        snapshot=snapshot,
        digest=digest_of_json({"hub": name, "commit": commit, "split": dataset.split}),
    )


def _hub_commit(name: str, revision: str | None) -> tuple[str, str | None]:
    """The commit of a Hub dataset, and the folder of its cached copy where the Hub is out of reach.

    One request with a short timeout: ``load_dataset`` would retry for minutes without a network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # of whichever HTTP library this version of huggingface_hub stands on
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT)
    except OfflineModeIsEnabled:
        return _cached_snapshot(name, revision, "HF_HUB_OFFLINE is set")
    except HfHubHTTPError as error:
        raise MachineError(_hub_refusal(name, revision, error.response.status_code)) from None
    except (http_error, OSError):
        return _cached_snapshot(name, revision, "the Hub cannot be reached from here")
    return str(info.sha), None


def _hub_refusal(name: str, revision: str | None, status: int) -> str:
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"dataset.source: {name!r} is no file here, and the Hub answered {status} for a dataset of "
        f"this name{at}. Is the name right, and is a token set for a private or gated dataset?"
    )


def _cached_snapshot(name: str, revision: str | None, reason: str) -> tuple[str, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        raise MachineError(
            f"dataset.source: {name!r} is no file here, and {reason}; no dataset of this name "
            "is in the local cache either. Correct the path, or fetch the dataset where there is "
            f"a network (hf download --repo-type dataset {name})."
        ) from None
    return Path(folder).name, folder


# Reading


def _describe(source: SourceRecord) -> str:
    if source.hub:
        return f"the split {source.split!r} of the Hub dataset {source.hub!r}"
    return ", ".join(file.name for file in source.files)


def _checked_chunks(source: SourceRecord, columns: Sequence[Column]) -> Iterator[list[Row]]:
    """Rows in chunks; raises at the end of the data with every fault of every row."""
    faults, chunk = RowFaults(), list[Row]()
    for number, (place, row) in enumerate(_rows(source, faults)):
        for column in columns:
            _check_value(column, row, f"row {number}{place}", faults)
        if not faults.counts:
            chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    faults.raise_if_any(f"dataset.source: {_describe(source)} cannot be used as the recipe says:")
    yield chunk


def _check_value(column: Column, row: Row, place: str, faults: RowFaults) -> None:
    if column.name not in row:
        names = ", ".join(map(repr, row)) or "none"
        faults.add(
            f"no column {column.name!r} (columns there: {names}; "
            "`dataset.columns` maps names that differ; "
            "write `input: null` where the rows have none)",
            place,
        )
        return
    fault = column.fault(row[column.name])
    if fault:
        faults.add(f"column {column.name!r} {fault}", place)


def _rows(source: SourceRecord, faults: RowFaults) -> Iterator[tuple[str, Row]]:
    """Each row with its place in a file (empty where only the row number tells)."""
    if source.hub:
        yield from (("", row) for row in _hub_rows(source))
        return
    for file in source.files:
        path = Path(file.path)
        yield from READERS[path.suffix.lower()](path, file.name, faults)


def _hub_rows(source: SourceRecord) -> Iterator[Row]:
    import datasets

    try:
        dataset = datasets.load_dataset(
            source.snapshot or source.hub,
            split=source.split,
            revision=None if source.snapshot else source.revision,
        )
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"dataset.source: {_describe(source)} cannot be loaded: {error}") from None
    yield from dataset


def _arrow_table(chunks: Iterator[list[Row]], columns: Sequence[Column]) -> pa.Table:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema(
        [(c.name, pa.list_(message) if c.messages else pa.large_string()) for c in columns]
    )
    tables = [
        pa.table([[row[c.name] for row in chunk] for c in columns], schema=schema)
        for chunk in chunks
    ]
    return pa.concat_tables(tables)
