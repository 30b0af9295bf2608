"""Which format a dataset has, where the recipe does not say: by the columns of its first row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.data.formats.row_formats import check_format_name
from runner.data.reading.row_reading import first_row
from runner.data.reading.sources import SourceRecord
from runner.errors import DataError
from runner.recipe import Columns, Dataset
from runner.recipe_reading.format_columns import REQUIRED_COLUMNS

# The keys of an item, where a format's column holds a list.
_ITEM_KEYS = {"messages": ("role",), "sharegpt": ("from", "value")}


def resolve_format(dataset: Dataset, source: SourceRecord) -> tuple[str, bool]:
    """The name of a dataset's format, and whether it was detected.

    Detected is the one format whose columns the first row has, under the names that
    ``dataset.columns`` gives them; ``text`` only where no other fits, since many sets of
    conversations have a column ``text`` too.

    Raises:
        DataError: the named format is unknown; or none fits, or more than one.
        MachineError: the source cannot be read.
    """
    if dataset.format is not None:
        check_format_name(dataset.format)
        return dataset.format, False
    row = first_row(source)
    fitting = [name for name in REQUIRED_COLUMNS if _fits(name, dataset.columns, row)]
    turns = [name for name in fitting if name != "text"]
    if len(turns or fitting) == 1:
        return (turns or fitting)[0], True
    raise DataError(_undecided(turns, dataset.columns, row))


def _fits(name: str, columns: Columns, row: Mapping[str, Any]) -> bool:
    """Whether a row has a format's columns, and its lists that format's items."""
    needed = [getattr(columns, part) for part in REQUIRED_COLUMNS[name]]
    if not all(column in row for column in needed):
        return False
    items = row[needed[0]]
    if name not in _ITEM_KEYS or not isinstance(items, list) or not items:
        return True
    return isinstance(items[0], Mapping) and all(key in items[0] for key in _ITEM_KEYS[name])


def _undecided(fitting: list[str], columns: Columns, row: Mapping[str, Any]) -> str:
    found = f"the first row has the columns {', '.join(map(repr, row)) or 'none'}"
    if fitting:
        return (
            f"dataset.format: {found}, and these formats fit: {', '.join(fitting)}. Write the one "
            "that is meant, for example "
            f"format: {fitting[0]}"
        )
    needs = "; ".join(
        f"{name} needs {' and '.join(repr(getattr(columns, part)) for part in parts)}"
        for name, parts in REQUIRED_COLUMNS.items()
    )
    return (
        f"dataset.format: {found}, and no format fits: {needs}. Map names that differ with "
        "dataset.columns, or write the format."
    )
