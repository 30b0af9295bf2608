"""Train rows that a set under ``evaluation.held_out`` has too: found, counted, listed.

They are not dropped from train: another set to be measured must not change what is trained. Gates
on the clean rows of a set (``neutral.clean.loss``) leave them out.
"""

from __future__ import annotations

from pathlib import Path

from runner.benchmarks.benchmark_leaks import BenchmarkLeaks, compared_with_train, train_rows
from runner.data.extra_sets import extra_sets
from runner.data.prepared_data import WHOLE, PreparedData
from runner.recipe import Recipe


def find_set_leaks(data: PreparedData, recipe: Recipe) -> BenchmarkLeaks | None:
    """Compare what the rows of all sets ask with train; None where there is no set.

    A whole text asks nothing, and is compared by what it says.

    Args:
        data: The recipe's dataset with its sets, prepared.
        recipe: Which says how leaks are looked for.
    """
    names = [extra.name for extra in extra_sets(recipe)]
    if not names or "train" not in data.partitions:
        return None
    rows = {name: _rows(data.sets[name].path(WHOLE)) for name in names}
    texts = {name: [text for _, text in found] for name, found in rows.items()}
    train = data.path("train")
    return BenchmarkLeaks(
        found=compared_with_train(train, recipe.dataset.leaks, texts),
        train_rows=train_rows(train),
        ids={
            name: dict(enumerate(example for example, _ in found)) for name, found in rows.items()
        },
    )


def _rows(path: Path) -> list[tuple[str, str]]:
    """Id and text of every prepared row: what it asks, or else what it says."""
    from pyarrow import parquet

    columns = ("example_id", "question", "answer")
    table = parquet.read_table(path, columns=list(columns))
    read = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return [(example, question or answer) for example, question, answer in read]
