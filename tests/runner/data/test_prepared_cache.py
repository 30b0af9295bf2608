"""The cache: an entry is used while all it depends on is the same, and only if it is whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import cache as shared_cache
from runner.data import preparation
from runner.data.labels.example_maker import example_maker
from runner.data.preparation import preparation_key
from runner.data.prepared_cache import read_prepared, store_prepared
from runner.data.prepared_data import LISTINGS, PreparedData
from runner.data.reading import file_stat_digests
from runner.data.reading.sources import resolve_source
from runner.digests import digest_of_json
from runner.errors import DataError, MachineError
from runner.recipe import Recipe
from tests.runner.data.preparing import POSITION, leftovers, prepare, rows, write
from tests.runner.tiny_data import TEMPLATES, make_recipe, make_tokenizer


def entries(folder: Path) -> list[str]:
    return [path.name for path in (folder / "cache" / "prepared").iterdir()]


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("rows were read again")

    monkeypatch.setattr(preparation, "read_rows", refuse)


def test_prepared_data_is_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, rows(50))
    first = prepare(tmp_path)
    assert entries(tmp_path) == [first.key]
    refuse_reading(monkeypatch)
    assert prepare(tmp_path) == first


def test_an_entry_whose_rows_are_refused_is_kept_for_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = rows(50)
    data[5]["output"] += "</s>"
    write(tmp_path, data)
    with pytest.raises(DataError, match="special_token_in_text") as first:
        prepare(tmp_path)
    refuse_reading(monkeypatch)
    assert prepare(tmp_path, enforce=False).dropped == 1
    with pytest.raises(DataError) as again:
        prepare(tmp_path)
    assert str(again.value) == str(first.value)


# The key


def key_of(folder: Path, recipe: Recipe, tokenizer: Any = None, vocabulary: int = 500) -> str:
    tokenizer = tokenizer or make_tokenizer("mistral")
    source = resolve_source(recipe.dataset, folder)
    form = recipe.dataset.format or "alpaca"
    maker = example_maker(recipe, tokenizer, folder, format_name=form)
    return preparation_key(recipe, source, maker, vocabulary)


def test_the_key_depends_on_all_that_the_data_depends_on(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    write(tmp_path, rows(50, first=100), "more.jsonl")
    (tmp_path / "other.jinja").write_text(TEMPLATES["llama3"])
    recipe = make_recipe()

    def of_source(**block: object) -> Recipe:
        return make_recipe([{"path": "rows.jsonl", **block}])

    def of_dataset(**keys: object) -> Recipe:
        return make_recipe(dataset=keys)

    keys = [
        key_of(tmp_path, recipe),
        key_of(tmp_path, of_dataset(partition={"by": "random"})),
        key_of(tmp_path, make_recipe(dataset={"partition": {"by": "random"}}, seed=1)),
        key_of(tmp_path, of_dataset(partition={"by": "hash", "group": "tests"})),
        key_of(tmp_path, of_dataset(columns={"tests": "tests"})),
        key_of(tmp_path, of_dataset(filter="instruction != ''")),
        key_of(tmp_path, of_dataset(format="alpaca")),  # else the record would say: detected
        key_of(tmp_path, of_dataset(leaks={"near": "ignore"})),
        key_of(tmp_path, of_dataset(leaks={"threshold": 0.95})),
        key_of(tmp_path, of_dataset(violations={"empty_answer": "drop"})),
        key_of(tmp_path, of_dataset(violations={"special_token_in_text": "escape"})),
        key_of(tmp_path, of_source(weight=2)),
        key_of(tmp_path, of_source(limit=10)),
        key_of(tmp_path, of_source(filter="instruction != ''")),
        key_of(tmp_path, of_source(partition="train")),
        key_of(tmp_path, make_recipe(["rows.jsonl", "more.jsonl"])),
        key_of(tmp_path, make_recipe(["more.jsonl", "rows.jsonl"])),
        key_of(tmp_path, make_recipe(template={"max_length": 99})),
        key_of(tmp_path, make_recipe(template={"too_long": "truncate"})),
        key_of(tmp_path, make_recipe(template={"loss_on": "assistant_turns"})),
        key_of(tmp_path, make_recipe(template={"user": "{{ instruction }}"})),
        key_of(tmp_path, make_recipe(template={"system": "Be short."}), make_tokenizer("chatml")),
        key_of(tmp_path, make_recipe(template={"chat": "other.jinja"})),
        key_of(tmp_path, make_recipe(evaluation={"samples": ["Add 3 to x."]})),  # may leak
        key_of(tmp_path, recipe, make_tokenizer("mistral", "nfc")),
        key_of(tmp_path, recipe, vocabulary=501),
    ]
    write(tmp_path, [*rows(49), {**rows(1)[0], "output": "y"}])
    keys.append(key_of(tmp_path, recipe))
    assert len(set(keys)) == len(keys)


def test_the_key_depends_on_the_code_and_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, rows(50))
    keys = [key_of(tmp_path, make_recipe())]
    for name in preparation.DECIDING:
        with monkeypatch.context() as patch:
            patch.setattr(preparation, "version", lambda n, name=name: "0" if n == name else "1")
            keys.append(key_of(tmp_path, make_recipe()))
    monkeypatch.setattr(preparation, "code_digest", lambda _: "other code")
    keys.append(key_of(tmp_path, make_recipe()))
    assert len(set(keys)) == len(keys)


def test_the_key_ignores_what_the_data_does_not_depend_on(tmp_path: Path) -> None:
    """A tokenizer that has padded a batch before is the same tokenizer."""
    write(tmp_path, rows(50))
    used = make_tokenizer("mistral")
    used(["a", "a b c"], padding=True, truncation=True, max_length=2)
    used.pad_token = "<unk>"
    first = key_of(tmp_path, make_recipe())
    assert key_of(tmp_path, make_recipe(), used) == first
    assert key_of(tmp_path, make_recipe(seed=7, lora={"r": 3}, name="other")) == first
    assert key_of(tmp_path, make_recipe([{"path": "rows.jsonl"}])) == first
    task = {"name": "answers", "metrics": ["rouge"]}
    evaluation = {"generation": [task], "loss": ["test"], "base": False}
    assert key_of(tmp_path, make_recipe(evaluation=evaluation)) == first
    assert key_of(tmp_path, make_recipe(hardware={"threads": 7})) == first


# Damage


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record, with a digest that fits."""
    stored = json.loads((folder / "prepared.json").read_text())
    change(stored)
    stored["digest"] = digest_of_json([stored["data"], stored["listings"]])
    (folder / "prepared.json").write_text(json.dumps(stored))


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


RECORD = "prepared.json"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda f: os.truncate(f / "train.parquet", 100),
    "changed": lambda f: flip(f / "train.parquet"),
    "missing": lambda f: (f / "test.parquet").unlink(),
    **{f"{name} missing": lambda f, n=name: (f / n).unlink() for name in LISTINGS},
    **{f"{name} changed": lambda f, n=name: flip(f / n) for name in LISTINGS},
    "record missing": lambda f: (f / RECORD).unlink(),
    "record cut": lambda f: os.truncate(f / RECORD, 100),
    "record empty": lambda f: (f / RECORD).write_text("null"),
    "record field": lambda f: edit(
        f / RECORD, lambda t: t.replace('"source_rows": 50', '"source_rows": 51')
    ),
    "field missing": lambda f: reseal(f, lambda stored: stored["data"].pop("key")),
    "field too much": lambda f: reseal(f, lambda stored: stored["data"].update(more=1)),
    "unknown partition": lambda f: reseal(
        f, lambda stored: stored["data"]["partitions"].update(more={})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_announced_and_made_anew(tmp_path: Path, damage: str) -> None:
    write(tmp_path, rows(50))
    first = prepare(tmp_path)
    folder = Path(first.folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    DAMAGES[damage](folder)
    told: list[str] = []
    assert prepare(tmp_path, announce=told.append) == first
    assert len(told) == 1
    assert f"the cached data in {folder} is damaged (" in told[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert prepare(tmp_path, announce=told.append) == first
    assert len(told) == 1


def test_big_files_that_have_not_changed_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a second use quick, whatever the size of the data."""
    monkeypatch.setattr(file_stat_digests, "SMALLEST", 1)
    monkeypatch.setattr(file_stat_digests, "SETTLED", 0)
    write(tmp_path, rows(50))
    folder = Path(prepare(tmp_path).folder)
    time.sleep(0.05)
    digested: list[str] = []
    original = file_stat_digests.file_digest

    def counted(path: Path) -> str:
        digested.append(path.name)
        return original(path)

    monkeypatch.setattr(file_stat_digests, "file_digest", counted)
    told: list[str] = []
    assert read_prepared(folder, told.append) is not None
    assert {"train.parquet", *LISTINGS} <= set(digested)
    digested.clear()
    assert read_prepared(folder, told.append) is not None
    assert digested == []
    os.utime(folder / "test.parquet")
    assert read_prepared(folder, told.append) is not None
    assert digested == ["test.parquet"]
    assert told == []


# Writing


def test_a_cache_that_cannot_be_made_says_how_to_name_another(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(MachineError, match="PROOFBOX_CACHE can name another folder"):
        prepare(tmp_path)


def test_a_process_that_was_quicker_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, rows(50))
    first = prepare(tmp_path)
    monkeypatch.setattr(preparation, "read_prepared", lambda *_: None)
    assert prepare(tmp_path) == first
    assert entries(tmp_path) == [first.key]


@pytest.mark.parametrize("error", [DataError("rows"), KeyboardInterrupt(), OSError(28, "full")])
def test_what_stops_the_building_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def build(folder: Path) -> PreparedData:
        (folder / "rows.arrow").write_text("half")
        (folder / "keys").mkdir()
        raise error

    with pytest.raises(type(error)):
        store_prepared(tmp_path / "key", build)
    assert list(tmp_path.iterdir()) == []


def dead_process() -> int:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_what_dead_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    cache = tmp_path / "cache" / "prepared"
    host = shared_cache.host()
    dead = dead_process()
    gone = [f".{host}.{dead}.abc_d1"]
    stay = [
        f".{host}.{os.getpid()}.abc_d1",
        f".{host}.1.abc_d1",  # of a process that this user may not signal
        f".0123abcd.{dead}.abc_d1",  # of another machine
        ".other",
        "0123",
    ]
    for name in (*gone, *stay):
        (cache / name / "entry").mkdir(parents=True)
        (cache / name / "entry" / "rows.arrow").write_text("half")
    data = prepare(tmp_path)
    assert {path.name for path in cache.iterdir()} == {*stay, data.key}


def test_the_folder_of_a_building_is_named_so_that_it_can_be_swept(tmp_path: Path) -> None:
    seen: list[str] = []
    write(tmp_path, rows(50))
    data = prepare(
        tmp_path, on_progress=lambda *_: seen.extend(leftovers(tmp_path / "cache" / "prepared"))
    )
    assert seen
    assert {name.rsplit(".", 1)[0] for name in seen} == {f".{shared_cache.host()}.{os.getpid()}"}
    assert entries(tmp_path) == [data.key]


def test_two_recipes_have_an_entry_each(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    keys = {prepare(tmp_path).key, prepare(tmp_path, make_recipe(dataset=POSITION)).key}
    assert set(entries(tmp_path)) == keys
    assert len(keys) == 2
