"""From rows to examples that can be trained and evaluated on, every one of them checked.

``prepare_data`` is the one place that decides partitions, text, tokens and labels. What it makes is
kept in a cache by content, so that every process of a run, and every run that means the same data,
reads the very same files.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runner.data.chat_template import probe_chat_template, render_question
from runner.data.example_maker import ExampleMaker, MadeExamples, example_maker
from runner.data.formats import row_format
from runner.data.label_contract import Contract, ContractCheck
from runner.data.labelled_rows import LabelledRows
from runner.data.partition import SPLITS, Split, assign_partitions
from runner.data.partition_files import (
    PartitionWriter,
    histogram_edges,
    partition_dataset,
    partition_table,
)
from runner.data.prepared_cache import read_prepared, store_prepared
from runner.data.prepared_data import DroppedRow, PreparedData, ShownToken, TruncatedRow
from runner.data.row_faults import SHOWN
from runner.data.row_template import RowError
from runner.data.sources import SourceRecord, load_rows
from runner.data.tokenization import encode, shown_tokens
from runner.digests import digest_of_json
from runner.errors import DataError
from runner.recipe import Recipe
from runner.versions import PREPARING, code_digest

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

__all__ = ["PreparedData", "partition_dataset", "prepare_data", "prompt_token_ids"]

BATCH = 1000  # rows rendered, tokenized and checked at a time
OnProgress = Callable[[int, int], None]


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
) -> PreparedData:
    """Partition, render, tokenize and check every row, or take all that from the cache.

    Args:
        recipe: What is meant.
        source: Its rows, found by ``resolve_source``.
        tokenizer: The base model's, with its padding token set.
        base_folder: Where the recipe's relative paths start.
        cache_folder: The cache shared by all runs.
        on_progress: Called with rows done and rows in all.
        vocabulary: Rows of the base model's embedding; the tokenizer's size if None.
        announce: Told when a cached copy is damaged and made anew.

    Raises:
        DataError: every kind of fault of the rows, templates and partitions, with row numbers.
        MachineError: the source cannot be had, or the cache cannot be written.
    """
    maker = example_maker(recipe, tokenizer, base_folder)
    contract = Contract(
        chat=maker.chat,
        loss_on=recipe.template.loss_on,
        tokenizer=tokenizer,
        vocabulary=len(tokenizer) if vocabulary is None else vocabulary,
    )
    key = preparation_key(recipe, source, maker, contract.vocabulary)
    target = cache_folder / "prepared" / key
    cached = read_prepared(target, announce)
    if cached is not None:
        return cached

    def build(folder: Path) -> PreparedData:
        rows = load_rows(source, maker.row_format.columns)
        digests = row_digests(rows, maker)
        preparation = _Preparation(
            recipe=recipe,
            maker=maker,
            check=ContractCheck(contract),
            folder=folder,
            splits=assign_partitions(recipe.dataset.partition, digests, seed=recipe.seed),
            ids=example_ids(digests),
        )
        preparation.write_all(rows, on_progress)
        return preparation.record(key, source)

    return store_prepared(target, build)


def preparation_key(
    recipe: Recipe, source: SourceRecord, maker: ExampleMaker, vocabulary: int
) -> str:
    """Digest of everything that prepared data depends on."""
    partition = recipe.dataset.partition
    return digest_of_json(
        {
            "data": source.digest,
            "columns": recipe.dataset.columns.model_dump(mode="json"),
            "partition": partition.model_dump(mode="json"),
            "seed": recipe.seed if partition.by == "random" else None,
            "template": maker.template_digest,
            "tokenizer": tokenizer_digest(maker.tokenizer),
            "vocabulary": vocabulary,
            "code": code_digest(PREPARING),
            "versions": {name: version(name) for name in ("tokenizers", "transformers", "jinja2")},
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
    form = row_format(dataset.format, dataset.columns, recipe.template)
    chat = probe_chat_template(data.chat_template, tokenizer)
    try:
        prompt = render_question(tokenizer, chat, form.question(text))
    except RowError as error:
        raise DataError(f"evaluation.samples: {text!r}: {error}") from None
    ids: list[int] = encode(tokenizer, [prompt])["input_ids"][0]
    return ids


def row_batches(
    rows: datasets.Dataset, size: int = BATCH
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Rows as dictionaries, ``size`` at a time, each batch with the number of its first row."""
    start = 0
    for table in rows.with_format("arrow").iter(batch_size=size):
        batch: list[dict[str, Any]] = table.to_pylist()
        yield start, batch
        start += len(batch)


def row_digests(rows: datasets.Dataset, maker: ExampleMaker) -> list[str]:
    """SHA-256 of what each row says, by the part that each value plays, whatever its column."""
    content = maker.row_format.content
    return [digest_of_json(content(row)) for _, batch in row_batches(rows) for row in batch]


def example_ids(digests: Sequence[str]) -> list[str]:
    """A stable id for each row: from its content, with a count where equal rows came before."""
    seen: dict[str, int] = {}
    ids = []
    for digest in digests:
        count = seen.get(digest, 0)
        seen[digest] = count + 1
        ids.append(f"{digest[:16]}-{count}" if count else digest[:16])
    return ids


@dataclass(slots=True)
class _Preparation:
    """One pass over the rows, in their order, that writes partitions into ``folder``."""

    recipe: Recipe
    maker: ExampleMaker
    check: ContractCheck
    folder: Path
    splits: Sequence[Split]
    ids: Sequence[str]
    writers: dict[Split, PartitionWriter] = field(default_factory=dict)
    dropped: list[DroppedRow] = field(default_factory=list)
    truncated: list[TruncatedRow] = field(default_factory=list)
    shortest_dropped: dict[Split, int] = field(default_factory=dict)
    example: tuple[ShownToken, ...] = ()

    def write_all(self, rows: datasets.Dataset, on_progress: OnProgress | None) -> None:
        """Make, check and write the examples of every row.

        Raises:
            DataError: a row cannot be rendered, or breaks the label contract.
        """
        try:
            for start, batch in row_batches(rows):
                made = self.maker.make(range(start, start + len(batch)), batch)
                self.check.check(made.labelled)
                self._note_lengths(made)
                self._write(made.labelled, start, batch)
                if on_progress is not None:
                    on_progress(start + len(batch), len(rows))
        finally:
            for writer in self.writers.values():
                writer.close()
        self.maker.faults.raise_if_any("rows that cannot be rendered as the recipe says:")
        self.check.raise_violations()
        self._check_lengths()

    def _note_lengths(self, made: MadeExamples) -> None:
        verb = "truncated" if self.recipe.template.too_long == "truncate" else "too long"
        for row, tokens in made.too_long:
            split = self.splits[row]
            reason = f"{verb}: {tokens} tokens"
            reason += ", cut without a stop token" if verb == "truncated" else ""
            self.dropped.append(DroppedRow(row=row, partition=split, reason=reason))
            shortest = self.shortest_dropped.get(split, tokens)
            self.shortest_dropped[split] = min(shortest, tokens)
        for row, tokens in made.truncated:
            self.truncated.append(TruncatedRow(row=row, partition=self.splits[row], tokens=tokens))

    def _write(self, made: LabelledRows, start: int, batch: Sequence[dict[str, Any]]) -> None:
        if not len(made.rows) or self.maker.faults.counts:
            return
        column = self.recipe.dataset.columns.tests
        places = made.rows.tolist()
        tests = [batch[row - start][column] if column else "" for row in places]
        table = partition_table(made, [self.ids[row] for row in places], tests)
        splits = np.array([self.splits[row] for row in places])
        for split in SPLITS:
            chosen = np.flatnonzero(splits == split)
            if len(chosen):
                self._writer(split).write(table.take(chosen))
        first = np.flatnonzero(splits == "train")
        if len(first) and not self.example:
            self.example = shown_tokens(self.maker.tokenizer, made, int(first[0]))

    def _writer(self, split: Split) -> PartitionWriter:
        if split not in self.writers:
            self.writers[split] = PartitionWriter(self.folder / f"{split}.parquet")
        return self.writers[split]

    def _check_lengths(self) -> None:
        template = self.recipe.template
        if template.too_long == "error" and self.dropped:
            rows = ", ".join(str(row.row) for row in self.dropped[:SHOWN])
            more = ", …" if len(self.dropped) > SHOWN else ""
            raise DataError(
                f"template.max_length: {len(self.dropped):,} rows are longer than "
                f"{template.max_length} tokens (rows {rows}{more}), and template.too_long is error"
            )
        for split, shortest in self.shortest_dropped.items():
            if split not in self.writers:
                raise DataError(
                    f"template.max_length: {template.max_length} tokens is less than every "
                    f"{split} row needs: the shortest has {shortest}"
                )

    def record(self, key: str, source: SourceRecord) -> PreparedData:
        """What was made."""
        edges = histogram_edges(max(writer.longest for writer in self.writers.values()))
        chat = self.maker.chat
        return PreparedData(
            folder=str(self.folder),
            key=key,
            partitions={s: self.writers[s].record(edges) for s in SPLITS if s in self.writers},
            source_rows=len(self.splits),
            dropped=tuple(self.dropped),
            truncated=tuple(self.truncated),
            checks=self.check.results(),
            notes=self.maker.notes(),
            data_digest=source.digest,
            template_digest=self.maker.template_digest,
            chat_template=chat.text,
            stop_token=chat.stop_token,
            stop_token_ids=chat.stop_token_ids,
            bos_token=chat.bos_token,
            example=self.example,
        )
