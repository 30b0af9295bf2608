from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.data import preparation
from runner.data.preparation import (
    PreparedData,
    partition_dataset,
    preparation_key,
    prepare_data,
    prompt_token_ids,
)
from runner.data.prepared_data import prepared_data_from_json
from runner.data.sources import resolve_source
from runner.errors import DataError, MachineError
from runner.recipe import Recipe
from tests.runner.tiny_data import TEMPLATES, make_recipe, make_tokenizer

COLUMNS = {
    "example_id": "string",
    "row": "int64",
    "input_ids": "list<element: int32>",
    "labels": "list<element: int32>",
    "prompt_ids": "list<element: int32>",
    "prompt": "string",
    "answer": "string",
    "supervised_bytes": "int64",
    "tests": "string",
}


def rows(count: int) -> list[dict[str, str]]:
    return [
        {
            "instruction": f"Add {n} to x.",
            "input": "" if n % 3 else f"x = {n}",
            "output": f"def f(x):\n    return x + {n}",
            "tests": f"assert f(1) == {n + 1}",
        }
        for n in range(count)
    ]


def write(folder: Path, data: list[Any], name: str = "rows.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in data))


def prepare(folder: Path, recipe: Recipe | None = None, **options: Any) -> PreparedData:
    recipe = recipe or make_recipe()
    tokenizer = options.pop("tokenizer", None) or make_tokenizer("mistral")
    return prepare_data(
        recipe,
        resolve_source(recipe.dataset, folder),
        tokenizer,
        base_folder=folder,
        cache_folder=folder / "cache",
        **options,
    )


def message_of(folder: Path, recipe: Recipe | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(folder, recipe, **options)
    assert not list((folder / "cache" / "prepared").glob("*")), "something half-written stayed"
    return str(caught.value)


POSITION = {"partition": {"by": "position"}}


# What is made


def test_a_partition_has_the_columns_that_the_eval_suite_reads(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    recipe = make_recipe(dataset={**POSITION, "columns": {"tests": "tests"}})
    data = prepare(tmp_path, recipe)
    table = pq.read_table(data.path("test"))
    assert {field.name: str(field.type) for field in table.schema} == COLUMNS
    first = table.to_pylist()[0]
    assert first["row"] == 45
    assert first["prompt"] == "<s>[INST] Add 45 to x.\n\nx = 45 [/INST]"
    assert first["answer"] == "def f(x):\n    return x + 45"
    assert first["tests"] == "assert f(1) == 46"
    assert first["supervised_bytes"] == len(" def f(x):\n    return x + 45</s>")
    assert first["input_ids"][: len(first["prompt_ids"])] == first["prompt_ids"]
    assert [label for label in first["labels"] if label >= 0] == first["input_ids"][
        len(first["prompt_ids"]) :
    ]


def test_the_eval_suite_can_read_a_partition(tmp_path: Path) -> None:
    from evalsuite.examples import read_examples

    write(tmp_path, rows(50))
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    examples = read_examples(data.path("validation"))
    assert [example.row for example in examples] == [40, 41, 42, 43, 44]


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, rows(200))
    data = prepare(tmp_path, make_recipe(dataset={"partition": {"by": "random"}}))
    assert data.source_rows == 200
    assert {name: part.rows for name, part in data.partitions.items()} == {
        "train": 160,
        "validation": 20,
        "test": 20,
    }
    for name, part in data.partitions.items():
        table = pq.read_table(data.path(name)).to_pylist()
        assert part.tokens == sum(len(row["input_ids"]) for row in table)
        assert part.supervised_tokens == sum(x >= 0 for row in table for x in row["labels"])
        assert part.longest == max(len(row["input_ids"]) for row in table)
        assert sum(part.lengths.counts) == part.rows
        assert len(part.lengths.edges) == len(part.lengths.counts) + 1
    assert {check.violations for check in data.checks} == {0}
    assert {check.rows_checked for check in data.checks} == {200}


def test_the_test_partition_shares_no_row_with_the_trainers(tmp_path: Path) -> None:
    write(tmp_path, rows(300))
    data = prepare(tmp_path)
    members = {name: set(pq.read_table(p)["row"].to_pylist()) for name, p in data.paths.items()}
    assert not members["test"] & (members["train"] | members["validation"])
    assert set.union(*members.values()) == set(range(300))


def test_the_trainers_rows_are_tokens_and_labels_alone(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    train = partition_dataset(data, "train")
    assert train.column_names == ["input_ids", "labels"]
    assert len(train) == 40
    table = pq.read_table(data.path("train"))
    assert train["labels"][3] == table["labels"][3].as_py()


def test_identical_rows_have_ids_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, [*rows(20), *rows(20), *rows(20)])
    data = prepare(tmp_path)
    ids = [i for path in data.paths.values() for i in pq.read_table(path)["example_id"].to_pylist()]
    assert len(set(ids)) == len(ids) == 60
    assert len({i.split("-")[0] for i in ids}) == 20


def test_by_hash_appending_rows_moves_none_and_keeps_ids(tmp_path: Path) -> None:
    write(tmp_path, rows(200))
    before = prepare(tmp_path)
    write(tmp_path, rows(210))
    after = prepare(tmp_path)
    for name in before.partitions:
        old = pq.read_table(before.path(name))["example_id"].to_pylist()
        new = pq.read_table(after.path(name))["example_id"].to_pylist()
        assert new[: len(old)] == old


def test_batches_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, rows(100))
    recipe = make_recipe(dataset={"columns": {"tests": "tests"}})
    first = prepare(tmp_path, recipe)
    tables = {name: pq.read_table(path) for name, path in first.paths.items()}
    monkeypatch.setattr(preparation, "row_batches", batches_of(7))
    again = prepare_again(tmp_path, recipe)
    assert first.as_json()["partitions"].keys() == again.as_json()["partitions"].keys()
    for name, path in again.paths.items():
        assert pq.read_table(path).equals(tables[name])
        assert again.partitions[name].digest == first.partitions[name].digest


def batches_of(size: int) -> Callable[..., Any]:
    original = preparation.row_batches
    return lambda dataset: original(dataset, size)


def prepare_again(folder: Path, recipe: Recipe) -> PreparedData:
    return prepare_data(
        recipe,
        resolve_source(recipe.dataset, folder),
        make_tokenizer("mistral"),
        base_folder=folder,
        cache_folder=folder / "another cache",
    )


def test_progress_is_told(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    told: list[tuple[int, int]] = []
    prepare(tmp_path, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)


def test_the_example_is_the_first_train_row(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    text = "".join(token.text for token in data.example)
    assert text == "<s>[INST] Add 0 to x.\n\nx = 0 [/INST] def f(x):\n    return x + 0</s>"
    supervised = "".join(token.text for token in data.example if token.supervised)
    assert supervised == " def f(x):\n    return x + 0</s>"


def test_messages_of_several_turns_are_prepared(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
    ]
    write(tmp_path, [{"messages": turns, "id": n} for n in range(40)])
    recipe = make_recipe(
        dataset={**POSITION, "format": "messages"},
        template={"chat": "chatml", "loss_on": "assistant_turns", "system": "Count."},
    )
    data = prepare(tmp_path, recipe)
    row = pq.read_table(data.path("test")).to_pylist()[0]
    tokenizer = make_tokenizer("chatml")
    supervised = [i for i in row["labels"] if i >= 0]
    assert tokenizer.decode(supervised) == "1<|im_end|>2<|im_end|>"
    assert row["prompt"].startswith("<|im_start|>system\nCount.<|im_end|>\n")
    assert row["answer"] == "2"
    assert data.stop_token == "<|im_end|>"
    assert any("generation stops at either" in note for note in data.notes)


def test_the_record_survives_json(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path)
    stored = json.loads(json.dumps(data.as_json()))
    assert prepared_data_from_json(stored, Path(data.folder)) == data
    assert str(tmp_path) not in json.dumps(stored)


def test_a_sample_is_asked_as_the_rows_are(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    recipe = make_recipe(template={"user": "{{ instruction }} Inputs: {{ input }}"})
    data = prepare(tmp_path, recipe)
    tokenizer = make_tokenizer("mistral")
    ids = prompt_token_ids(tokenizer, recipe, data, "Say hello.")
    assert tokenizer.decode(ids) == "<s>[INST] Say hello. Inputs:  [/INST]"
    with pytest.raises(DataError, match=r"evaluation\.samples: 'a </s>': the user's text holds"):
        prompt_token_ids(tokenizer, recipe, data, "a </s>")


# Too long


def long_rows() -> list[dict[str, str]]:
    data = rows(50)
    for n in (3, 7, 48):
        data[n]["output"] = "x = 1\n" * 100
    return data


def test_rows_that_are_too_long_are_dropped_counted_and_listed(tmp_path: Path) -> None:
    write(tmp_path, long_rows())
    data = prepare(tmp_path, make_recipe(dataset=POSITION, template={"max_length": 200}))
    assert [(d.row, d.partition) for d in data.dropped] == [
        (3, "train"),
        (7, "train"),
        (48, "test"),
    ]
    assert data.dropped[0].reason.startswith("too long: ")
    assert data.partitions["train"].rows == 38
    assert 3 not in pq.read_table(data.path("train"))["row"].to_pylist()


def test_truncation_never_keeps_half_an_answer(tmp_path: Path) -> None:
    """trl#3927."""
    write(tmp_path, long_rows())
    template = {"max_length": 200, "too_long": "truncate"}
    data = prepare(tmp_path, make_recipe(dataset=POSITION, template=template))
    assert data.truncated == ()
    assert [d.row for d in data.dropped] == [3, 7, 48]
    assert all(d.reason.endswith("cut without a stop token") for d in data.dropped)


def test_truncation_keeps_whole_turns_and_lists_them(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "1, of course."}]
    write(tmp_path, [{"messages": turn * (1 + n % 4)} for n in range(40)])
    recipe = make_recipe(
        dataset={**POSITION, "format": "messages"},
        template={"loss_on": "assistant_turns", "max_length": 60, "too_long": "truncate"},
    )
    data = prepare(tmp_path, recipe)
    assert data.dropped == ()
    assert data.truncated
    assert {row.row % 4 for row in data.truncated} <= {2, 3}
    for path in data.paths.values():
        for row in pq.read_table(path).to_pylist():
            assert len(row["input_ids"]) <= 60
            assert row["input_ids"][-1] == row["labels"][-1] == data.stop_token_ids[0]


def test_too_long_may_be_an_error(tmp_path: Path) -> None:
    write(tmp_path, long_rows())
    template = {"max_length": 200, "too_long": "error"}
    message = message_of(tmp_path, make_recipe(dataset=POSITION, template=template))
    assert message.startswith(
        "template.max_length: 3 rows are longer than 200 tokens (rows 3, 7, 48)"
    )


def test_a_max_length_below_every_row_says_how_long_the_shortest_is(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    message = message_of(tmp_path, make_recipe(dataset=POSITION, template={"max_length": 8}))
    assert message.startswith(
        "template.max_length: 8 tokens is less than every train row needs: the shortest has "
    )


# Bad input


def test_no_test_rows_is_an_error_with_counts(tmp_path: Path) -> None:
    write(tmp_path, rows(3))
    message = message_of(tmp_path, make_recipe(dataset=POSITION))
    assert "divides 3 rows into train 3 (share 0.8), validation 0 (share 0.1), test 0" in message


def test_a_raising_row_template_names_rows_and_template(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    recipe = make_recipe(template={"user": "{{ instruction }}{{ 1 // (input | length) }}"})
    message = message_of(tmp_path, recipe)
    assert "template.user raised ZeroDivisionError: " in message
    assert "row 1, row 2, row 4, row 5, row 7, … (40 in all)" in message


def test_special_tokens_in_rows_are_listed(tmp_path: Path) -> None:
    data = rows(60)
    data[5]["output"] += "</s>"
    data[9]["instruction"] += "<s>"
    write(tmp_path, data)
    message = message_of(tmp_path)
    assert "the assistant's text holds '</s>', which the tokenizer would read" in message
    assert message.splitlines()[1].endswith("row 5")
    assert message.splitlines()[2].endswith("row 9")


def test_a_padding_token_that_stops_answers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    tokenizer = make_tokenizer("chatml")
    tokenizer.pad_token = "<|im_end|>"
    assert "also the token that ends an answer" in message_of(tmp_path, tokenizer=tokenizer)


def test_a_model_with_fewer_embeddings_than_tokens_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    assert "token ids within the vocabulary: 50 rows" in message_of(tmp_path, vocabulary=100)


def test_an_unknown_partition_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    whole = make_recipe(dataset={"partition": {"train": 1, "validation": 0, "test": 0}})
    data = prepare(tmp_path, whole)
    with pytest.raises(DataError, match=r"no partition 'test': .* makes train"):
        data.path("test")


# The cache


def test_prepared_data_is_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, rows(50))
    first = prepare(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("rows were read again")

    monkeypatch.setattr(preparation, "load_rows", refuse)
    assert prepare(tmp_path) == first


def key_of(folder: Path, recipe: Recipe, tokenizer: Any = None) -> str:
    from runner.data.example_maker import example_maker

    tokenizer = tokenizer or make_tokenizer("mistral")
    source = resolve_source(recipe.dataset, folder)
    maker = example_maker(recipe, tokenizer, folder)
    return preparation_key(recipe, source, maker, len(tokenizer))


def test_the_key_depends_on_all_that_the_data_depends_on(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    (tmp_path / "other.jinja").write_text(TEMPLATES["llama3"])
    recipe = make_recipe()
    keys = [
        key_of(tmp_path, recipe),
        key_of(tmp_path, make_recipe(dataset={"partition": {"by": "random"}})),
        key_of(tmp_path, make_recipe(dataset={"partition": {"by": "random"}}, seed=1)),
        key_of(tmp_path, make_recipe(dataset={"columns": {"tests": "tests"}})),
        key_of(tmp_path, make_recipe(template={"max_length": 99})),
        key_of(tmp_path, make_recipe(template={"system": None, "user": "{{ instruction }}"})),
        key_of(tmp_path, make_recipe(template={"chat": "other.jinja"})),
        key_of(tmp_path, recipe, make_tokenizer("mistral", "nfc")),
    ]
    write(tmp_path, [*rows(49), {**rows(1)[0], "output": "y"}])
    keys.append(key_of(tmp_path, recipe))
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


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "record", "record field"])
def test_a_damaged_entry_is_announced_and_made_anew(tmp_path: Path, damage: str) -> None:
    write(tmp_path, rows(50))
    first = prepare(tmp_path)
    folder = Path(first.folder)
    path = first.path("train")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "changed":
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "missing":
        path.unlink()
    elif damage == "record":
        (folder / "prepared.json").write_text("{")
    else:
        text = (folder / "prepared.json").read_text()
        assert '"source_rows": 50' in text
        changed = text.replace('"source_rows": 50', '"source_rows": 51')
        (folder / "prepared.json").write_text(changed)
    told: list[str] = []
    again = prepare(tmp_path, announce=told.append)
    assert again == first
    assert len(told) == 1
    assert "is damaged" in told[0]
    assert path.read_bytes() == content
    assert prepare(tmp_path, announce=told.append) == first
    assert len(told) == 1


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
    assert [p.name for p in (tmp_path / "cache" / "prepared").iterdir()] == [first.key]


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


# Real data


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("code_alpaca_2k.json", {}),
        (
            "gsm8k_train_3000.jsonl",
            {"instruction": "question", "input": None, "output": "answer"},
        ),
    ],
)
@pytest.mark.parametrize("template", ["mistral", "chatml", "llama3"])
def test_real_data_keeps_the_contract(
    shared_data: Path, tmp_path: Path, name: str, columns: dict[str, Any], template: str
) -> None:
    recipe = make_recipe(name, dataset={"columns": columns}, template={"max_length": 4096})
    data = prepare_data(
        recipe,
        resolve_source(recipe.dataset, shared_data),
        make_tokenizer(template),
        base_folder=shared_data,
        cache_folder=tmp_path,
    )
    assert data.source_rows == sum(p.rows for p in data.partitions.values()) + len(data.dropped)
    assert {check.violations for check in data.checks} == {0}
