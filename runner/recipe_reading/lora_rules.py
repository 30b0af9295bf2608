"""Rules across the keys of the block ``lora``, and between it and others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView

_PATTERNS = ("rank_pattern", "alpha_pattern")


def dropout_leaves_something(recipe: RecipeView) -> Iterator[Finding]:
    """Some of the adapter's inputs are left."""
    if recipe.value("lora", "dropout") == 1:
        message = "1 zeroes every input of the adapter, and nothing is learned. Use less than 1."
        yield Finding(path=("lora", "dropout"), message=message)


def targets_can_match(recipe: RecipeView) -> Iterator[Finding]:
    """A text under target_modules is all-linear or a regular expression over whole paths."""
    targets = recipe.value("lora", "target_modules")
    if isinstance(targets, list) or targets == "all-linear":
        return
    message = _about_expression(targets, ["all-linear"])
    if message:
        yield Finding(path=("lora", "target_modules"), message=message)


def exclusions_can_match(recipe: RecipeView) -> Iterator[Finding]:
    """A text under exclude_modules is a regular expression; a list excludes not all names."""
    excluded = recipe.value("lora", "exclude_modules")
    path = ("lora", "exclude_modules")
    if isinstance(excluded, str):
        message = _about_expression(excluded, [])
        if message:
            yield Finding(path=path, message=message)
        return
    targets = recipe.value("lora", "target_modules")
    for at, name in enumerate(excluded):
        if isinstance(targets, list) and name in targets:
            message = sentences(
                "target_modules names this too, so it has no effect at all",
                "Remove it from both.",
            )
            yield Finding(path=(*path, at), message=message)


def patterns_are_expressions(recipe: RecipeView) -> Iterator[Finding]:
    """Keys of rank_pattern and alpha_pattern are names or regular expressions."""
    for key in _PATTERNS:
        for pattern in recipe.value("lora", key):
            fault = _expression_fault(pattern) if pattern else "this is empty"
            if fault:
                yield Finding(path=("lora", key, pattern), message=fault, at_key=True)


def module_learns_in_one_way(recipe: RecipeView) -> Iterator[Finding]:
    """A module is trained whole or by low rank, not both."""
    targets = recipe.value("lora", "target_modules")
    for at, name in enumerate(recipe.value("lora", "modules_to_save")):
        if isinstance(targets, list) and name in targets:
            message = sentences(
                "target_modules names this too, and a module is trained whole or gets an adapter",
                "Remove it from one.",
            )
            yield Finding(path=("lora", "modules_to_save", at), message=message)


def padding_is_not_learned(recipe: RecipeView) -> Iterator[Finding]:
    """The padding token stands for nothing, so nothing is learned about it."""
    pad = recipe.value("model", "pad_token")
    for at, token in enumerate(recipe.value("lora", "trained_tokens")):
        if token == pad:
            message = sentences(
                "this is model.pad_token, of which nothing is learned",
                "Remove it here, or name another padding token.",
            )
            yield Finding(path=("lora", "trained_tokens", at), message=message)


def special_tokens_are_trained(recipe: RecipeView) -> Iterator[Finding]:
    """A special token that is added is trained too."""
    trained = recipe.value("lora", "trained_tokens")
    for at, token in enumerate(recipe.value("lora", "special_tokens")):
        if token not in trained:
            message = sentences(
                "this is none of trained_tokens, and nothing would be learned of it",
                did_you_mean(token, trained) or "Add it there too.",
            )
            yield Finding(path=("lora", "special_tokens", at), message=message)


def _about_expression(text: str, known: list[str]) -> str | None:
    near = did_you_mean(text, known)
    if near:
        return sentences(f"unknown name {text!r}", near)
    if re.fullmatch(r"[\w\s,]+", text):
        names = ", ".join(re.split(r"[\s,]+", text.strip(" ,")))
        what = "a text is a regular expression for a module's whole path, and this matches none"
        return sentences(what, f"Write a list of names: [{names}].")
    return _expression_fault(text)


def _expression_fault(text: str) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # "possible nested set" is no fault
            re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"this is not a regular expression: {error}"
    return None


LORA_RULES = (
    dropout_leaves_something,
    targets_can_match,
    exclusions_can_match,
    patterns_are_expressions,
    module_learns_in_one_way,
    padding_is_not_learned,
    special_tokens_are_trained,
)
