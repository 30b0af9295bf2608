"""Keys of all rows on disk, one file for each kind of key, so that one at a time is in memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.data.leaks.leak_report import ComparedBy
from runner.data.leaks.near_duplicates import SKETCH, Fingerprints, TextKeys


@dataclass(slots=True)
class KeyFiles:
    """Keys in the order in which they were appended, in a folder of their own."""

    folder: Path
    characters: int = 0
    rows: int = 0
    bands: int = 0

    def append(self, keys: Fingerprints) -> None:
        """Add the keys of some rows."""
        self.folder.mkdir(exist_ok=True)
        self.characters += keys.characters
        self.rows += len(keys.prompt.exact)
        self.bands = keys.prompt.bands.shape[1]
        self._append("prompt", keys.prompt)
        self._append("answer", keys.answer)

    def _append(self, by: ComparedBy, keys: TextKeys) -> None:
        columns = {"exact": keys.exact, "sketches": keys.sketches}
        columns |= {f"band-{band}": column for band, column in enumerate(keys.bands.T)}
        for name, column in columns.items():
            with (self.folder / f"{by}-{name}").open("ab") as file:
                file.write(np.ascontiguousarray(column).tobytes())

    def exact(self, by: ComparedBy) -> NDArray[np.uint64]:
        """Digests of the normalized texts: [rows, 2]."""
        return self._read(by, "exact", np.dtype(np.uint64)).reshape(-1, 2)

    def sketches(self, by: ComparedBy) -> NDArray[np.uint64]:
        """Sketches [rows, SKETCH], mapped: only those that are looked at are read."""
        if not self.rows:
            return np.zeros((0, SKETCH), dtype=np.uint64)
        mapped = np.memmap(self.folder / f"{by}-sketches", dtype=np.uint64, mode="r")
        return np.asarray(mapped).reshape(-1, SKETCH)

    def band(self, by: ComparedBy, band: int) -> NDArray[np.uint32]:
        """Keys of one band: [rows]."""
        return self._read(by, f"band-{band}", np.dtype(np.uint32))

    def _read(self, by: ComparedBy, name: str, kind: np.dtype) -> NDArray:  # type: ignore[type-arg]  # of any kind
        path = self.folder / f"{by}-{name}"
        return np.fromfile(path, dtype=kind) if path.is_file() else np.zeros(0, dtype=kind)

    def remove(self) -> None:
        """Remove the files."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
