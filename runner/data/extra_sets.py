"""Sets of rows beside the recipe's dataset: with a source and, if need be, a template of their own.

They are prepared as the dataset is, every rule checked on every row, and are held out as a whole:
all of their rows are the partition ``test`` of a dataset of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.preparation import OnProgress, prepare_data
from runner.data.prepared_data import WHOLE, PreparedData
from runner.data.reading.sources import SourceRecord, resolve_source
from runner.errors import DataError, MachineError
from runner.recipe import Dataset, Leaks, Recipe, Rows, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraSet:
    """A set of rows by its name; ``template`` None is the recipe's own, or none for whole texts."""

    name: str
    rows: Rows
    template: Template | None


def extra_sets(recipe: Recipe) -> tuple[ExtraSet, ...]:
    """All sets that a recipe's evaluation has beside its dataset."""
    return tuple(
        ExtraSet(name=block.name, rows=block.data, template=block.template)
        for block in recipe.evaluation.held_out
    )


def resolve_sets(recipe: Recipe, base_folder: Path) -> dict[str, SourceRecord]:
    """Find the rows of all sets.

    Raises:
        DataError, MachineError: as ``resolve_source``; the message names the set.
    """
    found = {}
    for extra in extra_sets(recipe):
        with _told_of(extra.name):
            found[extra.name] = resolve_set(extra.rows, base_folder)
    return found


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Errors about rows name the set, and its own keys."""
    try:
        yield
    except (DataError, MachineError) as error:
        told = re.sub(r"\bdataset\.", "data.", str(error))
        raise type(error)(f"evaluation.held_out, set {name}: {told}") from None


def set_dataset(rows: Rows) -> Dataset:
    """``rows`` as a dataset of which everything is held out."""
    values = {name: getattr(rows, name) for name in Rows.model_fields}
    sources = tuple(s.model_copy(update={"partition": WHOLE}) for s in rows.sources)
    within_itself = Leaks(exact="warn", near="ignore")  # there is nothing that it could leak to
    return Dataset(**{**values, "source": sources, "leaks": within_itself})


def set_recipe(recipe: Recipe, rows: Rows, template: Template | None) -> Recipe:
    """The recipe whose dataset is ``rows``.

    Without a template, rows become text as the recipe's own do, and whole texts as they stand.
    """
    evaluation = recipe.evaluation.model_copy(update={"samples": (), "generation": ()})
    return recipe.model_copy(
        update={
            "dataset": set_dataset(rows),
            "template": template or _own_template(recipe, rows),
            "evaluation": evaluation,
        }
    )


def _own_template(recipe: Recipe, rows: Rows) -> Template:
    if rows.format != "text":
        return recipe.template
    return Template(chat="none", loss_on="all", max_length=recipe.template.max_length)


def resolve_set(rows: Rows, base_folder: Path) -> SourceRecord:
    """Find a set's rows.

    Raises:
        DataError, MachineError: as ``resolve_source``.
    """
    return resolve_source(set_dataset(rows), base_folder)


def with_sets(
    data: PreparedData,
    recipe: Recipe,
    sources: Mapping[str, SourceRecord],
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_folder: Path,
    cache_folder: Path,
    vocabulary: int | None,
    announce: Callable[[str], None],
    on_progress: OnProgress | None = None,
) -> PreparedData:
    """``data`` with all sets of the recipe, each prepared or taken from the cache.

    Args:
        data: The recipe's prepared dataset.
        recipe: The recipe.
        sources: The rows of each set, found by ``resolve_sets``.
        tokenizer: The base model's, with its padding token set.
        base_folder: Where the recipe's relative paths start.
        cache_folder: The cache shared by all runs.
        vocabulary: Rows of the base model's embedding; the tokenizer's size if None.
        announce: Told when a cached copy is damaged and made anew.
        on_progress: Told how far it is.

    Raises:
        DataError: every kind of fault of the rows and templates; the message names the set.
        MachineError: a source cannot be had, or the cache cannot be written.
    """
    sets = {}
    for extra in extra_sets(recipe):
        with _told_of(extra.name):
            sets[extra.name] = prepare_data(
                set_recipe(recipe, extra.rows, extra.template),
                sources[extra.name],
                tokenizer,
                base_folder=base_folder,
                cache_folder=cache_folder,
                vocabulary=vocabulary,
                announce=announce,
                on_progress=on_progress,
            )
    return replace(data, sets=sets)
