"""Several sources: weights, named partitions, limits; groups and strata, from recipe to files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runner.data.preparing import (
    leftovers,
    members,
    message_of,
    outcome,
    prepare,
    rows,
    table,
    write,
)
from tests.runner.tiny_data import make_recipe

WHOLE = {"partition": {"by": "position", "train": 1, "validation": 0, "test": 0}}


def two_sources(folder: Path, *, first: int = 60, second: int = 40, **block: Any) -> list[Any]:
    """Rows 0 to ``first``, and after them those of a source with settings."""
    write(folder, rows(first), "a.jsonl")
    write(folder, rows(second, first=1000), "b.jsonl")
    return ["a.jsonl", {"path": "b.jsonl", **block}]


# Weights


def test_a_whole_weight_uses_each_train_row_so_often(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, weight=3)
    plain = prepare(tmp_path, make_recipe(["a.jsonl", "b.jsonl"]))
    data = prepare(tmp_path, make_recipe(sources))
    before, after = members(plain), members(data)
    assert after["validation"] == before["validation"]  # held-out rows are used once
    assert after["test"] == before["test"]
    assert after["train"] == [row for row in before["train"] for _ in range(3 if row >= 60 else 1)]
    train = table(data, "train").to_pylist()
    ids = [row["example_id"] for row in train]
    assert len(set(ids)) == len(ids)
    copies = [row for row in train if row["row"] == after["train"][-1]]
    assert [row["example_id"][16:] for row in copies] == ["", "x2", "x3"]
    assert len({str({**row, "example_id": ""}) for row in copies}) == 1
    part = data.partitions["train"]
    assert part.rows == len(train)
    assert part.tokens == sum(len(row["input_ids"]) for row in train)
    repeated = sum(row >= 60 for row in after["train"])
    assert f"dataset.source[1]: weight 3, {repeated} examples in train" in data.notes
    # Counts of rows are those of the data, whatever the weights.
    assert (data.source_rows, data.rows_kept, data.dropped) == (100, 100, 0)


def test_a_weight_below_one_uses_a_share_of_the_train_rows(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, first=100, second=400, weight=0.5)
    plain = members(prepare(tmp_path, make_recipe(["a.jsonl", "b.jsonl"])))
    data = prepare(tmp_path, make_recipe(sources))
    found = members(data)
    assert (found["validation"], found["test"]) == (plain["validation"], plain["test"])
    of_second = [row for row in plain["train"] if row >= 100]
    used = [row for row in found["train"] if row >= 100]
    assert [row for row in found["train"] if row < 100] == [r for r in plain["train"] if r < 100]
    assert set(used) < set(of_second)
    assert len(set(used)) == len(used)
    assert abs(len(used) - len(of_second) / 2) < 3 * np.sqrt(len(of_second)) / 2
    assert f"dataset.source[1]: weight 0.5, {len(used)} examples in train" in data.notes


def test_weights_come_after_leaks_and_rules(tmp_path: Path) -> None:
    write(tmp_path, rows(10), "test.jsonl")
    train = rows(30)
    for row in train:
        row["output"] += "\n# done"
    train[20]["output"] = ""
    write(tmp_path, train, "train.jsonl")
    recipe = make_recipe(
        [
            {"path": "train.jsonl", "weight": 2, "partition": "train"},
            {"path": "test.jsonl", "partition": "test"},
        ],
        dataset={"violations": {"empty_answer": "drop"}, "leaks": {"near": "ignore"}},
    )
    data = prepare(tmp_path, recipe)
    assert data.leaks.dropped == 10
    kept = [n for n in range(10, 30) if n != 20]
    assert members(data)["train"] == [n for n in kept for _ in range(2)]
    assert "dataset.source[0]: weight 2, 38 examples in train" in data.notes


def test_a_weight_that_leaves_no_train_row_is_told(tmp_path: Path) -> None:
    write(tmp_path, rows(20))
    recipe = make_recipe([{"path": "rows.jsonl", "weight": 0.001}], dataset=WHOLE)
    assert message_of(tmp_path, recipe) == (
        "no train rows are left of 20 rows:\n"
        "  dataset.source[0]: weight 0.001 uses that share of its train rows\n"
        "`proofbox preview RECIPE --violations` shows them."
    )


def test_without_weights_there_are_no_notes_of_them(tmp_path: Path) -> None:
    data = prepare(tmp_path, make_recipe(two_sources(tmp_path)))
    assert not [note for note in data.notes if "weight" in note]


def test_problem_rows_are_told_by_the_name_of_their_own_file(tmp_path: Path) -> None:
    """Equal rows in a file of another name are prepared again: places name files."""
    write(tmp_path, rows(20), "a.jsonl")
    write(tmp_path, rows(20), "b.jsonl")
    first, second = (
        prepare(tmp_path, make_recipe([{"path": name, "weight": 2}], dataset=WHOLE))
        for name in ("a.jsonl", "b.jsonl")
    )
    assert first.key != second.key
    assert first.partitions == second.partitions
    assert "jsonl" not in str(first.notes)


# Partitions that sources name


def test_a_source_may_name_its_partition(tmp_path: Path) -> None:
    write(tmp_path, rows(30), "train.jsonl")
    write(tmp_path, rows(10, first=100), "test.jsonl")
    partition = {"by": "position", "train": 0.9, "validation": 0.1, "test": 0}
    recipe = make_recipe(
        ["train.jsonl", {"path": "test.jsonl", "partition": "test"}],
        dataset={"partition": partition},
    )
    data = prepare(tmp_path, recipe)
    assert members(data) == {
        "train": [*range(27)],
        "validation": [27, 28, 29],
        "test": [*range(30, 40)],
    }


def test_every_source_may_name_its_partition(tmp_path: Path) -> None:
    for place, name in enumerate(("test", "train")):
        write(tmp_path, rows(10, first=100 * place), f"{name}.jsonl")
    sources = [{"path": f"{name}.jsonl", "partition": name} for name in ("test", "train")]
    data = prepare(tmp_path, make_recipe(sources))
    assert members(data) == {"train": [*range(10, 20)], "test": [*range(10)]}
    assert list(data.partitions) == ["train", "test"]


def test_a_named_partition_whose_rows_no_filter_passes_is_told(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, partition="test")
    dataset = {
        "filter": "instruction | length < 13",
        "partition": {"by": "position", "train": 0.9, "validation": 0.1, "test": 0},
    }
    assert message_of(tmp_path, make_recipe(sources, dataset=dataset)) == (
        "dataset.source[1]: no test rows: it has none that dataset.filter passes and no earlier "
        "source names. Change the filter or the source."
    )


def test_shares_of_no_rows_are_told(tmp_path: Path) -> None:
    sources = two_sources(tmp_path, partition="train")[::-1]
    dataset = {"filter": "instruction | length > 13", "partition": {"by": "position"}}
    assert message_of(tmp_path, make_recipe(sources, dataset=dataset)).startswith(
        "dataset.partition: no validation and no test rows: `by: position` divides 0 rows into "
        "train 0 (share 0.8), validation 0 (share 0.1), test 0 (share 0.1)."
    )


def test_limits_hold_for_each_source(tmp_path: Path) -> None:
    write(tmp_path, rows(30), "a.jsonl")
    write(tmp_path, rows(30, first=100), "b.jsonl")
    recipe = make_recipe([{"path": "a.jsonl", "limit": 5}, "b.jsonl"], dataset=WHOLE)
    data = prepare(tmp_path, recipe)
    prompts = table(data, "train")["question"].to_pylist()
    assert data.source_rows == 35
    assert prompts[4:6] == ["Add 4 to x.", "Add 100 to x."]


# Groups and strata


def grouped(count: int) -> list[dict[str, Any]]:
    authors = [None, "ann", ["bo", 1], {"name": "cy"}, 4, *(f"author {n}" for n in range(20))]
    return [
        {**row, "author": authors[n % len(authors)], "language": "de" if n % 10 == 0 else "en"}
        for n, row in enumerate(rows(count))
    ]


@pytest.mark.parametrize("by", ["position", "random", "hash"])
def test_groups_stay_together(tmp_path: Path, by: str) -> None:
    data = grouped(500)
    write(tmp_path, data)
    made = prepare(tmp_path, make_recipe(dataset={"partition": {"by": by, "group": "author"}}))
    where: dict[str, set[str]] = {}
    for name, numbers in members(made).items():
        for row in numbers:
            where.setdefault(repr(data[row]["author"]), set()).add(name)
    alone = where.pop("None")
    assert {len(partitions) for partitions in where.values()} == {1}
    assert len(alone) > 1  # rows of no author are no group
    assert sum(part.rows for part in made.partitions.values()) == 500 - made.leaks.dropped


def test_shares_hold_in_every_stratum(tmp_path: Path) -> None:
    data = grouped(400)
    write(tmp_path, data)
    partition = {"by": "random", "stratify": "language"}
    made = prepare(tmp_path, make_recipe(dataset={"partition": partition}))
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        counts = Counter(data[row]["language"] for row in members(made)[name])
        assert counts == {"de": 40 * share, "en": 360 * share}


def test_a_group_column_may_be_one_that_is_read_anyhow(tmp_path: Path) -> None:
    data = rows(200)
    for n, row in enumerate(data):
        row["instruction"] = f"Task {n % 40}."
    write(tmp_path, data)
    partition = {"by": "hash", "group": "instruction"}
    made = prepare(tmp_path, make_recipe(dataset={"partition": partition}))
    tasks = [{row % 40 for row in numbers} for numbers in members(made).values()]
    assert sum(map(len, tasks)) == 40
    assert outcome(made, "unusable_row").violations == 0


def test_a_row_without_the_column_is_a_fault(tmp_path: Path) -> None:
    data = grouped(50)
    del data[7]["author"]
    write(tmp_path, data)
    message = message_of(tmp_path, make_recipe(dataset={"partition": {"group": "author"}}))
    assert "no column 'author'" in message
    assert "row 7 (rows.jsonl:8)" in message
    assert leftovers(tmp_path / "cache" / "prepared") == []
