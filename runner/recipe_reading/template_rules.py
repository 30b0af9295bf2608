"""Rules across keys about the text: row templates, and what a format leaves to them."""

from __future__ import annotations

from collections.abc import Iterator

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.format_columns import FORMAT_COLUMNS
from runner.recipe_reading.jinja_source import template_names
from runner.recipe_reading.recipe_view import RecipeView

# What the rows of a format hold, so that no template of turns is of any use.
_TURNS = ("user", "assistant")


def turns_belong_to_rows(recipe: RecipeView) -> Iterator[Finding]:
    """Only format alpaca makes turns of templates; of the others the rows hold them."""
    name = recipe.value("dataset", "format")
    if name not in FORMAT_COLUMNS or name == "alpaca":
        return
    keys = ("system", *_TURNS) if name == "text" else _TURNS
    for key in keys:
        if recipe.value("template", key) is not None:
            more = "Plain text has no turns" if name == "text" else "The rows hold the turns"
            message = sentences(
                f"this has no effect with dataset.format: {name}",
                f"{more}{'' if name == 'text' else ' themselves'}. Remove it.",
            )
            yield Finding(path=("template", key), message=message, at_key=True)


def plain_text_is_learned_whole(recipe: RecipeView) -> Iterator[Finding]:
    """Format text is rendered as it stands, and all of it is supervised."""
    if recipe.value("dataset", "format") != "text":
        return
    chat, loss_on = recipe.value("template", "chat"), recipe.value("template", "loss_on")
    if recipe.gives("template", "chat") and chat != "none":
        message = "this has no effect with dataset.format: text, which has no turns. Remove it."
        yield Finding(path=("template", "chat"), message=message, at_key=True)
    if loss_on != "all":
        default = "" if recipe.gives("template", "loss_on") else " (the default)"
        message = sentences(
            f"loss_on: {loss_on}{default} excludes dataset.format: text",
            "Plain text has no answers. Write loss_on: all in template.",
        )
        given = recipe.gives("template", "loss_on")
        path = ("template", "loss_on") if given else ("dataset", "format")
        yield Finding(path=path, message=message)


def plain_text_asks_nothing(recipe: RecipeView) -> Iterator[Finding]:
    """Nothing can be generated where the rows ask nothing."""
    if recipe.value("dataset", "format") != "text":
        return
    for key in ("generation", "samples"):
        if recipe.value("evaluation", key):
            message = sentences(
                "this excludes dataset.format: text",
                "Plain text asks nothing that could be answered. Remove it.",
            )
            yield Finding(path=("evaluation", key), message=message, at_key=True)


def truncation_needs_turns(recipe: RecipeView) -> Iterator[Finding]:
    """Only a conversation with several answers can be cut between them."""
    if recipe.value("template", "too_long") != "truncate":
        return
    if recipe.value("template", "loss_on") != "assistant_turns":
        message = (
            "this only drops here: an answer is kept whole or not at all. "
            "Write drop, or loss_on: assistant_turns."
        )
        yield Finding(path=("template", "too_long"), message=message)


def system_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.system is Jinja and does not give the answer away."""
    yield from _template_findings(recipe, "system")


def user_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.user is Jinja and does not give the answer away."""
    yield from _template_findings(recipe, "user")


def assistant_template_is_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """template.assistant is Jinja and renders the answer."""
    yield from _template_findings(recipe, "assistant")


def _template_findings(recipe: RecipeView, key: str) -> Iterator[Finding]:
    source = recipe.value("template", key)
    if source is None:
        return
    path = ("template", key)
    names = template_names(source)
    if isinstance(names, str):
        yield Finding(path=path, message=names)
    elif _is_alpaca(recipe, key):
        yield from _alpaca_names(recipe, path, names)


def _is_alpaca(recipe: RecipeView, key: str) -> bool:
    """Whether a template is one of format alpaca: no other has templates of turns."""
    name = recipe.value("dataset", "format")
    return name == "alpaca" or (name is None and key in _TURNS)


def _alpaca_names(recipe: RecipeView, path: KeyPath, names: frozenset[str]) -> Iterator[Finding]:
    if path[-1] == "assistant" and "output" not in names:
        message = sentences(
            "this never renders the answer",
            "Write {{ output }} in it: that is the answer, whatever its column is called.",
        )
        yield Finding(path=path, message=message)
    if path[-1] != "assistant" and "output" in names:
        message = "this uses output: the prompt would hold the answer. Remove it."
        yield Finding(path=path, message=message)
    if "input" in names and recipe.value("dataset", "columns", "input") is None:
        message = "this uses input, and dataset.columns.input is null. Remove one of the two."
        yield Finding(path=path, message=message)


TEMPLATE_RULES = (
    turns_belong_to_rows,
    plain_text_is_learned_whole,
    plain_text_asks_nothing,
    truncation_needs_turns,
    system_template_is_jinja,
    user_template_is_jinja,
    assistant_template_is_jinja,
)
