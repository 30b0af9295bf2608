from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.partition_texts import partition_texts


def partition(path: Path, numbers: list[int], group: int = 3) -> Path:
    examples = pa.table(
        {
            "example_id": [f"id{n}" for n in numbers],
            "row": pa.array(numbers, pa.int64()),
            "input_ids": pa.array([[n] for n in numbers], pa.list_(pa.int32())),
            "answer": [f"answer {n}" for n in numbers],
            "question": [f"question {n} é🙂" for n in numbers],
        }
    )
    pq.write_table(examples, path, row_group_size=group)
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    train = [n for n in range(30) if n % 5]
    return [
        partition(tmp_path / "train.parquet", train),
        partition(tmp_path / "test.parquet", [0, 5, 10, 15, 20, 25]),
    ]


def texts(*numbers: int) -> list[tuple[str, str]]:
    return [(f"question {n} é🙂", f"answer {n}") for n in numbers]


@pytest.mark.parametrize(
    "wanted",
    [
        (), (0,), (29,), (1, 2, 3), (4, 5, 6), tuple(range(30)), (29, 0, 7, 5), (3, 3, 5, 5),
    ],
)  # fmt: skip
def test_texts_come_in_the_order_of_the_rows(paths: list[Path], wanted: tuple[int, ...]) -> None:
    assert partition_texts(paths, wanted) == texts(*wanted)


def test_groups_without_a_wanted_row_are_not_read(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(file: pq.ParquetFile, group: int, **options: object) -> pa.Table:
        read.append(group)
        return original(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert partition_texts(paths[:1], [1, 29]) == texts(1, 29)
    assert read == [0, 7]


def test_a_row_that_is_nowhere_is_a_defect(paths: list[Path]) -> None:
    with pytest.raises(KeyError):
        partition_texts(paths[:1], [5])
    with pytest.raises(KeyError):
        partition_texts([], [0])
