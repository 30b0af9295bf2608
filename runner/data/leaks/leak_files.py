"""The two lists of leaks beside prepared data, as Parquet files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runner.data.leaks.leak_finder import FoundLeaks, LeakSide
from runner.data.leaks.leak_report import LEAKED_FILE, PAIRS_FILE
from runner.data.partition import SPLITS


def write_leaks(found: FoundLeaks, folder: Path, *, example_id: Callable[[int], str]) -> None:
    """Write the listed pairs and the held-out rows that leak into ``folder``.

    Args:
        found: What was found.
        folder: Where the files go.
        example_id: The id of a row's example.
    """
    import pyarrow as pa
    from pyarrow import parquet

    pairs, leaked = found.pairs, found.leaked
    columns = {
        "kind": pa.array([pair.kind for pair in pairs], pa.string()),
        "by": pa.array([pair.by for pair in pairs], pa.string()),
        "similarity": pa.array([pair.similarity for pair in pairs], pa.float64()),
    }
    for side in ("first", "second"):
        rows: list[LeakSide] = [getattr(pair, side) for pair in pairs]
        ids = [example_id(r.row) if r.partition in SPLITS else "" for r in rows]
        columns[f"{side}_partition"] = pa.array([r.partition for r in rows], pa.string())
        columns[f"{side}_row"] = pa.array([r.row for r in rows], pa.int64())
        columns[f"{side}_example_id"] = pa.array(ids, pa.string())
        columns[f"{side}_text"] = pa.array([_storable(r.text) for r in rows], pa.string())
    parquet.write_table(pa.table(columns), folder / PAIRS_FILE)
    marked = {
        "partition": pa.array([row.partition for row in leaked], pa.string()),
        "example_id": pa.array([example_id(row.row) for row in leaked], pa.string()),
        "row": pa.array([row.row for row in leaked], pa.int64()),
        "kind": pa.array([row.kind for row in leaked], pa.string()),
    }
    parquet.write_table(pa.table(marked), folder / LEAKED_FILE)


def _storable(text: str) -> str:
    """``text`` without halves of characters, which a file cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
