"""``proofbox preview``: what the data becomes, rule by rule and row by row, before any training."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.partition import Split
from runner.errors import ExitCode, UsageError
from runner.progress import Progress
from runner.recipe_reading.recipe_file import find_recipe, read_recipe

if TYPE_CHECKING:
    from reports.preview_rows import PreviewRow
    from runner.data.reading.sources import SourceRecord
    from runner.preview import Shown
    from runner.preview_listings import ListedProblem
    from runner.preview_rows import PreviewRow as ShownRow
    from runner.recipe import Recipe

TERMINAL_ROWS = 3


def preview(
    recipe: str,
    *,
    rows: int | None,
    partition: Split,
    row: int | None,
    violations: bool,
    html: Path | None,
) -> ExitCode:
    """Prepare the data of a recipe and show it; ENVIRONMENT if a rule with policy error is broken.

    Args:
        recipe: A recipe file, or the name of a shipped one.
        rows: How many examples of ``partition`` are shown, and of each partition on the page.
        partition: The partition they are from.
        row: Show this source row instead, whatever became of it.
        violations: Show rules, the rows that break them, and leaks instead.
        html: Write a page of it all there as well.

    Raises:
        ProofboxError: the recipe, its data, its templates or its tokenizer cannot be used.
    """
    from rich.console import Console

    from runner.preview import print_first, print_one
    from runner.preview_left_out import unlisted_problems
    from runner.preview_rules import print_rules
    from runner.preview_summary import print_summary
    from runner.preview_text import Screen

    if html is not None and html.is_dir():
        raise UsageError(f"--html {html}: this is a folder; name a file in it")
    path = find_recipe(recipe)
    read, source, shown = _prepare(path)
    screen = Screen(Console())
    rendered = row is None and not violations
    if rendered:
        print_first(screen, shown, partition, rows or TERMINAL_ROWS)
    if row is not None:
        explain = partial(
            unlisted_problems, read, source, shown.reader.tokenizer,
            base_folder=path.parent, format_name=shown.data.format,
            vocabulary=shown.vocabulary, row=row,
        )  # fmt: skip
        rendered = print_one(screen, shown, row, explain)
    if violations:
        print_rules(screen, shown.data, shown.problems, shown.pairs)
        screen.line()
    print_summary(screen, shown.data, recipe=recipe, rows_shown=rendered)
    if html is not None:
        _write_page(html, read, path.name, shown, rows)
        screen.named("page", str(html))
    return ExitCode.ENVIRONMENT if shown.refused else ExitCode.PASS


def _prepare(path: Path) -> tuple[Recipe, SourceRecord, Shown]:
    """The data as a run would have it, prepared or from the cache, with nothing refused."""
    from runner.base_model.loaded_model import load_tokenizer, quiet_libraries
    from runner.base_model.model_source import find_model
    from runner.cache import cache_folder
    from runner.data.preparation import prepare_data
    from runner.data.reading.sources import resolve_source
    from runner.preview import Shown
    from runner.preview_listings import read_pairs, read_problems
    from runner.preview_rows import RowReader

    recipe = read_recipe(path)
    source = resolve_source(recipe.dataset, path.parent)
    quiet_libraries()
    model = find_model(recipe.model.base, recipe.model.revision, folder=path.parent)
    progress = Progress()
    for note in source.notes:
        progress.announce(note)
    with progress.bar("preparing data") as advance:
        tokenizer = load_tokenizer(recipe, model)
        data = prepare_data(
            recipe,
            source,
            tokenizer,
            base_folder=path.parent,
            cache_folder=cache_folder(),
            vocabulary=model.vocabulary or None,
            on_progress=lambda what, done, total: advance(done, total, what),
            announce=progress.announce,
            enforce=False,
        )
    folder = Path(data.folder)
    shown = Shown(
        data=data,
        vocabulary=model.vocabulary or len(tokenizer),
        reader=RowReader(data, tokenizer),
        problems=read_problems(folder),
        pairs=read_pairs(folder),
    )
    return recipe, source, shown


def _write_page(
    target: Path, recipe: Recipe, recipe_file: str, shown: Shown, rows: int | None
) -> None:
    from reports.leak_pairs import read_pairs
    from reports.preview_page import PreviewPage, write_preview_page
    from reports.problem_rows import read_problems
    from reports.run_records import PreparedData
    from runner.preview import page_rows
    from runner.versions import installed_versions

    folder = Path(shown.data.folder)
    page = PreviewPage(
        recipe_name=recipe.name,
        recipe_file=recipe_file,
        proofbox=installed_versions().get("proofbox", "unknown"),
        max_length=recipe.template.max_length,
        data=PreparedData.model_validate_json(json.dumps(shown.data.as_json())),
        problems=read_problems(folder),
        pairs=read_pairs(folder),
        rows=tuple(map(_page_row, page_rows(shown, rows))),
    )
    write_preview_page(page, target)


def _page_row(row: ShownRow | ListedProblem) -> PreviewRow:
    from reports.preview_rows import PreviewRow
    from reports.run_records import ExampleToken
    from runner.preview_listings import ListedProblem

    if isinstance(row, ListedProblem):
        return PreviewRow(
            row=row.row, partition=row.partition, place=row.place, tokens=(), prompt_tokens=0,
            text=row.text,
        )  # fmt: skip
    tokens = tuple(
        ExampleToken.model_construct(text=t.text, supervised=t.supervised, special=t.special)
        for t in row.tokens
    )
    return PreviewRow(
        row=row.row, partition=row.partition, place="", tokens=tokens,
        prompt_tokens=row.prompt_tokens, text="",
    )  # fmt: skip
