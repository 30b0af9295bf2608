"""Rules across keys about the sets of rows under ``evaluation.held_out``."""

from __future__ import annotations

from collections.abc import Iterator

from runner.recipe_reading.block_view import BlockView
from runner.recipe_reading.dataset_rules import ROWS_RULES, sources_of
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.recipe_view import RecipeView, Unclear
from runner.recipe_reading.template_rules import TEMPLATE_RULES

SETS = ("evaluation", "held_out")
# Files of an evaluation and partitions; a task or set of such a name would be taken for one.
TAKEN_NAMES = ("loss", "train", "validation", "test")
# Of a source of a set these would have no effect: all of its rows are held out, and used once.
_WITHOUT_EFFECT = ("partition", "weight")


def set_findings(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """What the rules about rows and templates find in a set."""
    view = BlockView.at(recipe, (*SETS, index), dataset="data")
    template = TEMPLATE_RULES if "template" in view.moved else ()
    for rule in (*ROWS_RULES, *template):
        try:
            for finding in rule(view):
                yield view.placed(finding)
        except Unclear:
            continue


def sources_are_held_out(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Sources of a set have no partition and no weight."""
    view = BlockView.at(recipe, (*SETS, index), dataset="data")
    for source in sources_of(view):
        for key in _WITHOUT_EFFECT:
            if source.get(key) is not None:
                message = "this has no effect: all rows of a set are held out. Remove it."
                path = (*SETS, index, "data", *source.path[1:], key)
                yield Finding(path=path, message=message, at_key=True)


def set_name_is_free(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A set's name is its own, also where a file system ignores case."""
    path = (*SETS, index, "name")
    name = recipe.value(*path)
    if name.lower() in TAKEN_NAMES:
        taken = ", ".join(TAKEN_NAMES)
        yield Finding(path=path, message=f"{name} is taken. Use a name other than {taken}.")
    for block, others in (("generation", None), ("held_out", index)):
        for other in list(recipe.indices("evaluation", block))[:others]:
            if recipe.value("evaluation", block, other, "name").lower() == name.lower():
                message = f"{name} is also the name of {block}[{other}]. Give each its own."
                yield Finding(path=path, message=message)


def adapter_can_be_switched_off(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """The divergence from the base is measured with the adapter off: trained biases stay on."""
    bias = recipe.value("lora", "bias")
    if recipe.value(*SETS, index, "divergence") and bias != "none":
        message = sentences(
            f"it is measured by switching the adapter off, and biases trained by lora.bias: {bias} "
            "stay on",
            "Write lora.bias: none, or remove this.",
        )
        yield Finding(path=(*SETS, index, "divergence"), message=message)


SET_RULES = (set_findings, sources_are_held_out, set_name_is_free, adapter_can_be_switched_off)
