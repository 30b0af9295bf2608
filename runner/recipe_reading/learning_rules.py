"""Rules across keys about learning: model, training; quantization and LoRA have their own."""

from __future__ import annotations

from collections.abc import Iterator

from runner.recipe_reading.dataset_rules import is_local, sources_of, why_no_rows
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.lora_rules import LORA_RULES
from runner.recipe_reading.quantization_rules import QUANTIZATION_RULES
from runner.recipe_reading.recipe_view import RecipeView

# Model


def folder_has_no_revision(recipe: RecipeView) -> Iterator[Finding]:
    """A revision is named for a Hub model alone."""
    base = recipe.value("model", "base")
    if is_local(base) and recipe.value("model", "revision") is not None:
        message = "this has no effect: only Hub models have revisions. Remove it."
        yield Finding(path=("model", "revision"), message=message, at_key=True)


# Training


def length_is_given_once(recipe: RecipeView) -> Iterator[Finding]:
    """Training ends after max_steps or after epochs."""
    steps, epochs = recipe.value("training", "max_steps"), recipe.value("training", "epochs")
    if steps is None and epochs is None:
        message = "neither max_steps nor epochs is given. Add one, for example max_steps: 300"
        yield Finding(path=("training",), message=message, at_key=True)
    elif steps is not None and epochs is not None:
        message = (
            "max_steps is given too, and only one of the two can end the training. Remove one."
        )
        yield Finding(path=("training", "epochs"), message=message, at_key=True)


def validation_has_rows(recipe: RecipeView) -> Iterator[Finding]:
    """Validation during training has a partition to validate on."""
    every = recipe.value("training", "validate_every")
    if every is not None and (reason := why_no_rows(recipe, "validation")):
        message = sentences(
            f"there is nothing to validate on: {reason[0]}", f"{reason[1]}, or remove this."
        )
        yield Finding(path=("training", "validate_every"), message=message, at_key=True)


def validation_is_not_test(recipe: RecipeView) -> Iterator[Finding]:
    """Rows that settings are chosen by cannot also be those that gates judge by."""
    seen: dict[tuple[object, ...], str] = {}
    for source in sources_of(recipe):
        partition = source.get("partition")
        rows = (source.name, *(source.get(key) for key in ("split", "filter", "limit")))
        if partition not in ("validation", "test"):
            continue
        if seen.setdefault(rows, partition) != partition:
            message = sentences(
                f"{source.name} is both validation and test: what is chosen by validation would "
                "be judged by the same rows",
                "Give validation rows of its own.",
            )
            yield Finding(path=(*source.path, "partition"), message=message)


LEARNING_RULES = (
    folder_has_no_revision,
    *QUANTIZATION_RULES,
    *LORA_RULES,
    length_is_given_once,
    validation_has_rows,
    validation_is_not_test,
)
