"""Rendered examples for people: which tokens are supervised, which are special, how long they are.

Row text is data and may be hostile: it is never read as markup, and control characters that a
terminal would obey are spelt out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from runner.data.example_maker import ExampleMaker, example_maker
from runner.data.label_contract import Contract, ContractCheck
from runner.data.partition import Split, assign_partitions
from runner.data.preparation import row_digests
from runner.data.prepared_data import ShownToken
from runner.data.row_faults import RowFaults
from runner.data.sources import SourceRecord, load_rows
from runner.data.tokenization import shown_tokens
from runner.errors import UsageError
from runner.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Controls that a terminal obeys, and those that turn the direction of text or break a line.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
SUPERVISED, UNSUPERVISED, SPECIAL = "bold green", "dim", "reverse"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewExample:
    """A row as it is trained or evaluated on.

    ``faults`` tell what is wrong with it; ``remarks``, that it is dropped or cut for its length.
    """

    row: int
    partition: Split
    tokens: tuple[ShownToken, ...]
    prompt_tokens: int
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Examples of a dataset, with how many rows each partition has before any is dropped."""

    examples: tuple[PreviewExample, ...]
    partition_rows: dict[Split, int]
    stop_token: str
    special_tokens: re.Pattern[str]
    notes: tuple[str, ...]


def make_preview(
    recipe: Recipe,
    source: SourceRecord,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_folder: Path,
    rows: int,
    partition: Split,
    row: int | None,
) -> Preview:
    """The first ``rows`` examples of a partition, or that of one source row.

    Raises:
        DataError: the source or a template cannot be used at all.
        UsageError: there is no such row, or the partition has none.
    """
    maker = example_maker(recipe, tokenizer, base_folder)
    dataset = load_rows(source, maker.row_format.columns)
    splits = assign_partitions(
        recipe.dataset.partition, row_digests(dataset, maker), seed=recipe.seed
    )
    contract = Contract(
        chat=maker.chat,
        loss_on=recipe.template.loss_on,
        tokenizer=tokenizer,
        vocabulary=len(tokenizer),
    )
    numbers = _chosen_rows(splits, rows, partition, row)
    arrow = dataset.with_format("arrow")
    examples = [
        _example(maker, contract, n, arrow[n : n + 1].to_pylist()[0], splits[n]) for n in numbers
    ]
    return Preview(
        examples=tuple(examples),
        partition_rows={split: splits.count(split) for split in dict.fromkeys(splits)},
        stop_token=maker.chat.stop_token,
        special_tokens=maker.chat.special_pattern,
        notes=maker.notes(),
    )


def _chosen_rows(
    splits: Sequence[Split], rows: int, partition: Split, row: int | None
) -> list[int]:
    if row is None:
        chosen = [number for number, split in enumerate(splits) if split == partition]
        if not chosen:
            made = ", ".join(dict.fromkeys(splits))
            raise UsageError(f"--partition {partition}: this recipe makes no such rows, but {made}")
        return chosen[:rows]
    if row >= len(splits):
        raise UsageError(
            f"--row {row}: the source has {len(splits):,} rows, numbered 0 to {len(splits) - 1}"
        )
    return [row]


def _example(
    maker: ExampleMaker, contract: Contract, number: int, row: dict[str, Any], split: Split
) -> PreviewExample:
    maker.faults = RowFaults()
    made = maker.make([number], [row])
    faults = [*maker.faults.counts, *ContractCheck(contract).check(made.labelled)]
    limit = maker.template.max_length
    remarks = [f"left out: {tokens} tokens, more than {limit}" for _, tokens in made.too_long]
    remarks += [f"cut from {tokens} tokens" for _, tokens in made.truncated]
    there = len(made.labelled.rows) > 0
    return PreviewExample(
        row=number,
        partition=split,
        tokens=shown_tokens(maker.tokenizer, made.labelled, 0) if there else (),
        prompt_tokens=len(made.labelled.prompt_ids.values),
        faults=tuple(faults),
        remarks=tuple(remarks),
    )


def inert(text: str) -> str:
    """``text`` without characters that a terminal would obey: those are spelt out."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def print_preview(preview: Preview, console: Console) -> None:
    """Print the examples: in colour on a terminal, with brackets elsewhere."""
    colour = console.is_terminal and console.color_system is not None and not console.no_color
    ascii_only = console.options.ascii_only
    for example in preview.examples:
        for part in (_heading(example), *_body(example, preview, colour, ascii_only), Text()):
            console.print(_encodable(part, ascii_only), soft_wrap=True, highlight=False)
    for line in _summary(preview, colour, ascii_only):
        console.print(_encodable(Text(line), ascii_only), soft_wrap=True, highlight=False)


def _heading(example: PreviewExample) -> Text:
    line = f"row {example.row} ({example.partition})"
    if example.tokens:
        supervised = sum(token.supervised for token in example.tokens)
        line += (
            f": {len(example.tokens)} tokens, {example.prompt_tokens} of them the prompt, "
            f"{supervised} supervised"
        )
    return Text(line, style="bold")


def _body(example: PreviewExample, preview: Preview, colour: bool, ascii_only: bool) -> list[Text]:
    parts = [Text(f"! {inert(fault)}", style="bold red") for fault in example.faults]
    parts += [Text(f"! {remark}", style="yellow") for remark in example.remarks]
    if example.tokens:
        parts.append(_coloured(example, preview) if colour else _bracketed(example, ascii_only))
    return parts


def _coloured(example: PreviewExample, preview: Preview) -> Text:
    def style(token: ShownToken) -> str:
        special = f" {SPECIAL}" if preview.special_tokens.fullmatch(token.text) else ""
        return (SUPERVISED if token.supervised else UNSUPERVISED) + special

    text = Text()
    for shown, tokens in groupby(example.tokens, key=style):
        text.append(inert("".join(token.text for token in tokens)), style=shown)
    return text


def _bracketed(example: PreviewExample, ascii_only: bool) -> Text:
    opening, closing = _brackets(ascii_only)
    pieces, inside = [], False
    for token in example.tokens:
        if token.supervised != inside:
            pieces.append(opening if token.supervised else closing)
            inside = token.supervised
        pieces.append(inert(token.text))
    return Text("".join(pieces) + (closing if inside else ""))


def _brackets(ascii_only: bool) -> tuple[str, str]:
    return ("[[", "]]") if ascii_only else ("⟦", "⟧")


def _encodable(text: Text, ascii_only: bool) -> Text:
    if ascii_only and not text.plain.isascii():
        return Text(text.plain.encode("ascii", "backslashreplace").decode("ascii"))
    return text


def _summary(preview: Preview, colour: bool, ascii_only: bool) -> list[str]:
    opening, closing = _brackets(ascii_only)
    how = "green" if colour else f"between {opening} and {closing}"
    counts = ", ".join(f"{count:,} {split}" for split, count in preview.partition_rows.items())
    return [
        f"Supervised tokens are {how}; an answer ends with {preview.stop_token}",
        f"Rows before too long ones are dropped: {counts}",
        *(f"Note: {inert(note)}" for note in preview.notes),
    ]
