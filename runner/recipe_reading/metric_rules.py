"""Rules across keys about the metrics of a task or benchmark: names, options, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from evalsuite.catalogue import (
    FIGURES,
    HUB,
    HUB_OPTIONS,
    METRIC_OPTIONS,
    METRICS,
    OTHER_OPTIONS,
    RIGHT_OR_WRONG,
    SMALLER_IS_BETTER,
    is_column,
    names_of_figures,
    pass_at,
)
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.json_schema_problem import schema_problem
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView, Unclear

TASKS = ("evaluation", "generation")
# Keys of a metric that are no options of it.
_NAMING = ("name", "file", "as")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """A metric as a task lists it: ``given`` are its keys, where it is more than a name."""

    path: KeyPath
    name: str | None
    file: str | None
    renamed: str | None
    given: Mapping[str, Any]

    @property
    def is_hub(self) -> bool:
        """Whether it is one of the evaluate library."""
        return self.name is not None and self.name.startswith(HUB)

    @property
    def is_ours(self) -> bool:
        """Whether its figures and options are known here."""
        return self.file is None and self.name in METRICS

    @property
    def label(self) -> str:
        """What sets it apart from the others of its task."""
        return str(self.renamed or self.name or str(self.file).rpartition(":")[2])

    @property
    def kind(self) -> str:
        """What it is called in messages, whatever its figures are renamed to."""
        return str(self.name or self.file)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that it takes."""
        if self.is_ours:
            return METRIC_OPTIONS[str(self.name)]
        return HUB_OPTIONS if self.is_hub else OTHER_OPTIONS


def metrics_at(recipe: RecipeView, path: KeyPath) -> list[MetricEntry]:
    """The metrics of the task or benchmark at ``path``.

    Raises:
        Unclear: something is wrong with one of them.
    """
    entries = []
    for at, item in enumerate(recipe.value(*path, "metrics")):
        given = {"name": item} if isinstance(item, str) else item
        names = {key: given.get(key) for key in _NAMING}
        entries.append(
            MetricEntry(
                path=(*path, "metrics", at),
                name=names["name"],
                file=names["file"],
                renamed=names["as"],
                given={key: value for key, value in given.items() if key not in _NAMING},
            )
        )
    return entries


@cache
def plugin_metrics() -> frozenset[str]:
    """Names of the metrics that installed packages add (entry points ``proofbox.metrics``)."""
    return frozenset(point.name for point in entry_points(group="proofbox.metrics"))


# Figures


def figures_of(entry: MetricEntry) -> dict[str, str]:
    """The figures of a metric, as a gate names them -> as the metric itself does.

    Of a plug-in or a file it is known only when it runs which figures it has; then its label stands
    for them.

    Raises:
        Unclear: there is no such metric, or its figure is not named.
    """
    if entry.is_ours:
        own = FIGURES[str(entry.name)]
        if entry.name == "pass_at_k":
            own = tuple(pass_at(k) for k in entry.given.get("k", [1]))
    elif entry.is_hub:
        own = (_figure_of_hub(entry),)
    elif entry.file is not None or entry.name in plugin_metrics():
        own = (entry.label,)
    else:
        raise Unclear  # metrics_are_known tells
    return {name: figure for figure, name in names_of_figures(own, entry.renamed).items()}


def _figure_of_hub(entry: MetricEntry) -> str:
    figure = entry.given.get("figure")
    if figure is None:
        raise Unclear  # hub_metrics_are_whole tells
    return str(figure)


def yields_anything(recipe: RecipeView, path: KeyPath) -> bool:
    """Whether a metric at ``path`` has figures that are known only when it runs."""
    return any(not (entry.is_ours or entry.is_hub) for entry in metrics_at(recipe, path))


def is_smaller_better(entry: MetricEntry, figure: str) -> bool | None:
    """Whether less of a metric's own ``figure`` is better; None where it is not known here."""
    if entry.is_ours:
        return figure in SMALLER_IS_BETTER
    return bool(entry.given.get("smaller_is_better", False)) if entry.is_hub else None


# Rules


def metrics_are_known(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Every metric is ours, an installed plug-in's, one of the evaluate library, or a file."""
    known = sorted({*METRICS, *plugin_metrics()})
    for entry in metrics_at(recipe, (*TASKS, index)):
        if entry.name is not None and entry.file is not None:
            message = "name is given too, and only one of the two can be meant. Remove one."
            yield Finding(path=(*entry.path, "file"), message=message, at_key=True)
        elif entry.name is None and entry.file is None:
            message = "this names no metric. Add name, or file for one of your own."
            yield Finding(path=entry.path, message=message)
        elif entry.name is not None and not entry.is_hub and entry.name not in known:
            message = sentences(
                f"{entry.name!r} is not a metric. There are {', '.join(known)}",
                did_you_mean(entry.name, known),
            )
            yield Finding(path=_at(recipe, entry, "name"), message=message)


def options_have_an_effect(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A metric is given only options that it takes."""
    for entry in metrics_at(recipe, (*TASKS, index)):
        figures_of(entry)  # of a metric that is not known nothing is told
        taken = entry.options
        for key, value in entry.given.items():
            if key not in taken and value is not None:
                message = sentences(
                    f"this has no effect: {entry.kind} takes {', '.join(taken) or 'no options'}",
                    "Remove it.",
                )
                yield Finding(path=(*entry.path, key), message=message, at_key=True)


def hub_metrics_are_whole(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A metric of the evaluate library has a figure, and one on the Hub a revision."""
    for entry in metrics_at(recipe, (*TASKS, index)):
        if not entry.is_hub:
            continue
        place = str(entry.name).removeprefix(HUB)
        local = is_local_place(place)
        if entry.given.get("figure") is None:
            message = sentences(
                f"{entry.name} needs figure: the key of its result that counts",
                f"Write {{name: {entry.name}, figure: …}}.",
            )
            yield Finding(path=entry.path, message=message)
        if not place:
            yield Finding(path=entry.path, message="hub: needs a name after it: hub:accuracy")
        elif not local and entry.given.get("revision") is None:
            message = (
                f"{entry.name} needs revision: its code on the Hub may change. Name a branch, a "
                "tag, or best a commit."
            )
            yield Finding(path=entry.path, message=message)
        elif local and entry.given.get("revision") is not None:
            message = "this has no effect: only metrics on the Hub have revisions. Remove it."
            yield Finding(path=(*entry.path, "revision"), message=message, at_key=True)


def is_local_place(place: str) -> bool:
    """Whether what follows ``hub:`` is a path, and not a name on the Hub."""
    return place.startswith((".", "/"))


def json_schemas_are_schemas(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """json_schema has a schema; one that is written in the recipe is one."""
    for entry in metrics_at(recipe, (*TASKS, index)):
        if entry.name != "json_schema" or entry.file is not None:
            continue
        schema = entry.given.get("schema")
        if schema is None:
            message = sentences(
                "json_schema needs a schema",
                "Name its file, for example {name: json_schema, schema: schemas/answer.json}.",
            )
            yield Finding(path=entry.path, message=message)
        elif not isinstance(schema, str) and (problem := schema_problem(schema)):
            yield Finding(path=(*entry.path, "schema", *problem[0]), message=problem[1])


def tests_have_a_column(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """tests_passed has tests to run."""
    for entry in metrics_at(recipe, (*TASKS, index)):
        if entry.name == "tests_passed" and recipe.value("dataset", "columns", "tests") is None:
            message = sentences(
                "tests_passed needs the tests of each row",
                "Name their column, for example dataset.columns.tests: tests",
            )
            yield Finding(path=entry.path, message=message)


def pass_at_k_has_its_answers(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """pass_at_k counts answers that another metric of the task calls right, and enough of them."""
    entries = metrics_at(recipe, (*TASKS, index))
    several = (*TASKS, index, "answers")
    answers = recipe.value(*several) if recipe.gives(*several) else 1
    right = [
        name
        for entry in entries
        if entry.is_ours
        for name, own in figures_of(entry).items()
        if own in RIGHT_OR_WRONG
    ]
    for entry in entries:
        if entry.name != "pass_at_k" or entry.file is not None:
            continue
        of = entry.given.get("of", "tests_passed")
        if of not in right:
            offered = f"There is {', '.join(right)}." if right else f"Add {of} to the metrics."
            message = sentences(
                f"pass_at_k counts the answers that are right by {of}, which no metric of this "
                "task gives as right or wrong",
                offered,
            )
            yield Finding(path=_at(recipe, entry, "of"), message=message)
        most = max(entry.given.get("k", [1]))
        if most > answers:
            message = (
                f"pass@{most} needs at least {most} answers to each prompt, and answers is "
                f"{answers}. Raise answers, or lower k."
            )
            yield Finding(path=_at(recipe, entry, "k"), message=message)


def figures_are_named_once(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """No two metrics of a task have a figure of the same name, and none has a column's."""
    seen: dict[str, MetricEntry] = {}
    for entry in metrics_at(recipe, (*TASKS, index)):
        for name in figures_of(entry):
            if is_column(name):
                message = f"{name} is what a column of the stored answers is called. Use another."
                yield Finding(path=_at(recipe, entry, "as"), message=message)
            elif name in seen:
                at = seen[name].path[-1]
                message = sentences(
                    f"the figure {name} is also that of metrics[{at}]",
                    "Give one of them a name of its own with as.",
                )
                yield Finding(path=_at(recipe, entry, "as"), message=message)
                break
            seen[name] = entry


def _at(recipe: RecipeView, entry: MetricEntry, key: str) -> KeyPath:
    """Where a metric has ``key``, or the metric itself."""
    path = (*entry.path, key)
    return path if recipe.gives(*path) else entry.path


METRIC_RULES = (
    metrics_are_known,
    options_have_an_effect,
    hub_metrics_are_whole,
    json_schemas_are_schemas,
    tests_have_a_column,
    pass_at_k_has_its_answers,
    figures_are_named_once,
)
