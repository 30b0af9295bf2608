from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.data import sources
from runner.data.sources import Column, load_rows, resolve_source, text_fault
from runner.errors import DataError, MachineError
from runner.recipe import Dataset

ROWS = [{"instruction": f"do {i}", "output": f"done {i}"} for i in range(3)]
COLUMNS = [Column(name="instruction", fault=text_fault), Column(name="output", fault=text_fault)]


def json_lines(rows: list[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(folder: Path, source: str | list[str]) -> list[dict[str, str]]:
    return list(load_rows(resolve_source(Dataset(source=source), folder), COLUMNS))


def message_of(folder: Path, source: str | list[str], error: type[Exception] = DataError) -> str:
    with pytest.raises(error) as caught:
        read(folder, source)
    return str(caught.value)


def write_kinds(folder: Path) -> None:
    (folder / "a.jsonl").write_text(json_lines(ROWS))
    (folder / "b.json").write_text(json.dumps(ROWS, indent=2))
    lines = ["instruction,output", *(f"{r['instruction']},{r['output']}" for r in ROWS)]
    (folder / "c.csv").write_text("\n".join(lines) + "\n")
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "d.parquet")


@pytest.mark.parametrize("name", ["a.jsonl", "b.json", "c.csv", "d.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    write_kinds(tmp_path)
    assert read(tmp_path, name) == ROWS


def test_globs_and_lists_keep_their_order(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    assert read(tmp_path, "*.*") == ROWS * 4
    assert read(tmp_path, ["b.json", "a.jsonl"]) == ROWS * 2


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    assert read(tmp_path, ["a.jsonl", "*.jsonl"]) == ROWS


def test_the_record_holds_digests_and_no_path_of_this_machine(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    record = resolve_source(Dataset(source="a.jsonl"), tmp_path)
    stored = record.as_json()
    assert stored["files"] == [
        {
            "name": "a.jsonl",
            "sha256": record.files[0].sha256,
            "bytes": (tmp_path / "a.jsonl").stat().st_size,
        }
    ]
    assert str(tmp_path) not in json.dumps(stored)


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    first = resolve_source(Dataset(source="a.jsonl"), tmp_path).digest
    (tmp_path / "a.jsonl").rename(tmp_path / "renamed.jsonl")
    assert resolve_source(Dataset(source="renamed.jsonl"), tmp_path).digest == first
    with (tmp_path / "renamed.jsonl").open("a") as file:
        file.write(" \n")
    assert resolve_source(Dataset(source="renamed.jsonl"), tmp_path).digest != first


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    """Readers that guess types turn dates into timestamps and the text NA into null."""
    rows = [{"instruction": "2020-01-01", "output": text} for text in ("NA", "1", "", "null")]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    assert read(tmp_path, "a.jsonl") == rows
    lines = ["instruction,output", *(f"{r['instruction']},{r['output']}" for r in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert read(tmp_path, "a.csv") == rows


def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path: Path) -> None:
    rows = [{**row, "id": i if i else "x"} for i, row in enumerate(ROWS)]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    assert read(tmp_path, "a.jsonl") == ROWS


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\ufeff" + json_lines(ROWS).replace("\n", "\n\n"))
    assert read(tmp_path, "a.jsonl") == ROWS
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(ROWS))
    assert read(tmp_path, "b.json") == ROWS


def test_a_json_file_may_hold_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json_lines(ROWS))
    assert read(tmp_path, "a.json") == ROWS


def test_a_missing_file_says_so_and_asks_no_hub(tmp_path: Path) -> None:
    for name in ("none.jsonl", "./none", "data/none.csv"):
        assert "no such file" in message_of(tmp_path, name)
    assert "matches no file" in message_of(tmp_path, "*.jsonl")


def test_a_folder_and_an_unknown_kind_say_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert "data/*.jsonl" in message_of(tmp_path, "data")
    assert ".jsonl, .json, .csv, .parquet" in message_of(tmp_path, "./notes.txt")


def test_split_and_revision_are_for_the_hub(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    for key, value in (("split", "test"), ("revision", "main")):
        with pytest.raises(DataError, match=rf"dataset\.{key}: '{value}' is for Hub datasets"):
            resolve_source(Dataset(source="a.jsonl", **{key: value}), tmp_path)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_dataset_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    assert message_of(tmp_path, "a.jsonl") == "dataset.source: a.jsonl has no rows"


def test_every_malformed_line_is_named(tmp_path: Path) -> None:
    lines = json_lines(ROWS).splitlines()
    lines[1:1] = ['{"instruction": "x"', "[1, 2]"]
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"output": "\xff"}\n')
    message = message_of(tmp_path, "a.jsonl")
    assert "a.jsonl:2:20" in message
    assert "not a JSON object with columns as keys: a.jsonl:3" in message
    assert "not UTF-8: a.jsonl:6" in message


def test_a_malformed_json_array_and_csv_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"a": 1},\n{"a" 2}\n]')
    assert message_of(tmp_path, "a.json").startswith("a.json:3:6: not JSON")
    (tmp_path / "a.json").write_bytes(b'[\n"\xff"]')
    assert message_of(tmp_path, "a.json") == "a.json:2: not UTF-8"
    (tmp_path / "a.csv").write_text("instruction,output\nx,y\nx,y,z\n")
    assert "a.csv:3 (3)" in message_of(tmp_path, "a.csv")
    (tmp_path / "a.csv").write_text('instruction,output\nx,"y\n')
    assert message_of(tmp_path, "a.csv").startswith("a.csv:")
    (tmp_path / "a.csv").write_text("output,output\nx,y\n")
    assert "names a column twice: output" in message_of(tmp_path, "a.csv")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    content = (tmp_path / "d.parquet").read_bytes()
    (tmp_path / "d.parquet").write_bytes(content[: len(content) // 2])
    assert "d.parquet: not a sound" in message_of(tmp_path, "d.parquet", MachineError)


def test_a_row_without_the_column_says_which_there_are(tmp_path: Path) -> None:
    rows = [*ROWS, {"instruction": "x", "response": "y"}]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    message = message_of(tmp_path, "a.jsonl")
    assert "no column 'output' (columns there: 'instruction', 'response'" in message
    assert "row 3 (a.jsonl:4)" in message


def test_values_that_are_no_text_are_told_by_type_and_row(tmp_path: Path) -> None:
    wrong = [1, None, True, ["x"], {"x": 1}]
    rows: list[object] = [*ROWS, *({"instruction": "x", "output": value} for value in wrong)]
    (tmp_path / "a.jsonl").write_text(json_lines(rows))
    message = message_of(tmp_path, "a.jsonl")
    for place, kind in enumerate(("a number", "null", "a boolean", "a list", "an object"), start=3):
        assert f"column 'output' holds {kind}, not a text: row {place} " in message


def test_many_faults_are_counted_and_the_first_rows_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json_lines([{"instruction": "x", "output": 1}] * 1234))
    message = message_of(tmp_path, "a.jsonl")
    assert "row 0 (a.jsonl:1), " in message
    assert ", … (1,234 in all)" in message
    assert len(message.splitlines()) == 2


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "x", "output": "\\ud800"}\n')
    assert "surrogate pair" in message_of(tmp_path, "a.jsonl")


def test_a_number_in_parquet_is_told_by_row(tmp_path: Path) -> None:
    table = pa.table({"instruction": ["a", "b"], "output": pa.array([1, 2])})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "column 'output' holds a number, not a text: row 0, row 1" in message_of(
        tmp_path, "a.parquet"
    )


# The Hub


def test_a_hub_name_while_offline_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.monotonic()
    message = message_of(tmp_path, "owner/no-such-dataset", MachineError)
    assert time.monotonic() - started < 5
    assert "HF_HUB_OFFLINE is set" in message
    assert "hf download --repo-type dataset owner/no-such-dataset" in message


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(sources, "HUB_TIMEOUT", 0.3)
        yield


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_does_not_answer_is_given_up_after_one_short_try(tmp_path: Path) -> None:
    started = time.monotonic()
    message = message_of(tmp_path, "owner/no-such-dataset", MachineError)
    assert time.monotonic() - started < 10
    assert "the Hub cannot be reached from here" in message


def test_the_hubs_local_cache_serves_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "datasets--owner--cached"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (snapshot / "train.jsonl").write_text(json_lines(ROWS))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    record = resolve_source(Dataset(source="owner/cached"), tmp_path)
    assert record.revision == commit
    assert record.as_json()["revision"] == commit
    assert list(load_rows(record, COLUMNS)) == ROWS


def test_a_list_takes_no_hub_dataset(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    assert "a list takes local files only" in message_of(tmp_path, ["a.jsonl", "owner/name"])
