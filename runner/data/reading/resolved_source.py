"""One source of rows, found and not read yet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from runner.data.reading.row_files import file_kind
from runner.recipe import PartitionName


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A local file of rows; ``name`` is what messages call it, and says its kind."""

    name: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """One of the recipe's sources, found and not read yet: files or a Hub dataset.

    ``revision`` is the commit of a Hub dataset; ``snapshot`` its folder in the Hub's local cache
    where the Hub cannot be reached. There are no files where earlier sources name them all.
    """

    name: str
    files: tuple[SourceFile, ...]
    hub: str | None = None
    split: str | None = None
    revision: str | None = None
    snapshot: str | None = None
    limit: int | None = None
    weight: float = 1.0
    filter: str | None = None
    partition: PartitionName | None = None

    @property
    def described(self) -> str:
        """What messages call its rows."""
        if self.hub is not None:
            return f"the split {self.split!r} of the Hub dataset {self.hub!r}"
        return ", ".join(file.name for file in self.files) or self.name

    @property
    def content(self) -> Any:  # noqa: ANN401 - plain values for a digest
        """What its rows depend on but for the recipe."""
        if self.hub is not None:
            return {"hub": self.hub, "commit": self.revision, "split": self.split}
        return [[file_kind(file.name), file.sha256] for file in self.files]

    def as_json(self) -> dict[str, Any]:
        """The values that ``lock.json`` keeps: nothing that differs by machine."""
        values = asdict(self)
        del values["snapshot"]
        return {**values, "files": [file.name for file in self.files]}
