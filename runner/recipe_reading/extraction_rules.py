"""Rules across keys about which part of an answer is scored."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.metric_rules import TASKS
from runner.recipe_reading.recipe_view import RecipeView

# Presets that find several parts, of which ``take`` chooses.
_SEVERAL = ("code_block", "json")


def extraction_finds_something(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """An extraction says one thing that can be found."""
    path = (*TASKS, index, "extract")
    if recipe.value(*path) is None:
        return
    yield from _about(recipe, path)
    if recipe.value(*path).get("reference") is not None:
        yield from _about(recipe, (*path, "reference"))


def _about(recipe: RecipeView, path: KeyPath) -> Iterator[Finding]:
    block = recipe.value(*path)
    preset, regex, after = (block.get(key) for key in ("preset", "regex", "after"))
    if preset is None and regex is None and after is None:
        message = "this extracts nothing. Give preset, regex or after."
        yield Finding(path=path, message=message, at_key=True)
        return
    if preset is not None and regex is not None:
        message = "preset is given too, and only one of the two can be meant. Remove one."
        yield Finding(path=(*path, "regex"), message=message, at_key=True)
        return
    if block.get("group") is not None and regex is None:
        message = "this has no effect without regex. Remove it."
        yield Finding(path=(*path, "group"), message=message, at_key=True)
    chooses = regex is not None or after is not None or preset in _SEVERAL
    if recipe.gives(*path, "take") and not chooses:
        message = f"this has no effect: {preset} finds one part. Remove it."
        yield Finding(path=(*path, "take"), message=message, at_key=True)
    if regex is not None and (problem := _problem(regex, block.get("group"))):
        key, message = problem
        yield Finding(path=(*path, key), message=message)


def _problem(regex: str, group: int | None) -> tuple[str, str] | None:
    """What is wrong with an expression, or with the group that is chosen of it; and which."""
    try:
        with warnings.catch_warnings(action="ignore"):  # "possible nested set" is no fault
            groups = re.compile(regex).groups
    except (re.error, RecursionError, OverflowError) as error:
        return "regex", f"this is not a regular expression of Python: {error}"
    if group is not None and group > groups:
        has = f"the regular expression has {groups} group{'' if groups == 1 else 's'}"
        return "group", sentences(f"there is no group {group}: {has}", "Groups count from 1.")
    return None
