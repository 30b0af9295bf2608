"""Whether the files are there that metrics name, and hold what they should."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from evalsuite.catalogue import HUB
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.json_schema_problem import schema_problem
from runner.recipe_reading.metric_rules import TASKS, MetricEntry, is_local_place, metrics_at
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView


def metric_files_are_there(recipe: RecipeView, index: int, folder: Path) -> Iterator[Finding]:
    """Schemas, metrics of one's own and local metrics of the evaluate library can be read.

    ``folder`` is where the recipe's paths start. No file is run.
    """
    for entry in metrics_at(recipe, (*TASKS, index)):
        for path, message in _problems(entry, folder):
            at = path if recipe.gives(*path) else entry.path
            yield Finding(path=at, message=message)


def _problems(entry: MetricEntry, folder: Path) -> Iterator[tuple[KeyPath, str]]:
    schema = entry.given.get("schema")
    if entry.file is not None:
        problem, key = _file_problem(entry.file, folder), "file"
    elif entry.name == "json_schema" and isinstance(schema, str):
        problem, key = _schema_file_problem(folder / schema), "schema"
    elif entry.is_hub and is_local_place(place := str(entry.name).removeprefix(HUB)):
        there = (folder / place).exists()
        problem, key = None if there else _missing(folder / place), "name"
    else:
        return
    if problem is not None:
        yield (*entry.path, key), problem


def _missing(path: Path) -> str:
    return f"there is no such file (looked for {path})"


def _file_problem(given: str, folder: Path) -> str | None:
    file, _, name = given.rpartition(":")
    path = folder / file
    if not path.is_file():
        return _missing(path)
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        return f"{file} is not Python: {error}"
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if name in classes:
        return None
    has = f"It has {', '.join(classes)}." if classes else "It has no class."
    return sentences(f"{file} has no class {name}", did_you_mean(name, classes) or has)


def _schema_file_problem(path: Path) -> str | None:
    if not path.is_file():
        return _missing(path)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path.name} is not JSON: {error}"
    if not isinstance(schema, dict):
        return f"{path.name} is no JSON Schema: that is an object, {{…}}"
    problem = schema_problem(schema)
    if problem is None:
        return None
    where = "".join(f"/{step}" for step in problem[0])
    return f"{path.name}{where and f' at {where}'}: {problem[1]}"
