from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import partition_files
from runner.data.labels.labelled_rows import UNSUPERVISED, LabelledRows, ragged
from runner.data.partition_files import (
    PartitionWriter,
    example_table,
    histogram_edges,
    partition_dataset,
    with_ids,
)
from runner.digests import file_digest
from runner.errors import DataError, MachineError
from tests.runner.data.preparing import POSITION, prepare, rows, table, write
from tests.runner.tiny_data import make_recipe


def examples(numbers: list[int]) -> pa.Table:
    """Rows of 3 + number tokens, of which 2 + number are supervised."""
    ids = ragged([[1, *range(10, 12 + n)] for n in numbers])
    batch = LabelledRows(
        rows=np.array(numbers, dtype=np.int64),
        input_ids=ids,
        labels=np.where(ids.place() == 0, UNSUPERVISED, ids.values).astype(np.int32),
        prompt_ids=ragged([[1] for _ in numbers]),
        prompts=tuple(f"prompt {n}" for n in numbers),
        questions=tuple(f"question {n}" for n in numbers),
        contexts=("",) * len(numbers),
        answers=tuple(f"answer {n}" for n in numbers),
        supervised=tuple((f"ä{n}", "🙂") for n in numbers),
        supervised_bytes=np.array([7] * len(numbers), dtype=np.int64),
        marks_differ=np.zeros(len(numbers), dtype=np.bool_),
    )
    made = example_table(batch, {"tests": [f"assert {n}" for n in numbers]})
    return with_ids(made, [f"id{n}" for n in numbers])


def written(path: Path, *batches: list[int]) -> PartitionWriter:
    writer = PartitionWriter(path)
    for numbers in batches:
        writer.write(examples(numbers))
    writer.close()
    return writer


def ids_of(path: Path) -> list[str]:
    return pq.read_table(path)["example_id"].to_pylist()


def membership(ids: list[str]) -> str:
    return hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()


def test_an_example_has_its_own_values(tmp_path: Path) -> None:
    written(tmp_path / "train.parquet", [0, 3])
    assert pq.read_table(tmp_path / "train.parquet").to_pylist()[1] == {
        "example_id": "id3",
        "row": 3,
        "input_ids": [1, 10, 11, 12, 13, 14],
        "labels": [UNSUPERVISED, 10, 11, 12, 13, 14],
        "prompt_ids": [1],
        "prompt": "prompt 3",
        "answer": "answer 3",
        "supervised_bytes": 7,
        "tests": "assert 3",
        "question": "question 3",
    }


def test_no_examples_are_an_empty_table_of_the_same_columns() -> None:
    assert examples([]).schema == examples([1]).schema
    assert examples([]).num_rows == 0


def test_the_record_says_what_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    writer = written(path, [0, 1, 2], [7])
    record = writer.record([0, 5, 10])
    assert record.file == "train.parquet"
    assert record.sha256 == file_digest(path)
    assert record.digest == membership(["id0", "id1", "id2", "id7"])
    assert (record.rows, record.longest) == (4, 10)
    assert record.tokens == 3 + 4 + 5 + 10
    assert record.supervised_tokens == record.tokens - 4
    assert record.lengths.edges == (0, 5, 10)
    assert record.lengths.counts == (2, 2)


@pytest.mark.parametrize("longest", [0, 1, 19, 20, 21, 199, 2048])
def test_edges_hold_every_length(longest: int) -> None:
    edges = histogram_edges(longest)
    assert len(edges) == partition_files.BINS + 1
    assert edges[0] == 0
    assert longest <= edges[-1] < longest + 2 * partition_files.BINS
    assert len({high - low for low, high in pairwise(edges)}) == 1


def test_rows_are_dropped_and_the_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    writer = written(path, [0, 1], [2, 3], [4])
    kept = writer.rewritten(lambda numbers: (numbers != 2) & (numbers != 4))
    assert ids_of(path) == ["id0", "id1", "id3"]
    record = kept.record([0, 20])
    assert (record.file, record.rows) == ("train.parquet", 3)
    assert record.sha256 == file_digest(path)
    assert record.digest == membership(ids_of(path))
    assert record.tokens == 3 + 4 + 6
    assert [p.name for p in tmp_path.iterdir()] == ["train.parquet"]


def test_copies_have_ids_of_their_own_and_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    writer = written(path, [0, 1, 2])
    record = writer.rewritten(lambda numbers: np.array([3, 0, 2])).record([0, 20])
    assert ids_of(path) == ["id0", "id0x2", "id0x3", "id2", "id2x2"]
    assert record.digest == membership(ids_of(path))
    assert record.tokens == 3 * 3 + 2 * 5
    found = pq.read_table(path).drop_columns(["example_id"])
    wanted = examples([0, 0, 0, 2, 2]).drop_columns(["example_id"])
    assert found.equals(wanted)


def test_drops_and_copies_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    writer = written(path, [0, 1], [2]).rewritten(lambda numbers: (numbers != 0).astype(int))
    writer.rewritten(lambda numbers: np.full(len(numbers), 2))
    assert ids_of(path) == ["id1", "id1x2", "id2", "id2x2"]


def test_many_copies_are_written_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight of 1000 must not take the memory of a thousand batches."""
    monkeypatch.setattr(partition_files, "AT_ONCE", 100)
    monkeypatch.setattr(partition_files, "ROW_GROUP", 100)
    path = tmp_path / "train.parquet"
    written(path, [0, 1]).rewritten(lambda _: np.array([170, 130]))
    ids = ids_of(path)
    assert ids[:2] == ["id0", "id0x2"]
    assert ids[169:171] == ["id0x170", "id1"]
    assert len(set(ids)) == len(ids) == 300
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [100] * 3


def test_a_partition_that_loses_all_its_rows_has_no_file(tmp_path: Path) -> None:
    writer = written(tmp_path / "train.parquet", [0, 1], [2])
    assert writer.rewritten(lambda numbers: np.zeros(len(numbers), dtype=int)).rows == 0
    assert list(tmp_path.iterdir()) == []


# Read back for training


def test_the_trainers_rows_are_tokens_and_labels_alone(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    train = partition_dataset(data, "train")
    assert train.column_names == ["input_ids", "labels"]
    assert len(train) == 40
    assert train["labels"][3] == table(data, "train")["labels"][3].as_py()


def test_members_that_changed_after_preparation_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path)
    parts = dict(data.partitions)
    parts["train"] = replace(parts["train"], digest="0" * 64)
    with pytest.raises(MachineError, match="are not those that were prepared for train"):
        partition_dataset(replace(data, partitions=parts), "train")
    data.path("train").write_bytes(b"no parquet")
    with pytest.raises(MachineError, match="not a sound Parquet file"):
        partition_dataset(data, "train")
    with pytest.raises(DataError, match="there is no partition 'held-out'"):
        partition_dataset(data, "held-out")


def test_small_tables_are_gathered_into_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row group has its own costs; but what waits must not fill the memory."""
    monkeypatch.setattr(partition_files, "ROW_GROUP", 10)
    few = [list(range(n, n + 4)) for n in range(0, 24, 4)]

    def groups(name: str) -> list[int]:
        written(tmp_path / name, *few)
        found = pq.ParquetFile(tmp_path / name).metadata
        return [found.row_group(i).num_rows for i in range(found.num_row_groups)]

    assert groups("a.parquet") == [12, 12]
    monkeypatch.setattr(partition_files, "ROW_GROUP_BYTES", 1)
    assert groups("b.parquet") == [4] * 6
    assert ids_of(tmp_path / "a.parquet") == ids_of(tmp_path / "b.parquet")
