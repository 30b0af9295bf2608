"""Prepared partitions as Parquet files: how they are written, and read back for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.data.labels.labelled_rows import LabelledRows, Ragged
from runner.data.prepared_data import Histogram, PreparedData, PreparedPartition
from runner.digests import digest_of_lines, file_digest
from runner.errors import MachineError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

BINS = 20
AT_ONCE = 1000  # copies of rows in memory
# Token ids split into their first bytes, second bytes and so on take less space, and a quarter less
# time, than with a dictionary in each row group. Row numbers are looked for by their statistics.
# Tables are gathered until they have so many rows or bytes: a row group has its own costs.
ROW_GROUP, ROW_GROUP_BYTES = 500, 4_000_000
WRITING: Mapping[str, Any] = {
    "compression": "zstd",
    "use_dictionary": False,
    "write_statistics": ["row"],
    "column_encoding": {
        f"{name}.list.element": "BYTE_STREAM_SPLIT"
        for name in ("input_ids", "labels", "prompt_ids")
    },
}


def example_table(batch: LabelledRows, columns: Mapping[str, Sequence[str]]) -> pa.Table:
    """A batch of examples with the columns that training and ``evalsuite`` read, but for their ids.

    ``labels`` are not shifted; ``supervised_bytes`` counts UTF-8 bytes; ``question`` is what is
    asked, without system message and template. ``columns`` are those of `EvaluationColumns.texts`.
    """
    import pyarrow as pa

    labels = Ragged(values=batch.labels, offsets=batch.input_ids.offsets)
    return pa.table(
        {
            "row": pa.array(batch.rows, type=pa.int64()),
            "input_ids": _list_array(batch.input_ids),
            "labels": _list_array(labels),
            "prompt_ids": _list_array(batch.prompt_ids),
            "prompt": pa.array(batch.prompts, type=pa.string()),
            "answer": pa.array(batch.answers, type=pa.string()),
            "supervised_bytes": pa.array(batch.supervised_bytes, type=pa.int64()),
            **{name: pa.array(texts, type=pa.string()) for name, texts in columns.items()},
            "question": pa.array(batch.questions, type=pa.string()),
        }
    )


def with_ids(table: pa.Table, example_ids: Sequence[str]) -> pa.Table:
    """``table`` with the column ``example_id`` first."""
    import pyarrow as pa

    return table.add_column(0, "example_id", pa.array(example_ids, type=pa.string()))


def _list_array(rows: Ragged) -> pa.ListArray:
    import pyarrow as pa

    offsets = pa.array(rows.offsets.astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(rows.values, type=pa.int32()))


@dataclass(slots=True)
class PartitionWriter:
    """Writes one partition batch by batch, and counts what it writes."""

    path: Path
    supervised_tokens: int = 0
    lengths: list[NDArray[np.int64]] = field(default_factory=list)
    _writer: ParquetWriter | None = None
    _pending: list[pa.Table] = field(default_factory=list)
    _membership: Any = field(default_factory=hashlib.sha256)

    def write(self, table: pa.Table) -> None:
        """Add a table made by ``with_ids``; small ones are gathered, a row group is worth a few."""
        from pyarrow import compute

        self._pending.append(table)
        rows = sum(part.num_rows for part in self._pending)
        if rows >= ROW_GROUP or sum(part.nbytes for part in self._pending) >= ROW_GROUP_BYTES:
            self._flush()
        lengths = compute.list_value_length(table["input_ids"]).to_numpy()
        self.lengths.append(lengths.astype(np.int64))
        labels = compute.list_flatten(table["labels"])
        self.supervised_tokens += int(compute.sum(compute.greater_equal(labels, 0)).as_py() or 0)
        self._membership.update(
            b"".join(i.encode() + b"\n" for i in table["example_id"].to_pylist())
        )

    @property
    def rows(self) -> int:
        """Examples written so far."""
        return sum(map(len, self.lengths))

    @property
    def longest(self) -> int:
        """Tokens of the longest example so far."""
        return max((int(lengths.max()) for lengths in self.lengths if len(lengths)), default=0)

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.concat_tables(self._pending)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self.path, table.schema, **WRITING)
        self._writer.write_table(table)
        self._pending = []

    def close(self) -> None:
        """Finish the file; nothing can be written after."""
        if self._pending:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def rewritten(
        self, copies: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    ) -> PartitionWriter:
        """The same partition with each row as often as ``copies`` says of its row number.

        Copies after the first get ids of their own. The file is replaced.
        """
        from pyarrow import parquet

        self.close()
        new = PartitionWriter(self.path.with_suffix(".new"))
        with parquet.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                new.write_repeated(table, copies(table["row"].to_numpy()))
        new.close()
        if new.rows:
            new.path.replace(self.path)
        else:
            self.path.unlink()
        new.path = self.path
        return new

    def write_repeated(self, table: pa.Table, times: NDArray[np.int64]) -> None:
        """Add each row of ``table`` as many ``times`` as is said beside it."""
        places = np.repeat(np.arange(len(times)), times)
        copy = np.arange(len(places)) - np.repeat(np.cumsum(times) - times, times)
        for low in range(0, len(places), AT_ONCE):
            part = slice(low, low + AT_ONCE)
            ids = table["example_id"].take(places[part]).to_pylist()
            named = [f"{i}x{at + 1}" if at else i for i, at in zip(ids, copy[part], strict=True)]
            self.write(with_ids(table.drop_columns(["example_id"]).take(places[part]), named))

    def record(self, edges: Sequence[int]) -> PreparedPartition:
        """What was written, with lengths counted between ``edges``."""
        lengths = np.concatenate(self.lengths)
        counts, _ = np.histogram(lengths, bins=np.asarray(edges))
        return PreparedPartition(
            file=self.path.name,
            sha256=file_digest(self.path),
            rows=self.rows,
            tokens=int(lengths.sum()),
            supervised_tokens=self.supervised_tokens,
            digest=self._membership.hexdigest(),
            longest=self.longest,
            lengths=Histogram(edges=tuple(edges), counts=tuple(map(int, counts))),
        )


def histogram_edges(longest: int) -> list[int]:
    """Edges of ``BINS`` equally wide bins that hold lengths up to ``longest``."""
    width = max(1, -(-longest // BINS))
    return [width * i for i in range(BINS + 1)]


def partition_dataset(prepared: PreparedData, partition: str) -> datasets.Dataset:
    """One partition for the trainer: ``input_ids`` and ``labels``, in order.

    Raises:
        MachineError: the file's members are not those that were prepared.
        DataError: there is no such partition.
    """
    import datasets
    from pyarrow import parquet

    path = prepared.path(partition)
    try:
        table = parquet.read_table(path, columns=["example_id", "input_ids", "labels"])
    except (OSError, ValueError) as error:
        raise MachineError(f"{path}: not a sound Parquet file: {error}") from None
    found = digest_of_lines(table["example_id"].to_pylist())
    wanted = prepared.partitions[partition].digest
    if found != wanted:
        raise MachineError(
            f"{path}: its examples are not those that were prepared for {partition} (membership "
            f"digest {found[:12]}, expected {wanted[:12]}). Remove the file's folder and run again."
        )
    return datasets.Dataset(
        datasets.table.InMemoryTable(table.drop_columns(["example_id"])),
        fingerprint=prepared.partitions[partition].sha256[:16],
    )
