"""Where rows come from: local files, URLs and the Hub. Finds them and digests them."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from runner.data.reading.file_stat_digests import cached_file_digest
from runner.data.reading.hub_datasets import hub_commit, may_be_hub_name
from runner.data.reading.remote_files import fetch_files
from runner.data.reading.resolved_source import ResolvedSource, SourceFile
from runner.data.reading.row_files import described_kinds, file_kind
from runner.data.reading.urls import is_url, shown_url
from runner.digests import digest_of_json
from runner.errors import DataError, MachineError
from runner.recipe import Dataset as DatasetBlock
from runner.recipe import Source as SourceBlock

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """Rows that were found and not read yet, one ``ResolvedSource`` for each of the recipe's.

    ``filter`` is the recipe's for all of them. ``digest`` is that of their content and of nothing
    else. ``notes`` say what was decided in finding them.
    """

    sources: tuple[ResolvedSource, ...]
    digest: str
    filter: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files of all sources."""
        return tuple(file for source in self.sources for file in source.files)

    @property
    def name(self) -> str:
        """What messages call all of the rows."""
        return ", ".join(s.described for s in self.sources if s.files or s.hub is not None)

    @property
    def hubs(self) -> tuple[str, ...]:
        """The Hub datasets among the sources."""
        return tuple(source.hub for source in self.sources if source.hub is not None)

    @property
    def revisions(self) -> tuple[str | None, ...]:
        """The commit of each source, None for files: what ``pinned_dataset`` takes."""
        return tuple(source.revision for source in self.sources)

    @property
    def revision(self) -> str | None:
        """The commit of the Hub dataset, where there is exactly one."""
        commits = [source.revision for source in self.sources if source.hub is not None]
        return commits[0] if len(commits) == 1 else None

    def as_json(self) -> dict[str, Any]:
        """The values that ``lock.json`` keeps under ``data``: nothing that differs by machine."""
        files = [{k: v for k, v in asdict(file).items() if k != "path"} for file in self.files]
        return {
            "digest": self.digest,
            "files": files,
            "revision": self.revision,
            "revisions": list(self.revisions),
            "sources": [source.as_json() for source in self.sources],
        }


def resolve_source(dataset: DatasetBlock, base_folder: Path) -> SourceRecord:
    """Find a recipe's rows: files relative to ``base_folder``, URLs, Hub datasets.

    Raises:
        DataError: no such file, an unknown kind of file, or keys that do not fit.
        MachineError: a URL or a Hub dataset that cannot be had from here.
    """
    notes: list[str] = []
    found = [_resolve(source, dataset, base_folder, notes) for source in dataset.sources]
    _check_hub_keys(dataset, found)
    sources = tuple(_without_repeats(found, notes))
    return SourceRecord(
        sources=sources,
        digest=digest_of_json([source.content for source in sources]),
        filter=dataset.filter,
        notes=tuple(notes),
    )


def pinned_dataset(dataset: DatasetBlock, revisions: Sequence[str | None]) -> DatasetBlock:
    """``dataset`` with the commit of each source, as ``SourceRecord.revisions`` has them.

    Raises:
        DataError: there are not as many sources.
    """
    if len(revisions) != len(dataset.sources):
        raise DataError(
            f"dataset.source: {len(revisions)} sources were resolved before, and the recipe has "
            f"{len(dataset.sources)}"
        )
    pinned = tuple(
        source if commit is None else source.model_copy(update={"revision": commit})
        for source, commit in zip(dataset.sources, revisions, strict=True)
    )
    return dataset.model_copy(update={"source": pinned})


# Finding


def _resolve(
    block: SourceBlock, dataset: DatasetBlock, folder: Path, notes: list[str]
) -> ResolvedSource:
    kept = {key: getattr(block, key) for key in ("limit", "weight", "filter", "partition")}
    name = block.path
    if is_url(name):
        fetched = fetch_files(name)
        notes.extend(file.note for file in fetched if file.note)
        files = tuple(_source_file(file.path, file.name) for file in fetched)
        return ResolvedSource(name=shown_url(name), files=files, **kept)
    if not _is_hub_name(name, folder):
        files = tuple(_source_file(p, _shown_name(p, folder)) for p in _matches(name, folder))
        return ResolvedSource(name=_shown_path(name, folder), files=files, **kept)
    commit, snapshot = hub_commit(name, block.revision or dataset.revision)
    if snapshot is not None:
        notes.append(f"{name}: the Hub was not reached; its local copy at {commit[:12]} is used")
    return ResolvedSource(
        name=name,
        files=(),
        hub=name,
        split=block.split or dataset.split,
        revision=commit,
        snapshot=snapshot,
        **kept,
    )


def _is_hub_name(name: str, folder: Path) -> bool:
    if _GLOB.search(name) or name.startswith((".", "/", "~")) or (folder / name).exists():
        return False
    return may_be_hub_name(name) and file_kind(name) is None


def _check_hub_keys(dataset: DatasetBlock, found: Sequence[ResolvedSource]) -> None:
    """Refuse splits and revisions of files, and a revision that several Hub datasets would share.

    Raises:
        DataError: there is one.
    """
    for index, (block, source) in enumerate(zip(dataset.sources, found, strict=True)):
        for key in ("split", "revision"):
            if source.hub is None and getattr(block, key) is not None:
                raise DataError(_no_hub(f"dataset.source[{index}].{key}", getattr(block, key)))
    hubs = [source for source in found if source.hub is not None]
    if not hubs and dataset.split != "train":
        raise DataError(_no_hub("dataset.split", dataset.split))
    if not hubs and dataset.revision is not None:
        raise DataError(_no_hub("dataset.revision", dataset.revision))
    if dataset.revision is not None and len({source.hub for source in hubs}) > 1:
        raise DataError(
            "dataset.revision: several Hub datasets cannot share a revision. Give each source its "
            "own: {path: owner/dataset, revision: …}"
        )


def _no_hub(key: str, value: str) -> str:
    what = (
        "splits. Take the key out, and name only the files that are meant."
        if key.endswith("split")
        else "revisions. Take the key out: the lock records their digests."
    )
    return f"{key}: {value!r} is for Hub datasets; files have no {what}"


def _without_repeats(found: Sequence[ResolvedSource], notes: list[str]) -> Iterator[ResolvedSource]:
    """Each file and each split of the Hub once, unless filters take different rows of it.

    Raises:
        DataError: one would be read twice.
    """
    readers: dict[Hashable, list[ResolvedSource]] = {}
    names: dict[Hashable, str] = {}
    for source in found:
        shown = _shown_rows(source)
        new = {key for key in shown if _is_new(shown[key], source, readers.get(key, ()))}
        yield _only(source, new)
        for key in filter(new.__contains__, shown):
            readers.setdefault(key, []).append(source)
            names.setdefault(key, shown[key])
    notes.extend(_overlap(names[key], read_in) for key, read_in in readers.items() if read_in[1:])


def _shown_rows(source: ResolvedSource) -> dict[Hashable, str]:
    """What is one and the same however it is written -> what messages call it."""
    if source.hub is not None:
        return {(source.hub, source.revision, source.split): source.described}
    return {os.path.realpath(file.path): file.name for file in source.files}


def _only(source: ResolvedSource, new: set[Hashable]) -> ResolvedSource:
    """``source`` with what is ``new`` alone, each once."""
    if source.hub is not None:
        return source if new else replace(source, hub=None, split=None)
    files: dict[Hashable, SourceFile] = {}
    for file in source.files:
        if (key := os.path.realpath(file.path)) in new:
            files.setdefault(key, file)
    return replace(source, files=tuple(files.values()))


def _is_new(shown: str, source: ResolvedSource, readers: Sequence[ResolvedSource]) -> bool:
    """Whether no earlier source takes the same rows.

    Raises:
        DataError: one does, with other settings.
    """
    earlier = next((reader for reader in readers if reader.filter == source.filter), None)
    if earlier is not None and not _treated_alike(earlier, source):
        raise DataError(
            f"dataset.source: {shown!r} is named by {earlier.name!r} and by {source.name!r} with "
            "other settings: its rows would be used twice. Name it once, or give both a filter."
        )
    return earlier is None


def _overlap(name: str, readers: Sequence[ResolvedSource]) -> str:
    """What is said of rows that several sources may take."""
    filters = sum(reader.filter is not None for reader in readers)
    passing = {1: "the filter passes", 2: "both filters pass"}.get(filters, "several filters pass")
    times = "twice" if len(readers) == 2 else "more than once"  # noqa: PLR2004
    return f"{name} is read in {len(readers)} sources: a row that {passing} is used {times}"


def _treated_alike(one: ResolvedSource, other: ResolvedSource) -> bool:
    keys = ("limit", "weight", "partition")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


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
    if path.is_dir():
        raise DataError(
            f"dataset.source: {name!r} is a folder. Name its files, for example {name}/*.jsonl"
        )
    if not path.is_file():
        raise DataError(f"dataset.source: {name!r}: no such file (looked for {path})")
    if file_kind(path.name) is None:
        raise DataError(
            f"dataset.source: {path.name!r} is none of the kinds read here: {described_kinds()}"
        )


def _shown_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _shown_path(name: str, folder: Path) -> str:
    """A path or pattern as the recipe has it, but no folder of this machine."""
    path = Path(name).expanduser()
    return _shown_name(path, folder) if path.is_absolute() else name


def _source_file(path: Path, name: str) -> SourceFile:
    try:
        size, digest = path.stat().st_size, cached_file_digest(path)
    except OSError as error:
        raise MachineError(f"{name}: cannot be read: {error.strerror}") from None
    return SourceFile(name=name, path=str(path), sha256=digest, bytes=size)
