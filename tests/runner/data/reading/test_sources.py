"""Finding rows: files, globs, lists, the Hub; their digests; and what the lock keeps of them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from runner.data.reading import hub_datasets
from runner.data.reading.row_reading import read_rows
from runner.data.reading.sources import SourceRecord, pinned_dataset, resolve_source
from runner.errors import DataError, MachineError
from runner.recipe import Dataset
from tests.runner.data.reading.source_rows import COLUMNS, ROWS, json_lines, message_of, read

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_kinds(folder: Path) -> None:
    (folder / "a.jsonl").write_text(json_lines(ROWS))
    (folder / "b.json").write_text(json.dumps(ROWS, indent=2))
    lines = ["instruction,output", *(f"{r['instruction']},{r['output']}" for r in ROWS)]
    (folder / "c.csv").write_text("\n".join(lines) + "\n")
    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "d.parquet")


def resolve(folder: Path, source: Any, **keys: Any) -> SourceRecord:
    return resolve_source(Dataset.model_validate({"source": source, **keys}), folder)


def test_globs_and_lists_keep_their_order(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    assert read(tmp_path, "*.*") == ROWS * 4
    assert read(tmp_path, ["b.json", "a.jsonl"]) == ROWS * 2
    assert [s.name for s in resolve(tmp_path, ["b.json", "*.csv"]).sources] == ["b.json", "*.csv"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    assert read(tmp_path, ["a.jsonl", "*.jsonl"]) == ROWS
    assert [len(s.files) for s in resolve(tmp_path, ["a.jsonl", "*.jsonl"]).sources] == [1, 0]


def test_a_file_named_twice_with_other_settings_is_refused_unless_filters_differ(
    tmp_path: Path,
) -> None:
    write_kinds(tmp_path)
    for other in ({"weight": 2}, {"limit": 1}, {"partition": "test"}):
        message = message_of(tmp_path, ["*.jsonl", {"path": "a.jsonl", **other}])
        assert "'a.jsonl' is named by '*.jsonl' and by 'a.jsonl' with other settings" in message
    halves = [
        {"path": "a.jsonl", "filter": f"output {sign} 'done 1'", "partition": partition}
        for sign, partition in (("==", "test"), ("!=", "train"))
    ]
    assert read(tmp_path, halves) == [ROWS[1], ROWS[0], ROWS[2]]


def test_a_file_by_another_name_is_the_same_file(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    for other in ("sub/../a.jsonl", "./a.jsonl", "link.jsonl", str(tmp_path / "a.jsonl")):
        assert read(tmp_path, ["a.jsonl", other]) == ROWS
        message = message_of(tmp_path, ["a.jsonl", {"path": other, "weight": 2}])
        assert "its rows would be used twice" in message
    (tmp_path / "between.jsonl").write_text(json_lines(ROWS[:1]))
    assert read(tmp_path, "*.jsonl") == [*ROWS, ROWS[0]]
    (tmp_path / "copy.jsonl").write_text(json_lines(ROWS))
    assert read(tmp_path, ["a.jsonl", "copy.jsonl"]) == ROWS * 2


def test_a_file_read_with_several_filters_is_announced(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    one, other = ({"path": "a.jsonl", "filter": text} for text in ("true", "output != ''"))
    third = {"path": "a.jsonl", "filter": "instruction != ''"}
    told = "a.jsonl is read in {} sources: a row that {}"
    assert resolve(tmp_path, [one, other]).notes == (
        told.format(2, "both filters pass is used twice"),
    )
    assert resolve(tmp_path, ["a.jsonl", one]).notes == (
        told.format(2, "the filter passes is used twice"),
    )
    assert resolve(tmp_path, [one, other, third]).notes == (
        told.format(3, "several filters pass is used more than once"),
    )
    assert resolve(tmp_path, [one, one, "b.json"]).notes == ()
    assert read(tmp_path, [one, other, one]) == ROWS * 2
    message = message_of(tmp_path, [one, other, {**one, "limit": 1}])
    assert "its rows would be used twice" in message


def test_the_settings_of_a_source_are_in_the_record(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    block = {"path": "a.jsonl", "limit": 2, "weight": 0.5, "filter": "true", "partition": "train"}
    (source,) = resolve(tmp_path, [block]).sources
    assert {key: getattr(source, key) for key in block if key != "path"} == {
        key: value for key, value in block.items() if key != "path"
    }
    assert source.as_json() == {
        **{key: value for key, value in block.items() if key != "path"},
        "name": "a.jsonl",
        "files": ["a.jsonl"],
        "hub": None,
        "split": None,
        "revision": None,
    }


def test_the_record_holds_digests_and_no_path_of_this_machine(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    for source in ("a.jsonl", str(tmp_path / "a.jsonl"), str(tmp_path / "*.jsonl")):
        record = resolve(tmp_path, source)
        stored = record.as_json()
        assert stored["files"] == [
            {
                "name": "a.jsonl",
                "sha256": record.files[0].sha256,
                "bytes": (tmp_path / "a.jsonl").stat().st_size,
            }
        ]
        assert str(tmp_path) not in json.dumps(stored)
    other = tmp_path / "elsewhere"
    other.mkdir()
    assert str(tmp_path) not in json.dumps(resolve(other, str(tmp_path / "a.jsonl")).as_json())


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    first = resolve(tmp_path, "a.jsonl").digest
    (tmp_path / "a.jsonl").rename(tmp_path / "renamed.jsonl")
    assert resolve(tmp_path, "renamed.jsonl").digest == first
    assert resolve(tmp_path, [{"path": "renamed.jsonl", "weight": 2}]).digest == first
    with (tmp_path / "renamed.jsonl").open("a") as file:
        file.write(" \n")
    assert resolve(tmp_path, "renamed.jsonl").digest != first


def test_the_digest_says_in_which_source_a_file_is(tmp_path: Path) -> None:
    """Weights and limits are those of a source: moving a file to another changes its use."""
    for name in ("a1", "a2", "b1"):
        (tmp_path / f"{name}.jsonl").write_text(json_lines([{**ROWS[0], "name": name}]))
    whole = resolve(tmp_path, ["a*.jsonl", "b*.jsonl"]).digest
    (tmp_path / "a2.jsonl").rename(tmp_path / "b0.jsonl")
    assert resolve(tmp_path, ["a*.jsonl", "b*.jsonl"]).digest != whole


def test_a_missing_file_says_so_and_asks_no_hub(tmp_path: Path) -> None:
    for name in ("none.jsonl", "./none", "data/none.csv.gz"):
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
            resolve(tmp_path, "a.jsonl", **{key: value})
        with pytest.raises(DataError, match=rf"dataset\.source\[0\]\.{key}: '{value}' is for Hub"):
            resolve(tmp_path, [{"path": "a.jsonl", key: value}])


# The Hub


def test_a_hub_name_while_offline_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.monotonic()
    message = message_of(tmp_path, "owner/no-such-dataset", error=MachineError)
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
        monkeypatch.setattr(hub_datasets, "HUB_TIMEOUT", 0.3)
        yield


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_does_not_answer_is_given_up_after_one_short_try(tmp_path: Path) -> None:
    started = time.monotonic()
    message = message_of(tmp_path, "owner/no-such-dataset", error=MachineError)
    assert time.monotonic() - started < 10
    assert "the Hub cannot be reached from here" in message


@pytest.fixture
def cached_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and two datasets in the Hub's local cache."""
    for name, commit in (("one", COMMIT), ("two", COMMIT[::-1])):
        repository = tmp_path / "hub" / f"datasets--owner--{name}"
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        (snapshot / "train.jsonl").write_text(json_lines([{**r, "from": name} for r in ROWS]))
        (snapshot / "test.jsonl").write_text(json_lines(ROWS[:1]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))


@pytest.mark.usefixtures("cached_hub")
def test_the_hubs_local_cache_serves_without_a_network(tmp_path: Path) -> None:
    record = resolve(tmp_path, "owner/one", filter="output != 'done 0' and from == 'one'")
    assert record.revision == COMMIT
    assert record.as_json()["revision"] == COMMIT
    rows = list(read_rows(record, COLUMNS))
    assert [row.values for row in rows] == ROWS[1:]
    assert rows[0].place == "owner/one, row 1"
    assert record.notes == (
        f"owner/one: the Hub was not reached; its local copy at {COMMIT[:12]} is used",
    )


@pytest.mark.usefixtures("cached_hub")
def test_files_and_hub_datasets_may_be_mixed_and_pinned_again(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    source = ["a.jsonl", "owner/one", {"path": "owner/two", "split": "test", "revision": "main"}]
    dataset = Dataset.model_validate({"source": source})
    record = resolve_source(dataset, tmp_path)
    assert record.revisions == (None, COMMIT, COMMIT[::-1])
    assert record.revision is None  # there are two
    assert record.as_json()["revisions"] == [None, COMMIT, COMMIT[::-1]]
    assert [row.values for row in read_rows(record, COLUMNS)] == [*ROWS, *ROWS, ROWS[0]]
    pinned = pinned_dataset(dataset, record.as_json()["revisions"])
    assert [s.revision for s in pinned.sources] == [None, COMMIT, COMMIT[::-1]]
    assert resolve_source(pinned, tmp_path).digest == record.digest
    with pytest.raises(DataError, match="2 sources were resolved before, and the recipe has 3"):
        pinned_dataset(dataset, (None, COMMIT))


@pytest.mark.usefixtures("cached_hub")
def test_hub_datasets_cannot_share_a_revision(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several Hub datasets cannot share a revision"):
        resolve(tmp_path, ["owner/one", "owner/two"], revision="main")
    splits = [{"path": "owner/one", "split": split} for split in ("train", "test")]
    assert resolve(tmp_path, splits, revision="main").revisions == (COMMIT, COMMIT)


@pytest.mark.usefixtures("cached_hub")
def test_a_split_of_the_hub_named_twice_is_read_once(tmp_path: Path) -> None:
    for same in ({"revision": "main"}, {"revision": COMMIT}, {"split": "train"}):
        dataset = Dataset.model_validate({"source": ["owner/one", {"path": "owner/one", **same}]})
        record = resolve_source(dataset, tmp_path)
        assert [row.values for row in read_rows(record, COLUMNS)] == ROWS
        assert record.revision == COMMIT
        pinned = pinned_dataset(dataset, record.revisions)
        assert resolve_source(pinned, tmp_path).digest == record.digest
    twice = ["owner/one", {"path": "owner/one", "weight": 2}]
    assert "its rows would be used twice" in message_of(tmp_path, twice)
    filtered = [{"path": "owner/one", "filter": text} for text in ("true", "output != ''")]
    assert resolve(tmp_path, filtered).notes[-1] == (
        "the split 'train' of the Hub dataset 'owner/one' is read in 2 sources: a row that both "
        "filters pass is used twice"
    )


@pytest.mark.usefixtures("cached_hub")
def test_the_digest_of_a_hub_dataset_is_of_commit_and_split(tmp_path: Path) -> None:
    digests = {
        resolve(tmp_path, [{"path": name, "split": split}]).digest
        for name in ("owner/one", "owner/two")
        for split in ("train", "test")
    }
    assert len(digests) == 4
