"""The quickstart's own data: programs of our generator, trusted to be run with limits alone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from evalsuite.catalogue import EXECUTING_METRICS
from runner.digests import file_digest

if TYPE_CHECKING:
    from runner.recipe import CodeExecutionBlock, Recipe

DATA_FILE = "quickstart/functions.jsonl"


def is_quickstart_data(source: object, folder: Path | None) -> bool:
    """Whether ``dataset.source`` is that file and nothing else: its name, and byte for byte.

    Args:
        source: As the recipe has it: a path, or a list.
        folder: Where the recipe's relative paths start. None for a copy that is stored with a run,
            whose data are elsewhere: then the name decides, and nothing is run by such a copy.
    """
    given = source[0] if isinstance(source, list | tuple) and len(source) == 1 else source
    if not isinstance(given, str) or PurePath(given).name != PurePath(DATA_FILE).name:
        return False
    if folder is None:
        return True
    path = folder / given
    try:
        size = path.stat().st_size
    except (OSError, ValueError):  # a URL, a name with a NUL
        return False
    return path.is_file() and (size, file_digest(path)) == _identity()


@cache
def _identity() -> tuple[int, str]:
    path = Path(str(files("recipes").joinpath(DATA_FILE)))
    return path.stat().st_size, file_digest(path)


def code_execution_block(recipe: Recipe, folder: Path) -> CodeExecutionBlock | None:
    """Where answers' code is run: as the recipe says, or limits alone for the quickstart's data."""
    given = recipe.evaluation.code_execution
    if given is not None or not is_quickstart_data(recipe.dataset.source, folder):
        return given
    from runner.recipe import CodeExecutionBlock

    metrics = (metric for task in recipe.evaluation.generation for metric in task.metrics)
    runs_code = any(getattr(m, "name", m) in EXECUTING_METRICS for m in metrics)
    return CodeExecutionBlock(backend="subprocess") if runs_code else None
