"""Prepares rows as ``proofbox run`` does before it trains: that stage alone, with every check.

    python benchmarks/prepare_with_proofbox.py rows.jsonl model-folder cache-folder report.json

The recipe leaves everything about the data as it is by default: partitions by hash, the label
contract on every row, exact and near leaks between the partitions. The report says what the steps
took, how many rows there are, and where.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any


def recipe(rows: Path, model: Path) -> dict[str, Any]:
    """The recipe: Alpaca rows, the tokenizer's template, loss on the completion."""
    return {
        "version": 1,
        "name": "data-benchmark",
        "dataset": {"source": str(rows.resolve()), "format": "alpaca"},
        "template": {"chat": "tokenizer", "loss_on": "completion", "max_length": 2048},
        "model": {"base": str(model.resolve())},
        "training": {"max_steps": 1},
    }


def prepare(recipe_file: Path, cache: Path) -> dict[str, Any]:
    """Prepare a recipe's data into ``cache``, or take it from there."""
    started = time.perf_counter()
    from runner.base_model.loaded_model import load_tokenizer
    from runner.base_model.model_source import find_model
    from runner.data.preparation import prepare_data
    from runner.data.reading.sources import resolve_source
    from runner.recipe_reading.recipe_file import read_recipe

    given = read_recipe(recipe_file)
    folder = recipe_file.parent
    model = find_model(given.model.base, given.model.revision, folder=folder)
    tokenizer = load_tokenizer(given, model)
    loaded = time.perf_counter()
    source = resolve_source(given.dataset, folder)
    found = time.perf_counter()
    data = prepare_data(given, source, tokenizer, base_folder=folder, cache_folder=cache)
    ended = time.perf_counter()
    return {
        "seconds": {
            "programs and tokenizer loaded": round(loaded - started, 2),
            "source found": round(found - loaded, 2),
            "prepared": round(ended - found, 2),
        },
        "rows": sum(part.rows for part in data.partitions.values()),
        "partitions": {name: part.rows for name, part in data.partitions.items()},
        "files": {name: str(path) for name, path in data.paths.items()},
    }


def main() -> None:
    """Prepare the rows, and say what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("report", type=Path)
    options = parser.parse_args()
    recipe_file = options.report.with_name("recipe.json")
    recipe_file.write_text(json.dumps(recipe(options.rows, options.model)))
    options.report.write_text(json.dumps(prepare(recipe_file, options.cache)))


if __name__ == "__main__":
    main()
