"""A tiny dataset prepared, and benchmarks over rows that a test writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

from runner.benchmarks.benchmark_data import with_benchmarks
from runner.benchmarks.named_benchmark import NamedBenchmark, resolve_benchmarks
from runner.data.preparation import prepare_data
from runner.data.prepared_data import PreparedData
from runner.data.reading.sources import SourceRecord, resolve_source
from runner.recipe import Recipe
from tests.runner.tiny_data import make_recipe, make_tokenizer

TRAIN = [
    {"instruction": f"What is {n} plus 1?", "input": "", "output": f"{n + 1}"} for n in range(10)
]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a test looks at."""

    recipe: Recipe
    source: SourceRecord
    data: PreparedData
    benchmarks: tuple[NamedBenchmark, ...]
    tokenizer: PreTrainedTokenizerFast
    folder: Path

    def prompts(self, name: str) -> list[str]:
        """The rendered prompts of a benchmark."""
        return self.column(name, "prompt")

    def column(self, name: str, column: str) -> list[Any]:
        return parquet.read_table(self.data.path(name))[column].to_pylist()


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


def make(
    folder: Path,
    *benchmarks: dict[str, Any] | str,
    train: Sequence[dict[str, Any]] = TRAIN,
    chat: str = "chatml",
    kind: str = "bytes",
    **blocks: Any,
) -> Made:
    """Prepare a recipe with these benchmarks; all rows of the dataset are train's but two."""
    write_rows(folder / "rows.jsonl", train)
    tokenizer = make_tokenizer("chatml", kind)
    recipe = make_recipe(
        dataset={"format": "alpaca", "partition": {"by": "position", "train": 0.8,
                 "validation": 0.1, "test": 0.1}},
        template={"chat": chat},
        evaluation={"benchmarks": list(benchmarks)},
        **blocks,
    )  # fmt: skip
    source = resolve_source(recipe.dataset, folder)
    common = {"base_folder": folder, "cache_folder": folder / "cache", "vocabulary": None}
    data = prepare_data(recipe, source, tokenizer, **common)
    found = resolve_benchmarks(recipe, folder)
    data = with_benchmarks(data, recipe, source, found, tokenizer, announce=print, **common)
    return Made(
        recipe=recipe, source=source, data=data, benchmarks=found, tokenizer=tokenizer,
        folder=folder,
    )  # fmt: skip
