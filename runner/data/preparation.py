"""From source rows to examples that can be trained and evaluated on, every one of them checked.

``prepare_data`` is the one place that decides partitions, text, tokens and labels. Rows are read
once into a file, made into examples batch after batch in as many processes as there are cores, and
written to one file a partition: memory does not grow with the rows but for a few numbers of each.
What is made is kept in a cache by content, so that every process of a run, and every run that means
the same data, reads the very same files.
"""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base_model.trained_tokens import needed_rows
from runner.data.batch_maker import BatchMaker
from runner.data.evaluation_columns import EvaluationColumns
from runner.data.formats.format_detection import resolve_format
from runner.data.formats.row_formats import plugin_identity, row_format
from runner.data.labels.chat_template import probe_chat_template
from runner.data.labels.example_maker import ExampleMaker, example_maker
from runner.data.labels.label_contract import Contract
from runner.data.labels.tokenization import question_token_ids
from runner.data.partition import assign_partitions
from runner.data.partition_files import partition_dataset
from runner.data.prepared_cache import read_prepared, store_prepared
from runner.data.prepared_data import PreparedData
from runner.data.prepared_writer import PreparedWriter
from runner.data.reading.file_stat_digests import cached_file_digest
from runner.data.reading.row_reading import Column, read_rows
from runner.data.reading.row_store import RowIndex, StoredRows, store_rows, value_key
from runner.data.reading.row_template import RowError
from runner.data.reading.sources import SourceRecord
from runner.data.rule_outcomes import Policies, policies_of, refuse, refuse_lost_partitions
from runner.data.workers import lasting_objects
from runner.digests import digest_of_json
from runner.errors import DataError
from runner.recipe import Recipe
from runner.versions import PREPARING, code_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PreparedData", "partition_dataset", "prepare_data", "prompt_token_ids"]

# Told what is being done, how much of it is done, and how much there is in all (0: not known).
OnProgress = Callable[[str, int, int], None]
# Packages that decide what is prepared, besides our own code.
DECIDING = ("tokenizers", "transformers", "jinja2", "rensa", "numpy", "pyarrow", "datasets")


def prepare_data(
    recipe: Recipe,
    source: SourceRecord,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_folder: Path,
    cache_folder: Path,
    on_progress: OnProgress | None = None,
    vocabulary: int | None = None,
    announce: Callable[[str], None] = warnings.warn,
    enforce: bool = True,
) -> PreparedData:
    """Partition, render, tokenize and check every row, or take all that from the cache.

    Args:
        recipe: What is meant.
        source: Its rows, found by ``resolve_source``.
        tokenizer: The base model's, with its padding token set.
        base_folder: Where the recipe's relative paths start.
        cache_folder: The cache shared by all runs.
        on_progress: Told how far it is.
        vocabulary: Rows of the base model's embedding; the tokenizer's size if None.
        announce: Told when a cached copy is damaged and made anew.
        enforce: Whether rules and leaks whose policy is ``error`` stop here; else they are only
            counted, and a partition may have lost all its rows.

    Raises:
        DataError: every kind of fault of the rows, templates and partitions, with row numbers.
        MachineError: the source cannot be had, or the cache cannot be written.
    """
    setup = _set_up(recipe, source, tokenizer, base_folder, vocabulary)
    target = cache_folder / "prepared" / setup.key
    data = read_prepared(target, announce)
    if data is None:
        with lasting_objects():
            data = store_prepared(target, lambda folder: _build(setup, source, folder, on_progress))
    if enforce:
        refuse(data, setup.policies)
        refuse_lost_partitions(data, recipe.dataset)
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """All that preparing depends on but the rows."""

    recipe: Recipe
    maker: ExampleMaker
    contract: Contract
    policies: Policies
    format: str
    format_detected: bool
    key: str


def _set_up(
    recipe: Recipe,
    source: SourceRecord,
    tokenizer: PreTrainedTokenizerBase,
    base_folder: Path,
    vocabulary: int | None,
) -> _Setup:
    form, detected = resolve_format(recipe.dataset, source)
    if form == "text":
        _refuse_questions(recipe)
    maker = example_maker(recipe, tokenizer, base_folder, format_name=form)
    contract = Contract(
        chat=maker.chat,
        loss_on=recipe.template.loss_on,
        tokenizer=tokenizer,
        vocabulary=_embedded(recipe, tokenizer, vocabulary),
    )
    policies = policies_of(recipe)
    return _Setup(
        recipe=recipe,
        maker=maker,
        contract=contract,
        policies=policies,
        format=form,
        format_detected=detected,
        key=preparation_key(recipe, source, maker, contract.vocabulary),
    )


def _embedded(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None) -> int:
    """Rows of the embedding, those of tokens that the recipe adds among them."""
    if vocabulary is None:
        return len(tokenizer)
    return needed_rows(tokenizer, recipe.lora.trained_tokens, vocabulary)


def _refuse_questions(recipe: Recipe) -> None:
    """Texts that were detected ask nothing; a recipe that says so itself is refused before."""
    for key in ("generation", "samples"):
        if getattr(recipe.evaluation, key):
            raise DataError(
                f"evaluation.{key}: the rows are whole texts (format text, found by their columns)"
                ", which ask nothing that could be answered. Take the key out, or name the "
                "format and the columns of question and answer."
            )


def preparation_key(
    recipe: Recipe, source: SourceRecord, maker: ExampleMaker, vocabulary: int
) -> str:
    """Digest of everything that prepared data depends on."""
    dataset = recipe.dataset
    values = dataset.model_dump(mode="json", exclude={"source", "revision", "violations"})
    blocks = [s.model_dump(mode="json", exclude={"path", "revision"}) for s in dataset.sources]
    return digest_of_json(
        {
            "data": source.digest,
            "names": [file.name for file in source.files],  # problem rows are listed by them
            "dataset": values,
            "sources": blocks,
            "policies": policies_of(recipe).by_rule,
            "samples": list(recipe.evaluation.samples),
            "seed": recipe.seed if dataset.partition.by == "random" else None,
            "template": maker.template_digest,
            "tokenizer": tokenizer_digest(maker.tokenizer),
            "vocabulary": vocabulary,
            "code": code_digest(PREPARING),
            "plugin": plugin_identity(maker.format_name),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in DECIDING},
        }
    )[:32]


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what decides a tokenizer's ids; padding and truncation settings do not count."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.update(padding=None, truncation=None)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    special.pop("pad_token", None)
    return digest_of_json({"state": state, "special": special})


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase, recipe: Recipe, data: PreparedData, text: str
) -> list[int]:
    """Token ids of the generation prompt that asks ``text``, rendered as the recipe's rows are.

    Raises:
        DataError: a template raises on it.
    """
    dataset = recipe.dataset
    form = row_format(data.format, dataset.columns, recipe.template)
    chat = probe_chat_template(data.chat_template, tokenizer, thinking=data.thinking)
    escape = dataset.violations.special_token_in_text == "escape"
    try:
        return question_token_ids(tokenizer, chat, form.question(text), escape=escape)
    except RowError as error:
        raise DataError(f"evaluation.samples: {text!r}: {error}") from None


# Building


def _build(
    setup: _Setup, source: SourceRecord, folder: Path, on_progress: OnProgress | None
) -> PreparedData:
    recipe, dataset = setup.recipe, setup.recipe.dataset
    stored, index = _store(setup, source, folder / "rows.arrow", on_progress)
    _refuse_changed(source)
    codes = assign_partitions(
        dataset.partition, index, seed=recipe.seed, pinned=[s.partition for s in dataset.sources]
    )
    batches = BatchMaker(
        stored=stored,
        maker=setup.maker,
        contract=setup.contract,
        policies=setup.policies,
        leaks=dataset.leaks,
        columns=EvaluationColumns.of(dataset),
    )
    writer = PreparedWriter(folder=folder, recipe=recipe, batches=batches, index=index, codes=codes)
    writer.write(processes=processes_of(recipe), on_progress=on_progress)
    stored.remove()
    return writer.record(
        key=setup.key,
        source=source,
        form=(setup.format, setup.format_detected),
        notes=setup.maker.notes,
    )


def _refuse_changed(source: SourceRecord) -> None:
    """What was read must be what was found: the cache names it by the digest taken before."""
    changed = [f.name for f in source.files if cached_file_digest(Path(f.path)) != f.sha256]
    if changed:
        raise DataError(
            f"dataset.source: {', '.join(changed)} changed while it was being read. Run again."
        )


def _store(
    setup: _Setup, source: SourceRecord, path: Path, on_progress: OnProgress | None
) -> tuple[StoredRows, RowIndex]:
    """Read all rows into ``path``: the format's columns, evaluation's, and what divides rows."""
    content, partition = setup.maker.row_format.content, setup.recipe.dataset.partition
    columns = {column.name: column for column in setup.maker.row_format.columns}
    for column in EvaluationColumns.of(setup.recipe.dataset).read():
        columns.setdefault(column.name, column)
    for name in (partition.group, partition.stratify):
        if name is not None:
            columns.setdefault(name, Column(name=name, kind="json"))

    def on_batch(rows: int) -> None:
        if on_progress is not None:
            on_progress("reading rows", rows, 0)

    return store_rows(
        read_rows(source, tuple(columns.values())),
        tuple(columns.values()),
        path,
        content=lambda values: value_key(content(values)),
        group=partition.group,
        stratify=partition.stratify,
        on_batch=on_batch,
    )


def processes_of(recipe: Recipe) -> int:
    """How many processes prepare rows side by side."""
    threads = recipe.hardware.threads
    if isinstance(threads, int):
        return threads
    if hasattr(os, "sched_getaffinity"):  # macOS has no such thing
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
