from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.reading import row_store
from runner.data.reading.row_column import Column
from runner.data.reading.row_reading import ReadRow
from runner.data.reading.row_store import RowIndex, StoredRows, store_rows, value_key
from runner.errors import DataError

TEXT, JSON = Column(name="text"), Column(name="json", kind="json")


def store(
    path: Path, values: Iterable[dict[str, Any]], columns: Sequence[Column], **options: Any
) -> tuple[StoredRows, RowIndex]:
    rows = (ReadRow(row, f"rows.jsonl:{n + 1}", n % 2) for n, row in enumerate(values))
    return store_rows(rows, columns, path, **{"content": value_key, **options})


def read(stored: StoredRows) -> list[dict[str, Any]]:
    return [row for number in range(stored.batches) for row in stored.batch(number).rows]


VALUES: list[Any] = [
    "", " ", "\x00", "\u2028 naïve 日本語 العربية 🙂", "é", "e\u0301", None, True, 0, 1.5, -(2**70),
    [], {}, [None, {"": [1, "2"]}], {"b": 1, "a": {"🙂": "\n"}},
]  # fmt: skip


def test_every_value_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = [value if isinstance(value, str) else "x" for value in VALUES]
    rows = [{"text": text, "json": value} for text, value in zip(texts, VALUES, strict=True)]
    stored, _ = store(tmp_path / "rows", rows, [TEXT, JSON])
    found = read(stored)
    assert found == rows
    assert [type(row["json"]) for row in found] == [type(value) for value in VALUES]
    assert list(found[-1]["json"]) == ["b", "a"]  # in the order in which they were


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(rows=st.lists(st.tuples(st.text(), ANY_JSON), min_size=1, max_size=20))
def test_any_text_and_any_json_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]]
) -> None:
    finite = [{"text": t, "json": j} for t, j in rows if "inf" not in repr(j)]
    stored, _ = store(tmp_path_factory.mktemp("rows") / "rows", finite, [TEXT, JSON])
    assert read(stored) == finite
    stored.remove()


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 20])
def test_batches_hold_all_rows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(row_store, "BATCH", 7)
    stored, index = store(tmp_path / "rows", ({"text": str(n)} for n in range(count)), [TEXT])
    assert (stored.rows, len(index), stored.batches) == (count, count, -(-count // 7))
    batches = [stored.batch(number) for number in range(stored.batches)]
    assert [len(batch.rows) for batch in batches[:-1]] == [7] * (len(batches) - 1)
    assert [batch.start for batch in batches] == list(range(0, count, 7))
    places = [place for batch in batches for place in batch.places]
    assert places == [f"rows.jsonl:{n + 1}" for n in range(count)]
    assert [row["text"] for row in read(stored)] == [str(n) for n in range(count)]


def test_long_rows_make_short_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory at a time is bounded by text, too, and not by rows alone."""
    monkeypatch.setattr(row_store, "BATCH_CHARACTERS", 100)
    lengths = [10] * 9 + [500] + [60] * 4
    rows = [{"text": "x" * length, "json": []} for length in lengths]
    stored, _ = store(tmp_path / "rows", rows, [TEXT, JSON])
    assert stored.starts == (0, 9, 10, 12, 14)
    assert [stored.batch(number).start for number in range(4)] == [0, 9, 10, 12]
    assert read(stored) == rows


def test_progress_is_told_after_each_full_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_store, "BATCH", 3)
    told: list[int] = []
    store(tmp_path / "rows", [{"text": "x"}] * 8, [TEXT], on_batch=told.append)
    assert told == [3, 6]


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    names = ["", "0", "1", "place", "\x00place", "source"]
    columns = [Column(name=name) for name in names]
    rows = [{name: f"{name}!" for name in names}]
    stored, _ = store(tmp_path / "rows", rows, columns)
    assert read(stored) == rows
    assert stored.batch(0).places == ("rows.jsonl:1",)


def test_only_the_columns_that_are_wanted_are_kept(tmp_path: Path) -> None:
    stored, _ = store(tmp_path / "rows", [{"text": "x", "other": "y"}], [TEXT])
    assert read(stored) == [{"text": "x"}]


def test_a_batch_can_be_taken_in_another_process(tmp_path: Path) -> None:
    import pickle

    stored, _ = store(tmp_path / "rows", [{"text": "x", "json": [1]}], [TEXT, JSON])
    assert pickle.loads(pickle.dumps(stored)).batch(0) == stored.batch(0)


def test_the_index_knows_what_is_equal(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "json": {"x": 1, "y": 2}},
        {"text": "b", "json": {"y": 2, "x": 1}},
        {"text": "a", "json": {"x": 1.0, "y": 2}},
        {"text": "a", "json": None},
        {"text": "a", "json": None},
    ]
    _, index = store(
        tmp_path / "rows", rows, [TEXT, JSON], content=lambda row: value_key(row["text"]),
        group="json", stratify="text",
    )  # fmt: skip
    assert index.groups is not None
    assert index.strata is not None
    contents, groups = index.contents.tolist(), index.groups.tolist()
    assert contents[0] == contents[2] == value_key("a") != contents[1]
    assert groups[0] == groups[1] != groups[2]  # an object's keys have no order
    assert index.strata.tolist() == contents
    assert index.sources.tolist() == [0, 1, 0, 1, 0]


def test_rows_without_a_group_are_no_group(tmp_path: Path) -> None:
    """Else all rows whose author is not known would go to one partition."""
    rows = [{"text": text, "json": None} for text in "abca"]
    _, index = store(
        tmp_path / "rows", rows, [TEXT, JSON], content=lambda row: value_key(row["text"]),
        group="json",
    )  # fmt: skip
    assert index.groups is not None
    assert len(set(index.groups.tolist())) == 3
    assert index.groups[0] == index.groups[3]


def test_without_group_and_strata_there_are_no_keys_of_them(tmp_path: Path) -> None:
    _, index = store(tmp_path / "rows", [{"text": "x"}], [TEXT])
    assert index.groups is None
    assert index.strata is None


def test_keys_are_the_same_for_ever() -> None:
    """Partitions by hash and example ids hang on them."""
    assert value_key({"b": "ü", "a": [1, None]}) == 0x99D384BCCEB17297


def test_a_fault_while_reading_passes_through(tmp_path: Path) -> None:
    def rows() -> Iterable[ReadRow]:
        yield ReadRow({"text": "x"}, "", 0)
        raise DataError("line 2 is malformed")

    with pytest.raises(DataError, match="line 2 is malformed"):
        store_rows(rows(), [TEXT], tmp_path / "rows", content=value_key)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
def test_a_removed_file_gives_its_disk_space_back(tmp_path: Path) -> None:
    """A file that is still open stays on the disk for as long as training lasts."""
    stored, _ = store(tmp_path / "rows", [{"text": "x"}], [TEXT])
    stored.batch(0)

    def is_open() -> bool:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        # The name of a removed file that is still open ends with " (deleted)".
        return any(str(link.readlink()).startswith(str(stored.path)) for link in links)

    assert is_open()
    stored.remove()
    assert not is_open()
    assert not stored.path.exists()


def test_another_file_of_the_same_name_is_another(tmp_path: Path) -> None:
    for text in "xy":
        stored, _ = store(tmp_path / "rows", [{"text": text}], [TEXT])
        assert read(stored) == [{"text": text}]
        stored.remove()
