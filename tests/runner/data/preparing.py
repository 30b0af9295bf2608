"""Rows that are prepared as a run does it, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.preparation import prepare_data
from runner.data.prepared_data import PROBLEMS_FILE, PreparedData, RuleOutcome
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from runner.recipe import Recipe
from tests.runner.tiny_data import make_recipe, make_tokenizer

POSITION = {"partition": {"by": "position"}}


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Alpaca rows, no two of which ask or answer the same."""
    return [
        {
            "instruction": f"Add {n} to x.",
            "input": "" if n % 3 else f"x = {n}",
            "output": f"def f(x):\n    return x + {n}",
            "tests": f"assert f(1) == {n + 1}",
        }
        for n in range(first, first + count)
    ]


def write(folder: Path, data: Sequence[Any], name: str = "rows.jsonl") -> None:
    text = "".join(json.dumps(row) + "\n" for row in data)
    (folder / name).write_text(text, encoding="utf-8")


def prepare(folder: Path, recipe: Recipe | None = None, **options: Any) -> PreparedData:
    """Prepare what lies in ``folder``, with a cache there."""
    recipe = recipe or make_recipe()
    tokenizer = options.pop("tokenizer", None) or make_tokenizer("mistral")
    given = {"base_folder": folder, "cache_folder": folder / "cache", **options}
    return prepare_data(recipe, resolve_source(recipe.dataset, folder), tokenizer, **given)


def message_of(folder: Path, recipe: Recipe | None = None, **options: Any) -> str:
    """What a user is told; nothing half-written may stay."""
    with pytest.raises(DataError) as caught:
        prepare(folder, recipe, **options)
    assert leftovers(folder / "cache" / "prepared") == []
    return str(caught.value)


def leftovers(cache: Path) -> list[str]:
    """Temporary folders in a cache of prepared data."""
    return [path.name for path in cache.glob(".*")]


def table(data: PreparedData, partition: str) -> pa.Table:
    return pq.read_table(data.path(partition))


def members(data: PreparedData) -> dict[str, list[int]]:
    """The row numbers of each partition."""
    return {name: table(data, name)["row"].to_pylist() for name in data.partitions}


def outcome(data: PreparedData, rule: str) -> RuleOutcome:
    (found,) = [o for o in data.rules if o.rule == rule]
    return found


def problems(data: PreparedData) -> list[dict[str, Any]]:
    return pq.read_table(Path(data.folder) / PROBLEMS_FILE).to_pylist()
