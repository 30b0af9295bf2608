"""Sets of rows beside the dataset: found, prepared whole, and named in the lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.data.extra_sets import resolve_sets, set_dataset, with_sets
from runner.errors import DataError
from runner.recipe import Rows
from tests.runner.data.preparing import POSITION, prepare, rows, write
from tests.runner.tiny_data import make_recipe, make_tokenizer

TEXTS = [{"body": f"A text of its own, number {n}.", "kind": n % 2} for n in range(7)]


def lines(path: Path, values: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def recipe_with(**block: Any) -> Any:
    data = {"source": "texts.jsonl", "format": "text", "columns": {"text": "body"}}
    held_out = {"name": "neutral", "data": data, **block}
    return make_recipe(dataset=POSITION, evaluation={"loss": ["test"], "held_out": [held_out]})


def prepared(folder: Path, recipe: Any) -> Any:
    tokenizer = make_tokenizer("chatml")
    write(folder, rows(50))
    return with_sets(
        prepare(folder, recipe, tokenizer=tokenizer),
        recipe,
        resolve_sets(recipe, folder),
        tokenizer,
        base_folder=folder,
        cache_folder=folder / "cache",
        vocabulary=None,
        announce=pytest.fail,
    )


def test_all_rows_are_held_out_and_texts_are_learned_whole(tmp_path: Path) -> None:
    lines(tmp_path / "texts.jsonl", TEXTS)
    data = prepared(tmp_path, recipe_with())
    extra = data.sets["neutral"]
    assert list(extra.partitions) == ["test"] and data.part("neutral").rows == len(TEXTS)
    first = pq.read_table(data.path("neutral")).to_pylist()[0]
    assert first["labels"][1:] == first["input_ids"][1:]  # supervised but for the first token
    assert set(data.memberships) == {"train", "validation", "test", "neutral"}


def test_the_template_is_its_own_or_the_recipes(tmp_path: Path) -> None:
    alpaca = [{"instruction": f"Say {n}.", "input": "", "output": f"{n}"} for n in range(5)]
    lines(tmp_path / "texts.jsonl", alpaca)
    rows_of_set = {"data": {"source": "texts.jsonl", "format": "alpaca"}}
    own = {**rows_of_set, "template": {"user": "Please: {{ instruction }}"}}
    first = pq.read_table(prepared(tmp_path, recipe_with(**own)).path("neutral"))["prompt"][0]
    other = pq.read_table(prepared(tmp_path, recipe_with(**rows_of_set)).path("neutral"))["prompt"]
    assert "Please: Say 0." in first.as_py()
    assert "Please" not in other[0].as_py() and "Say 0." in other[0].as_py()


def test_slice_and_cluster_go_along(tmp_path: Path) -> None:
    lines(tmp_path / "texts.jsonl", TEXTS)
    columns = {"text": "body", "slice": "kind", "cluster": "body"}
    data = {"source": "texts.jsonl", "format": "text", "columns": columns}
    table = pq.read_table(prepared(tmp_path, recipe_with(data=data)).path("neutral"))
    assert table["slice"].to_pylist() == [str(n % 2) for n in range(7)]
    assert table["cluster"].to_pylist() == [text["body"] for text in TEXTS]


def test_a_group_of_the_partition_is_a_cluster(tmp_path: Path) -> None:
    values = [{**row, "author": f"a{n % 20}"} for n, row in enumerate(rows(60))]
    lines(tmp_path / "rows.jsonl", values)
    recipe = make_recipe(dataset={"partition": {"by": "random", "group": "author"}})
    table = pq.read_table(prepare(tmp_path, recipe).path("train"))
    assert set(table["cluster"].to_pylist()) <= {f"a{n}" for n in range(20)}
    assert len(set(table["cluster"].to_pylist())) > 1


def test_faults_of_a_set_are_told(tmp_path: Path) -> None:
    lines(tmp_path / "texts.jsonl", [{"other": "x"}])
    told = r"^evaluation\.held_out, set neutral: data\."
    with pytest.raises(DataError, match=rf"{told}[^!]*no column 'body'"):
        prepared(tmp_path, recipe_with())
    (tmp_path / "texts.jsonl").unlink()
    with pytest.raises(DataError, match=rf"{told}source: 'texts\.jsonl': no such file"):
        prepared(tmp_path, recipe_with())


def test_a_set_as_a_dataset_is_all_test() -> None:
    given = Rows.model_validate({"source": ["a.jsonl", {"path": "b.jsonl", "limit": 3}]})
    dataset = set_dataset(given)
    assert [(s.path, s.partition, s.limit) for s in dataset.sources] == [
        ("a.jsonl", "test", None),
        ("b.jsonl", "test", 3),
    ]
    assert dataset.partition_names == ("test",)
