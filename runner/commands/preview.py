"""``proofbox preview``: a few examples as they are trained on, in the terminal."""

from __future__ import annotations

from runner.data.partition import Split
from runner.errors import ExitCode
from runner.recipe_reading.recipe_file import find_recipe, read_recipe


def preview(recipe: str, *, rows: int, partition: Split, row: int | None) -> ExitCode:
    """Print rendered examples of a recipe; ENVIRONMENT if one of them breaks a rule.

    Args:
        recipe: A recipe file, or the name of a shipped one.
        rows: How many examples of ``partition`` are shown.
        partition: The partition they are from.
        row: Show the example of this source row instead, whatever its partition.

    Raises:
        ProofboxError: the recipe, its data, its templates or its tokenizer cannot be used.
    """
    from rich.console import Console

    from runner.base_model.loaded_model import load_tokenizer, quiet_libraries
    from runner.base_model.model_source import find_model
    from runner.data.sources import resolve_source
    from runner.preview import make_preview, print_preview

    path = find_recipe(recipe)
    read = read_recipe(path)
    source = resolve_source(read.dataset, path.parent)
    quiet_libraries()
    tokenizer = load_tokenizer(
        read, find_model(read.model.base, read.model.revision, folder=path.parent)
    )
    made = make_preview(
        read,
        source,
        tokenizer,
        base_folder=path.parent,
        rows=rows,
        partition=partition,
        row=row,
    )
    print_preview(made, Console())
    broken = any(example.faults for example in made.examples)
    return ExitCode.ENVIRONMENT if broken else ExitCode.PASS
