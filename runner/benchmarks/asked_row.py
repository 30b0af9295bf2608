"""Rows of a benchmark: what each asks, the right answer, and the choices there are."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from runner.data.evaluation_columns import EvaluationColumns
from runner.data.extra_sets import set_dataset
from runner.data.formats.conversation import Conversation
from runner.data.formats.format_detection import resolve_format
from runner.data.formats.row_formats import RowFormat, row_format
from runner.data.reading.row_column import type_name
from runner.data.reading.row_reading import Column, ReadRow, read_rows
from runner.data.reading.row_template import RowError, RowTemplate
from runner.data.reading.sources import SourceRecord
from runner.errors import DataError
from runner.recipe import Benchmark, Choices, Columns, Template

# Stands for the column of the answer where a choice takes its place: no data has such a name.
_CHOICE = "\0choice"
_TOLD = 5  # faulty rows that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow:
    """One row: a conversation that ends with the right answer.

    ``question`` is what is asked as the recipe's own rows ask: whether two rows ask the same must
    not depend on what a benchmark's prompt puts around it. ``choices`` are empty where an answer is
    generated; else ``gold`` is the place of the right one. ``columns`` are the texts of the columns
    that evaluation alone reads, by their role.
    """

    conversation: Conversation
    question: str
    columns: Mapping[str, str]
    choices: tuple[str, ...] = ()
    gold: int = 0

    @property
    def answer(self) -> str:
        """The right answer."""
        return str(self.conversation.messages[-1].get("content") or "")

    def answered(self, text: str) -> Conversation:
        """The same question with another answer."""
        messages = self.conversation.messages[:-1]
        return replace(
            self.conversation, messages=(*messages, {"role": "assistant", "content": text})
        )


def read_asked_rows(
    block: Benchmark, source: SourceRecord, *, asking: str | None, whole: bool = False
) -> tuple[AskedRow, ...]:
    """Rows of ``source`` as the benchmark asks them.

    Args:
        block: The benchmark.
        source: Its rows, or those that may be shown.
        whole: Whether all rows are read, whatever the benchmark skips.
        asking: The recipe's own ``template.user``.

    Raises:
        DataError: rows are malformed, are no conversations, or have no right choice; the message
            names the first few.
        MachineError: a file cannot be read.
    """
    name = _format_name(block, source)
    form = row_format(name, _named_columns(block), template_of(block))
    bare = _bare_format(block, name, form, asking)
    columns = _columns(block, form)
    faults: list[str] = []
    rows: list[AskedRow] = []
    first = 0 if whole else block.skip
    after = None if whole or block.limit is None else first + block.limit
    read = enumerate(read_rows(source, columns))
    for number, row in islice(read, first, after):
        try:
            asked = _asked_row(block, form, row)
            if bare is not None:
                question = bare.conversation({**row.values, _CHOICE: asked.answer}).question
                asked = replace(asked, question=question)
            rows.append(asked)
        except RowError as error:
            faults.append(f"row {number} ({row.place}): {error}")
    if faults:
        more = f" and {len(faults) - _TOLD:,} more" if len(faults) > _TOLD else ""
        raise DataError(
            f"dataset: {len(faults):,} rows cannot be asked: {'; '.join(faults[:_TOLD])}{more}"
        )
    if not rows:
        raise DataError(f"skip is {block.skip:,}, and there are no more rows than that")
    return tuple(rows)


def template_of(block: Benchmark) -> Template:
    """The row templates of a benchmark."""
    return Template(system=block.system, user=block.prompt, assistant=block.answer)


def _format_name(block: Benchmark, source: SourceRecord) -> str:
    if block.choices is not None:
        return block.dataset.format or "alpaca"
    name, _ = resolve_format(set_dataset(block.dataset), source)
    if name == "text":
        raise DataError("dataset.format: the rows are whole texts, which ask nothing. Name another")
    return name


def _named_columns(block: Benchmark) -> Columns:
    if block.choices is None:
        return block.dataset.columns
    return block.dataset.columns.model_copy(update={"output": _CHOICE, "completion": _CHOICE})


def _bare_format(
    block: Benchmark, name: str, form: RowFormat, asking: str | None
) -> RowFormat | None:
    """The format that asks as the recipe does; None where the benchmark's own can only be taken."""
    columns = _named_columns(block)
    read = {column.name for column in form.columns}
    if name != "alpaca" or block.prompt is None or columns.instruction not in read:
        return None
    if columns.input not in read:
        columns = columns.model_copy(update={"input": None})
    names = RowTemplate("template.user", asking).names if asking is not None else set()
    there = {"instruction"} | ({"input"} if columns.input is not None else set())
    return row_format(name, columns, Template(user=asking if names <= there else None))


def _columns(block: Benchmark, form: RowFormat) -> tuple[Column, ...]:
    columns = {column.name: column for column in form.columns if column.name != _CHOICE}
    named = block.dataset.columns
    if block.choices is not None:
        for name in columns.keys() - {named.instruction, named.input, named.prompt}:
            columns[name] = Column(name=name, kind="json")  # a prompt may list a list of choices
    for column in EvaluationColumns.of(set_dataset(block.dataset)).read():
        columns.setdefault(column.name, column)
    for name in _choice_columns(block.choices):
        columns[name] = Column(name=name, kind="json")
    return tuple(columns.values())


def _choice_columns(choices: Choices | None) -> Iterator[str]:
    if choices is not None:
        yield choices.gold
        yield from choices.columns or ()
        if choices.column is not None:
            yield choices.column


def _asked_row(block: Benchmark, form: RowFormat, row: ReadRow) -> AskedRow:
    texts = EvaluationColumns.of(set_dataset(block.dataset)).texts([row.values])
    columns = {role: values[0] for role, values in texts.items()}
    choices: tuple[str, ...] = ()
    gold = 0
    values = row.values
    if block.choices is not None:
        choices = _choices(block.choices, values)
        gold = _gold(block.choices, values[block.choices.gold], choices)
        values = {**values, _CHOICE: choices[gold]}
    conversation = form.conversation(values)
    return AskedRow(
        conversation=conversation,
        question=conversation.question,
        columns=columns,
        choices=choices,
        gold=gold,
    )


def _choices(block: Choices, row: Mapping[str, Any]) -> tuple[str, ...]:
    if block.texts is not None:
        return block.texts
    given = [row[name] for name in block.columns] if block.columns else row[block.column or ""]
    if not isinstance(given, list):
        raise RowError(f"column {block.column!r} holds {type_name(given)}, not a list of choices")
    for place, choice in enumerate(given):
        if not isinstance(choice, str) or not choice:
            what = "an empty text" if choice == "" else f"{type_name(choice)}, not a text"
            raise RowError(f"choice {place} is {what}")
    if len(given) < 2:  # noqa: PLR2004 - of one there is nothing to choose
        raise RowError(f"has {len(given)} choices; there must be two at least")
    return tuple(given)


def _gold(block: Choices, value: Any, choices: Sequence[str]) -> int:  # noqa: ANN401 - any JSON value
    """The place of the right choice.

    Raises:
        RowError: the column names none.
    """
    place = _PLACES[block.gold_is](value, block, choices)
    if place is None or not 0 <= place < len(choices):
        raise RowError(
            f"column {block.gold!r} holds {value!r}, which is no {block.gold_is} of one of its "
            f"{len(choices)} choices"
        )
    return place


def _by_index(value: object, block: Choices, choices: Sequence[str]) -> int | None:
    del choices
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    return value - block.first_index if isinstance(value, int) else None


def _by_letter(value: object, block: Choices, choices: Sequence[str]) -> int | None:
    del block, choices
    letter = value.strip().upper() if isinstance(value, str) else ""
    return string.ascii_uppercase.index(letter) if letter in [*string.ascii_uppercase] else None


def _by_text(value: object, block: Choices, choices: Sequence[str]) -> int | None:
    del block
    return choices.index(value) if isinstance(value, str) and value in choices else None


_PLACES = {"index": _by_index, "letter": _by_letter, "text": _by_text}
