"""Rules across keys about running answers' code: it is run nowhere unless a recipe says where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalsuite.catalogue import EXECUTING_METRICS, SANDBOXES
from runner.quickstart_data import is_quickstart_data
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.recipe_view import RecipeView

CODE = ("evaluation", "code_execution")
_TASKS, _BENCHMARKS = ("evaluation", "generation"), ("evaluation", "benchmarks")
_CONTAINERS = ("podman", "docker")


def code_has_a_backend(recipe: RecipeView, folder: Path | None) -> Iterator[Finding]:
    """A metric that runs answers has a backend to run them in.

    ``folder`` is where the recipe's paths start; None for a stored copy of a recipe.
    """
    if recipe.value(*CODE) is not None:
        return
    trusted = is_quickstart_data(recipe.value("dataset", "source"), folder)
    for path, metric in _executing(recipe):
        if trusted and path[: len(_TASKS)] == _TASKS:
            continue
        safe = [name for name in SANDBOXES if name != "subprocess"]
        message = sentences(
            f"{metric} runs code that a model wrote, and the recipe does not say where",
            "Add for example evaluation.code_execution: {backend: bubblewrap}.",
            f"There are {', '.join(safe)}, and subprocess, which is unsafe.",
        )
        yield Finding(path=path, message=message)


def _executing(recipe: RecipeView) -> Iterator[tuple[KeyPath, str]]:
    """Where metrics are that run code, with their names."""
    for block in (_TASKS, _BENCHMARKS):
        for index in recipe.indices(*block):
            path = (*block, index, "metrics")
            if not (recipe.is_clear(*path) and _has_metrics(recipe, path)):
                continue
            for at, metric in enumerate(recipe.value(*path)):
                name = metric.get("name") if isinstance(metric, dict) else metric
                if name in EXECUTING_METRICS:
                    yield (*path, at), name


def _has_metrics(recipe: RecipeView, path: KeyPath) -> bool:
    """A benchmark may be the path of its file, or multiple choice, and have none."""
    value: Any = recipe.document.value
    for step in path[:-1]:
        value = value[step]
    return isinstance(value, dict) and path[-1] in value


def limits_can_be_held(recipe: RecipeView) -> Iterator[Finding]:
    """What the block asks for, its backend can do."""
    if recipe.value(*CODE) is None:
        return
    backend = recipe.value(*CODE, "backend")
    if backend not in _CONTAINERS and recipe.value(*CODE, "image") is not None:
        message = f"{backend} has no image: podman and docker do. Remove this."
        yield Finding(path=(*CODE, "image"), message=message, at_key=True)
    if backend == "subprocess" and recipe.value(*CODE, "processes"):
        message = sentences(
            "subprocess cannot limit new processes to a number, only to none",
            "Use 0, or backend: bubblewrap.",
        )
        yield Finding(path=(*CODE, "processes"), message=message)
    if backend == "subprocess" and recipe.gives(*CODE, "disk_mb"):
        message = "subprocess cannot limit all files together. Remove this."
        yield Finding(path=(*CODE, "disk_mb"), message=message, at_key=True)
