"""Train rows that ask what a benchmark asks: found, counted, listed, never dropped.

Prompts are compared whatever their system messages are, and without few-shot rows: a question that
was trained on in another setting was trained on. Dropping rows from train is not done here, because
a benchmark must not change what is trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.benchmarks.asked_conversations import AskedConversations
from runner.benchmarks.asked_row import read_asked_rows
from runner.benchmarks.named_benchmark import NamedBenchmark, told_of
from runner.data.leaks.kept_texts import KeptTexts
from runner.data.leaks.leak_finder import FoundLeaks, LeakFinder
from runner.data.leaks.leak_report import LEAKED_FILE, PAIRS_FILE, LeakReport
from runner.data.leaks.leak_texts import Prompt
from runner.data.leaks.near_duplicates import fingerprints
from runner.data.partition import SPLITS
from runner.data.prepared_data import WHOLE, PreparedData
from runner.errors import DataError
from runner.recipe import Leaks, Recipe
from runner.stored_json import read_json

if TYPE_CHECKING:
    import pyarrow as pa

TRAIN = SPLITS.index("train")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkLeaks:
    """What was found; ``train_rows`` are numbers and ids of train rows, by their places in train.

    ``ids`` are the ids of the examples of each benchmark, by the numbers of its rows.
    """

    found: FoundLeaks
    train_rows: Sequence[tuple[int, str]]
    ids: Mapping[str, Mapping[int, str]]

    def report(self, before: LeakReport) -> LeakReport:
        """``before`` with these leaks in it."""
        own = self.found.report
        return replace(
            before,
            counts=(*before.counts, *own.counts),
            compared={**before.compared, **_of(self.ids, own.compared)},
            listed=before.listed + own.listed,
            leaked={**before.leaked, **_of(self.ids, own.leaked)},
            unsettled={**before.unsettled, **_of(self.ids, own.unsettled)},
        )

    def summary(self) -> str:
        """A line for each benchmark."""
        leaked = self.found.report.leaked
        return "\n".join(
            f"  {'warning: ' if leaked.get(name) else ''}{name}: {leaked.get(name, 0):,} of "
            f"{len(ids):,} rows ask what a train row asks, or nearly"
            for name, ids in self.ids.items()
        )

    def add_to(self, folder: Path) -> None:
        """Add what leaks to the lists in ``folder``, in place of what was added there before."""
        import pyarrow as pa
        from pyarrow import parquet

        for name, column, rows in (
            (PAIRS_FILE, "second_partition", self._pairs()),
            (LEAKED_FILE, "partition", self._leaked()),
        ):
            before = parquet.read_table(folder / name)
            others = [value not in self.ids for value in before[column].to_pylist()]
            added = pa.Table.from_pylist(list(rows), schema=before.schema)
            table = pa.concat_tables([before.filter(pa.array(others, pa.bool_())), added])
            parquet.write_table(table, folder / name)

    def _pairs(self) -> Iterator[dict[str, Any]]:
        for pair in self.found.pairs:
            row, train_id = self.train_rows[pair.first.row]
            asked = pair.second
            yield {
                "kind": pair.kind,
                "by": pair.by,
                "similarity": pair.similarity,
                "first_partition": pair.first.partition,
                "first_row": row,
                "first_example_id": train_id,
                "first_text": _storable(pair.first.text),
                "second_partition": asked.partition,
                "second_row": asked.row,
                "second_example_id": self.ids[asked.partition].get(asked.row, ""),
                "second_text": _storable(asked.text),
            }

    def _leaked(self) -> Iterator[dict[str, Any]]:
        for leaked in self.found.leaked:
            example = self.ids.get(leaked.partition, {}).get(leaked.row)
            if example is not None:  # else it was left out, as too long for example
                yield {
                    "partition": leaked.partition,
                    "example_id": example,
                    "row": leaked.row,
                    "kind": leaked.kind,
                }


def find_benchmark_leaks(
    data: PreparedData, recipe: Recipe, benchmarks: Sequence[NamedBenchmark]
) -> BenchmarkLeaks | None:
    """Compare the questions of all benchmarks with those of train; None where none is compared.

    Args:
        data: The recipe's dataset with its benchmarks, prepared.
        recipe: Which says how leaks are looked for.
        benchmarks: Its benchmarks.

    Raises:
        DataError: a benchmark whose policy is error leaks.
    """
    compared = [b for b in benchmarks if b.block.leaks != "ignore"]
    if not compared or "train" not in data.partitions:
        return None
    asked = {b.name: _asked(b, recipe) for b in compared}
    questions = {name: [row.question for row in one.rows] for name, one in asked.items()}
    found = compared_with_train(data.path("train"), recipe.dataset.leaks, questions)
    ids = {b.name: _ids(b, asked[b.name], data) for b in compared}
    result = BenchmarkLeaks(found=found, train_rows=train_rows(data.path("train")), ids=ids)
    _refuse(result, compared)
    return result


def find_lm_eval_leaks(folder: Path, data: PreparedData, leaks: Leaks) -> BenchmarkLeaks | None:
    """As ``find_benchmark_leaks``, of the tasks of lm-eval that were evaluated into ``folder``."""
    from pyarrow import parquet

    if "train" not in data.partitions:
        return None
    summary = read_json(folder / "summary.json")
    questions: dict[str, list[str]] = {}
    ids: dict[str, dict[int, str]] = {}
    for name in summary["lm_eval"]["tasks"]:
        columns = ["question", "example_id"]
        table = parquet.read_table(folder / f"{name}.parquet", columns=columns)
        questions[name] = table["question"].to_pylist()
        ids[name] = dict(enumerate(table["example_id"].to_pylist()))
    found = compared_with_train(data.path("train"), leaks, questions)
    return BenchmarkLeaks(found=found, train_rows=train_rows(data.path("train")), ids=ids)


def compared_with_train(
    train: Path, leaks: Leaks, questions: Mapping[str, Sequence[str]]
) -> FoundLeaks:
    """Questions by the name of their set, compared with those of the prepared partition ``train``.

    ``leaks`` says how near ones are looked for; nothing is refused or dropped.
    """
    looked_for = leaks.model_copy(
        update={
            "exact": "warn",
            "near": "ignore" if leaks.near == "ignore" else "warn",
            "by": ("prompt",),
        }
    )
    prompts = {name: [Prompt(text=text) for text in texts] for name, texts in questions.items()}
    return _found(train, looked_for, prompts)


def _asked(benchmark: NamedBenchmark, recipe: Recipe) -> AskedConversations:
    with told_of(benchmark.name):
        block = benchmark.block
        rows = read_asked_rows(block, benchmark.source, asking=recipe.template.user)
        return AskedConversations.of(block.model_copy(update={"few_shot": None}), rows, ())


def _found(train: Path, leaks: Leaks, prompts: Mapping[str, Sequence[Prompt]]) -> FoundLeaks:
    from pyarrow import parquet

    with tempfile.TemporaryDirectory() as folder, parquet.ParquetFile(train) as file:
        finder = LeakFinder(leaks, Path(folder))
        texts = KeptTexts(Path(folder) / "texts", file.metadata.num_rows)
        start = 0
        for batch in file.iter_batches(columns=["question", "answer"]):
            table = _table(batch)
            rows = np.arange(start, start + table.num_rows, dtype=np.int64)
            start += table.num_rows
            questions, answers = (table[name].to_pylist() for name in ("question", "answer"))
            # A whole text asks nothing: it is compared by what it says.
            said = ["" if q else a for q, a in zip(questions, answers, strict=True)]
            keys = fingerprints(questions, said, [""] * len(rows), leaks)
            finder.add(rows, np.full(len(rows), TRAIN, dtype=np.int8), keys)
            texts.add(rows, table)
        try:
            return finder.find(texts.texts, extra=prompts, judged=True)
        finally:
            texts.remove()


def _table(batch: pa.RecordBatch) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def train_rows(train: Path) -> list[tuple[int, str]]:
    """Number and id of every row of the prepared partition ``train``, in its order."""
    from pyarrow import parquet

    table = parquet.read_table(train, columns=["row", "example_id"])
    return list(zip(table["row"].to_pylist(), table["example_id"].to_pylist(), strict=True))


def _ids(
    benchmark: NamedBenchmark, asked: AskedConversations, data: PreparedData
) -> dict[int, str]:
    """The example ids of a benchmark's rows that are evaluated, by their numbers."""
    if benchmark.block.kind == "multiple_choice":
        return dict(enumerate(asked.item_ids()))
    from pyarrow import parquet

    path = data.sets[benchmark.name].path(WHOLE)
    table = parquet.read_table(path, columns=["row", "example_id"])
    return dict(zip(table["row"].to_pylist(), table["example_id"].to_pylist(), strict=True))


def _refuse(leaks: BenchmarkLeaks, benchmarks: Sequence[NamedBenchmark]) -> None:
    for benchmark in benchmarks:
        leaked = leaks.found.report.leaked.get(benchmark.name, 0)
        if leaked and benchmark.block.leaks == "error":
            raise DataError(
                f"benchmark {benchmark.name}: {leaked:,} of its rows ask what a train row asks, or "
                "nearly. Take those rows out of either, or write leaks: warn to see which they are."
            )


def _of(names: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name in names}


def _storable(text: str) -> str:
    """``text`` without halves of characters, which a file cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
