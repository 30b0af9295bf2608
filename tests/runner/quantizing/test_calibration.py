"""Calibration rows are rows of train, chosen by seed, and never one that is held out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runner.data.prepared_data import PreparedData
from runner.errors import DataError
from runner.quantizing.calibration import SHORTEST, calibration_rows
from runner.recipe import Calibration
from tests.runner.data.preparing import POSITION, prepare, rows, table, write
from tests.runner.tiny_data import make_recipe


def prepared(folder: Path, data: list[dict[str, Any]], **dataset: Any) -> PreparedData:
    write(folder, data)
    return prepare(folder, make_recipe(dataset={**POSITION, **dataset}))


def token_ids(data: PreparedData, partition: str) -> list[tuple[int, ...]]:
    return [tuple(ids) for ids in table(data, partition)["input_ids"].to_pylist()]


def test_rows_are_of_train_token_for_token(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(50))
    chosen = calibration_rows(data, Calibration(examples=7), seed=42)
    assert len(chosen.token_ids) == len(set(chosen.token_ids)) == 7
    assert set(chosen.token_ids) <= set(token_ids(data, "train"))
    assert chosen.tokens == sum(map(len, chosen.token_ids))


def test_the_seed_decides_which_and_the_digest_tells(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(50))
    first, again, other = (
        calibration_rows(data, Calibration(examples=7), seed=seed) for seed in (42, 42, 43)
    )
    assert first == again
    assert first.digest == again.digest != other.digest
    fewer = calibration_rows(data, Calibration(examples=6), seed=42)
    assert fewer.token_ids == first.token_ids[:6]


def test_rows_are_cut_and_all_are_taken_where_there_are_fewer(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(50))
    chosen = calibration_rows(data, Calibration(examples=1000, max_length=12), seed=42)
    assert len(chosen.token_ids) == data.partitions["train"].rows
    assert set(map(len, chosen.token_ids)) == {12}


def test_a_row_of_test_that_train_repeats_is_never_one(tmp_path: Path) -> None:
    """Also where the recipe lets such leaks pass."""
    data = rows(50)
    data[3] = dict(data[49])
    ignored = {"leaks": {"exact": "warn", "near": "warn"}}
    leaking = prepared(tmp_path, data, **ignored)
    shared = set(token_ids(leaking, "train")) & set(token_ids(leaking, "test"))
    assert len(shared) == 1
    chosen = calibration_rows(leaking, Calibration(examples=1000), seed=42)
    assert not shared & set(chosen.token_ids)
    assert len(chosen.token_ids) == leaking.partitions["train"].rows - 1


def test_a_row_of_a_set_beside_the_data_is_never_one(tmp_path: Path) -> None:
    data = prepared(tmp_path, rows(50))
    # All rows of a set are its partition test: here it is this very train partition.
    aside = dataclasses.replace(data, partitions={"test": data.partitions["train"]})
    with_set = dataclasses.replace(data, sets={"aside": aside})
    with pytest.raises(DataError, match=r"quantization\.calibration: no row of train"):
        calibration_rows(with_set, Calibration(), seed=42)


def test_rows_that_gptqmodel_would_leave_out_without_a_word_are_passed_over(
    tmp_path: Path,
) -> None:
    data = prepared(tmp_path, rows(50))
    with pytest.raises(DataError, match=f"has {SHORTEST} tokens or more"):
        calibration_rows(data, Calibration(max_length=SHORTEST - 1), seed=42)
    assert calibration_rows(data, Calibration(max_length=SHORTEST), seed=42).token_ids
