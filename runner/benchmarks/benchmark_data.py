"""Benchmarks prepared as sets of rows beside a recipe's dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.benchmarks.asked_conversations import AskedConversations
from runner.benchmarks.asked_row import read_asked_rows
from runner.benchmarks.few_shot import shots_of
from runner.benchmarks.named_benchmark import NamedBenchmark, told_of
from runner.data.extra_sets import resolve_set, set_recipe
from runner.data.preparation import prepare_data
from runner.data.prepared_data import PreparedData
from runner.data.reading.sources import SourceRecord
from runner.digests import digest_of_json
from runner.errors import MachineError
from runner.recipe import Recipe, Template
from runner.stored_json import write_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def with_benchmarks(
    data: PreparedData,
    recipe: Recipe,
    source: SourceRecord,
    benchmarks: Sequence[NamedBenchmark],
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_folder: Path,
    cache_folder: Path,
    vocabulary: int | None,
    announce: Callable[[str], None],
) -> PreparedData:
    """``data`` with all benchmarks as sets of rows, each prepared or taken from the cache.

    Of a multiple choice benchmark each row of the set is one choice; ``choices_file`` says whose.

    Args:
        data: The recipe's prepared dataset.
        recipe: The recipe.
        source: The recipe's rows.
        benchmarks: Its benchmarks, found by ``resolve_benchmarks``.
        tokenizer: The base model's, with its padding token set.
        base_folder: Where the recipe's relative paths start.
        cache_folder: The cache shared by all runs.
        vocabulary: Rows of the base model's embedding; the tokenizer's size if None.
        announce: Told when a cached copy is damaged and made anew.

    Raises:
        DataError: every kind of fault of the rows, templates and few-shot rows.
        MachineError: a source cannot be had, or the cache cannot be written.
    """
    sets = dict(data.sets)
    for benchmark in benchmarks:
        with told_of(benchmark.name), tempfile.TemporaryDirectory() as folder:
            block = benchmark.block
            rows = read_asked_rows(block, benchmark.source, asking=recipe.template.user)
            shots = shots_of(benchmark, recipe, source, data)
            asked = AskedConversations.of(block, rows, shots)
            path = Path(folder) / f"{benchmark.name}-as-asked.jsonl"
            asked.write(path)
            prepared = prepare_data(
                set_recipe(recipe, asked.dataset(path), _template(benchmark, recipe, base_folder)),
                resolve_set(asked.dataset(path), path.parent),
                tokenizer,
                base_folder=path.parent,
                cache_folder=cache_folder,
                vocabulary=vocabulary,
                announce=announce,
            )
            if block.kind == "multiple_choice":
                _store_choices(asked, choices_file(cache_folder, benchmark, prepared))
            sets[benchmark.name] = prepared
    return replace(data, sets=sets)


def choices_file(cache_folder: Path, benchmark: NamedBenchmark, prepared: PreparedData) -> Path:
    """The file that says whose choices the rows of a multiple choice benchmark are."""
    name = digest_of_json([benchmark.digest, prepared.key])
    return cache_folder / "choices" / f"{name[:32]}.parquet"


def _template(benchmark: NamedBenchmark, recipe: Recipe, base_folder: Path) -> Template:
    """How conversations become text: row templates have been used by then."""
    own = recipe.template.chat
    if own.endswith(".jinja"):
        own = str((base_folder / own).resolve())
    return Template(
        chat=benchmark.chat or own,
        thinking=recipe.template.thinking,
        loss_on="completion",
        max_length=benchmark.block.max_length,
        too_long=benchmark.block.too_long,
    )


def _store_choices(asked: AskedConversations, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    buffer = pa.BufferOutputStream()
    parquet.write_table(asked.choice_table(), buffer)
    try:
        write_bytes(path, buffer.getvalue().to_pybytes())
    except OSError as error:
        raise MachineError(f"{path}: the cache cannot be written ({error.strerror})") from None
