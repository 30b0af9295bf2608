"""Rules across keys: what a recipe measures and claims, and the list of all rules.

Each rule is a function that yields what is wrong. A rule that needs a value which is itself wrong
is left out (``Unclear``), so that one slip is not reported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points
from itertools import takewhile

from evalsuite.catalogue import (
    FIGURES,
    LOSS_FIGURES,
    METRICS,
    SMALLER_IS_BETTER,
    on_all_rows,
)
from runner.recipe_reading.dataset_rules import DATASET_RULES, why_no_rows
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.learning_rules import LEARNING_RULES
from runner.recipe_reading.nearest_name import did_you_mean, nearest_name
from runner.recipe_reading.recipe_view import RecipeView, Unclear
from runner.recipe_reading.template_rules import TEMPLATE_RULES

Rule = Callable[[RecipeView], Iterator[Finding]]
ItemRule = Callable[[RecipeView, int], Iterator[Finding]]

TASKS = ("evaluation", "generation")
# Files of an evaluation and partitions; a task of such a name would be taken for one of them.
_TAKEN_NAMES = ("loss", "train", "validation", "test")
_DRAWING = {"temperature": 1, "top_p": 1, "top_k": 0}


def rule_findings(recipe: RecipeView) -> list[Finding]:
    """Everything that the rules find, in no order."""
    findings: list[Finding] = []
    for rule in ALL_RULES:
        findings.extend(_decided(rule(recipe)))
    for rules, path in ((TASK_RULES, TASKS), (GATE_RULES, ("gates",))):
        for index in recipe.indices(*path):
            for item_rule in rules:
                findings.extend(_decided(item_rule(recipe, index)))
    return findings


def _decided(findings: Iterator[Finding]) -> list[Finding]:
    """What a rule finds before it meets a value that is wrong already."""
    found: list[Finding] = []
    try:
        found.extend(findings)
    except Unclear:
        return found
    return found


# Evaluation


def loss_has_rows(recipe: RecipeView) -> Iterator[Finding]:
    """Held-out loss is measured on partitions that have rows."""
    for index, name in enumerate(recipe.value("evaluation", "loss")):
        if reason := why_no_rows(recipe, name):
            given = recipe.gives("evaluation", "loss")
            message = sentences(
                f"{name} has no rows: {reason[0]}",
                f"Remove it, or {reason[1][0].lower()}{reason[1][1:]}."
                if given
                else f"Its loss is measured by default. Add evaluation.loss without {name}.",
            )
            share = ("dataset", "partition", name)
            by_default = share if recipe.gives(*share) else ("dataset", "source")
            path = ("evaluation", "loss", index) if given else by_default
            yield Finding(path=path, message=message)


def task_has_rows(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A task answers examples of a partition that has rows."""
    name = recipe.value(*TASKS, index, "data")
    if reason := why_no_rows(recipe, name):
        message = f"{name} has no rows: {reason[0]}. {reason[1]}."
        yield Finding(path=(*TASKS, index, "data"), message=message)


def task_name_is_free(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A task's name is its own, also where a file system ignores case."""
    path = (*TASKS, index, "name")
    name = recipe.value(*path)
    earlier = [recipe.value(*TASKS, other, "name").lower() for other in range(index)]
    if name.lower() in _TAKEN_NAMES:
        taken = ", ".join(_TAKEN_NAMES)
        yield Finding(path=path, message=f"{name} is taken. Use a name other than {taken}.")
    elif name.lower() in earlier:
        message = f"{name} is also the name of generation[{earlier.index(name.lower())}]"
        yield Finding(path=path, message=sentences(message, "Give each task its own."))


def metrics_are_known(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Every metric is ours or an installed plug-in's."""
    for at, metric in enumerate(recipe.value(*TASKS, index, "metrics")):
        if metric not in METRICS and metric not in plugin_metrics():
            known = sorted({*METRICS, *plugin_metrics()})
            message = sentences(
                f"{metric!r} is not a metric. There are {', '.join(known)}",
                did_you_mean(metric, known),
            )
            yield Finding(path=(*TASKS, index, "metrics", at), message=message)


def tests_have_a_column(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """tests_passed has tests to run."""
    metrics = recipe.value(*TASKS, index, "metrics")
    if "tests_passed" in metrics and recipe.value("dataset", "columns", "tests") is None:
        message = sentences(
            "tests_passed needs the tests of each row",
            "Name their column, for example dataset.columns.tests: tests",
        )
        at = metrics.index("tests_passed")
        yield Finding(path=(*TASKS, index, "metrics", at), message=message)


def drawing_needs_sampling(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Temperature, top_p and top_k are for answers that are drawn."""
    path = (*TASKS, index, "decoding")
    if recipe.value(*path, "do_sample"):
        return
    for key, neutral in _DRAWING.items():
        if recipe.value(*path, key) != neutral:
            message = (
                "this has no effect with do_sample: false. Set do_sample: true, or remove this."
            )
            yield Finding(path=(*path, key), message=message, at_key=True)


@cache
def plugin_metrics() -> frozenset[str]:
    """Names of the metrics that installed packages add (entry points ``proofbox.metrics``)."""
    return frozenset(point.name for point in entry_points(group="proofbox.metrics"))


# Gates


def measured_figures(recipe: RecipeView) -> list[str]:
    """Full names of all that the recipe measures, as gates name them.

    A plug-in's metric is named as ``<task>.<metric>``: which figures it yields is known only when
    it runs.

    Raises:
        Unclear: the evaluation is itself wrong.
    """
    figures = [f"{name}.{figure}" for name in _losses(recipe) for figure in LOSS_FIGURES]
    for index in range(recipe.count(*TASKS)):
        task = recipe.value(*TASKS, index, "name")
        for metric in recipe.value(*TASKS, index, "metrics"):
            figures.extend(f"{task}.{figure}" for figure in _figures(metric))
    return figures


def _figures(metric: str) -> tuple[str, ...]:
    if metric in METRICS:
        return FIGURES[metric]
    if metric in plugin_metrics():
        return (metric,)
    raise Unclear  # metrics_are_known tells


def _losses(recipe: RecipeView) -> list[str]:
    names: list[str] = recipe.value("evaluation", "loss")
    return names


def gate_is_measured(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A gate's metric is one that the recipe measures."""
    metric = on_all_rows(recipe.value("gates", index, "metric"))
    measured = measured_figures(recipe)
    if metric not in measured and metric.rpartition(".")[0] not in _tasks_of_plugins(recipe):
        message = sentences(
            f"{metric!r} is not measured by this recipe",
            _meant_figure(metric, measured),
            f"It measures {', '.join(measured) or 'nothing'}.",
        )
        yield Finding(path=("gates", index, "metric"), message=message)


def _tasks_of_plugins(recipe: RecipeView) -> set[str]:
    """Names of the tasks that a plug-in's metric scores."""
    return {
        recipe.value(*TASKS, index, "name")
        for index in range(recipe.count(*TASKS))
        if not set(recipe.value(*TASKS, index, "metrics")) <= METRICS.keys()
    }


def _meant_figure(metric: str, measured: list[str]) -> str:
    """The nearest figure of the part before the dot, or else of all parts, the last one first."""
    part, _, figure = metric.rpartition(".")
    here = {name.rpartition(".")[2]: name for name in measured if name.startswith(f"{part}.")}
    everywhere = {name.rpartition(".")[2]: name for name in measured}
    tries = (
        (figure, here),
        (metric, {name: name for name in reversed(measured)}),
        (figure, everywhere),
    )
    found = (names[near] for wanted, names in tries if (near := nearest_name(wanted, names)))
    return next((f"Did you mean {name}?" for name in found), "")


def gate_has_its_number(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Each claim has exactly the keys that it takes."""
    claim = recipe.value("gates", index, "claim")
    needed, other = ("at", "margin") if claim in ("floor", "ceiling") else ("margin", "at")
    if recipe.value("gates", index, other) is not None:
        more = f"It takes {needed}."
        message = sentences(f"a {claim} gate takes no {other}", more)
        yield Finding(path=("gates", index, other), message=message, at_key=True)
    if claim != "superior" and recipe.value("gates", index, needed) is None:
        examples = {"margin": "0.02", "at": "1.2"}
        message = f"a {claim} gate needs {needed}. Add it, for example {needed}: {examples[needed]}"
        yield Finding(path=("gates", index), message=message)


def comparison_needs_base(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Gates that compare with the base model have its figures."""
    claim = recipe.value("gates", index, "claim")
    if claim in ("superior", "non_inferior") and not recipe.value("evaluation", "base"):
        message = sentences(
            f"{claim} compares with the base model, and evaluation.base is false",
            "Set it to true, or claim a floor or a ceiling.",
        )
        yield Finding(path=("gates", index, "claim"), message=message)


def bound_is_on_the_right_side(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A floor holds up what should be large, a ceiling holds down what should be small."""
    claim, metric = (recipe.value("gates", index, key) for key in ("claim", "metric"))
    metric = on_all_rows(metric)
    if claim not in ("floor", "ceiling") or metric not in _own_figures(recipe):
        return
    smaller = metric.rpartition(".")[2] in SMALLER_IS_BETTER
    if smaller == (claim == "floor"):
        better, other = ("smaller", "ceiling") if smaller else ("larger", "floor")
        side = "above" if claim == "floor" else "below"
        message = sentences(
            f"a {claim} asks that {metric} is {side} a number, and it is better when {better}",
            f"Did you mean {other}?",
        )
        yield Finding(path=("gates", index, "claim"), message=message)


def _own_figures(recipe: RecipeView) -> list[str]:
    """Measured figures that we know the better side of: all but those of plug-ins."""
    known = {*LOSS_FIGURES, *(figure for figures in FIGURES.values() for figure in figures)}
    return [name for name in measured_figures(recipe) if name.rpartition(".")[2] in known]


def claim_is_made_once(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """No two gates make the same claim about the same metric."""

    def key(at: int) -> tuple[str, str]:
        return recipe.value("gates", at, "metric"), recipe.value("gates", at, "claim")

    earlier = list(takewhile(lambda at: key(at) != key(index), range(index)))
    if len(earlier) < index:
        message = f"gates[{len(earlier)}] makes this claim already. Keep one of them."
        yield Finding(path=("gates", index), message=message)


EVALUATION_RULES: tuple[Rule, ...] = (loss_has_rows,)
ALL_RULES: tuple[Rule, ...] = (
    *DATASET_RULES,
    *TEMPLATE_RULES,
    *LEARNING_RULES,
    *EVALUATION_RULES,
)
TASK_RULES: tuple[ItemRule, ...] = (
    task_has_rows,
    task_name_is_free,
    metrics_are_known,
    tests_have_a_column,
    drawing_needs_sampling,
)
GATE_RULES: tuple[ItemRule, ...] = (
    gate_is_measured,
    gate_has_its_number,
    comparison_needs_base,
    bound_is_on_the_right_side,
    claim_is_made_once,
)
