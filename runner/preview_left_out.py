"""Why a source row is no example, where the lists of prepared data do not tell."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.labels.example_maker import ExampleMaker, MadeExamples, example_maker
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.reading.row_reading import ReadRow, read_rows
from runner.data.reading.sources import SourceRecord
from runner.data.rule_outcomes import TOO_LONG, policies_of, row_text
from runner.preview_listings import ListedProblem
from runner.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEPT_BY_ITSELF = (
    "keeps every rule: it is left out of train because a held-out row says the same, or because "
    "its source has a weight below 1"
)


def unlisted_problems(
    recipe: Recipe,
    source: SourceRecord,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_folder: Path,
    format_name: str,
    vocabulary: int,
    row: int,
) -> tuple[ListedProblem, ...]:
    """Read one source row again and say what keeps it from being an example.

    Raises:
        DataError: the source cannot be read so far.
    """
    maker = example_maker(recipe, tokenizer, base_folder, format_name=format_name)
    read = next(islice(read_rows(source, maker.row_format.columns), row, None))
    found = _found(maker, recipe, vocabulary, row, read) or [("", KEPT_BY_ITSELF)]
    return tuple(
        ListedProblem(
            row=row,
            place=read.place,
            partition="",
            rule=rule,
            outcome="dropped",
            detail=detail,
            tokens=0,
            text=row_text(read.values),
        )
        for rule, detail in found
    )


def _found(
    maker: ExampleMaker, recipe: Recipe, vocabulary: int, row: int, read: ReadRow
) -> list[tuple[str, str]]:
    """Rules that the row breaks and is left out for, with the details."""
    made = maker.make([row], [read.values])
    policies = policies_of(recipe)
    broken = [
        *((broken.rule, broken.detail) for broken in made.broken),
        *((TOO_LONG, f"{tokens:,} tokens") for _, tokens in made.too_long),
        *((rule, "") for rule in _broken_labels(maker, recipe, vocabulary, made)),
    ]
    return [(r, told) for r, told in broken if r == TOO_LONG or policies.drops(r)]


def _broken_labels(
    maker: ExampleMaker, recipe: Recipe, vocabulary: int, made: MadeExamples
) -> list[str]:
    contract = Contract(
        chat=maker.chat,
        loss_on=recipe.template.loss_on,
        tokenizer=maker.tokenizer,
        vocabulary=vocabulary,
    )
    return [rule for rule, rows in ContractCheck(contract).check(made.labelled).items() if rows]
