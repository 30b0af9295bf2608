"""Rules across keys about gates: what may be claimed of what a recipe measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

from evalsuite.catalogue import (
    CHOICE_FIGURES,
    DIVERGENCE_FIGURES,
    LOSS_FIGURES,
    SMALLER_IS_BETTER,
    on_all_rows,
)
from evalsuite.figures import GENERATION, LOSS, PASS_AT_K, SHARE, Figure
from runner.recipe_reading.benchmark_rules import BENCHMARKS
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.metric_rules import (
    TASKS,
    MetricEntry,
    figures_of,
    is_smaller_better,
    metrics_at,
    yields_anything,
)
from runner.recipe_reading.nearest_name import nearest_name
from runner.recipe_reading.recipe_view import RecipeView
from runner.recipe_reading.set_rules import SETS

PAIRED = ("superior", "non_inferior")


def measured_figures(recipe: RecipeView) -> list[str]:
    """Full names of all that the recipe measures, as gates name them.

    A metric of a plug-in or a file is named as ``<task>.<metric>``: which figures it yields is
    known only when it runs.

    Raises:
        Unclear: the evaluation is itself wrong.
    """
    figures = [f"{name}.{figure}" for name in _losses(recipe) for figure in LOSS_FIGURES]
    for index in range(recipe.count(*SETS)):
        name, divergence = (recipe.value(*SETS, index, key) for key in ("name", "divergence"))
        known = (*LOSS_FIGURES, *DIVERGENCE_FIGURES) if divergence else LOSS_FIGURES
        figures.extend(f"{name}.{figure}" for figure in known)
    for path in _answered(recipe):
        task = recipe.value(*path, "name")
        for entry in metrics_at(recipe, path):
            figures.extend(f"{task}.{figure}" for figure in figures_of(entry))
    for index in range(recipe.count(*BENCHMARKS)):
        if recipe.value(*BENCHMARKS, index, "kind") == "multiple_choice":
            name = recipe.value(*BENCHMARKS, index, "name")
            figures.extend(f"{name}.{figure}" for figure in CHOICE_FIGURES)
    return figures


def _answered(recipe: RecipeView) -> Iterator[KeyPath]:
    """Where the tasks and benchmarks are whose answers are scored by metrics.

    Raises:
        Unclear: one of the benchmarks is itself wrong.
    """
    yield from ((*TASKS, index) for index in range(recipe.count(*TASKS)))
    for index in range(recipe.count(*BENCHMARKS)):
        if recipe.value(*BENCHMARKS, index, "kind") == "generation":
            yield (*BENCHMARKS, index)


def _losses(recipe: RecipeView) -> list[str]:
    names: list[str] = recipe.value("evaluation", "loss")
    return names


def gate_is_measured(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A gate's metric is one that the recipe measures."""
    metric = on_all_rows(recipe.value("gates", index, "metric"))
    measured = measured_figures(recipe)
    group = metric.rpartition(".")[0]
    known_when_run = group in _tasks_of_plugins(recipe) or _is_lm_eval_task(recipe, group)
    if metric not in measured and not known_when_run:
        message = sentences(
            f"{metric!r} is not measured by this recipe",
            _meant_figure(metric, measured),
            f"It measures {', '.join(measured) or 'nothing'}.",
        )
        yield Finding(path=("gates", index, "metric"), message=message)


def _tasks_of_plugins(recipe: RecipeView) -> set[str]:
    """Names of the tasks that a metric of a plug-in or a file scores."""
    answered = _answered(recipe)
    return {recipe.value(*path, "name") for path in answered if yields_anything(recipe, path)}


def _is_lm_eval_task(recipe: RecipeView, group: str) -> bool:
    """Whether ``group`` is a task of lm-eval, or may be one of a group of tasks."""
    block = recipe.value("evaluation", "lm_eval")
    names = [] if block is None else block["tasks"]
    return any(group == name or group.startswith(f"{name}_") for name in names)


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
    claim, against = (recipe.value("gates", index, key) for key in ("claim", "against"))
    if claim in PAIRED and against == "base" and not recipe.value("evaluation", "base"):
        message = sentences(
            f"{claim} compares with the base model, and evaluation.base is false",
            "Set it to true, or claim a floor or a ceiling.",
        )
        yield Finding(path=("gates", index, "claim"), message=message)


def bound_is_on_the_right_side(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A floor holds up what should be large, a ceiling holds down what should be small."""
    claim, metric = (recipe.value("gates", index, key) for key in ("claim", "metric"))
    metric = on_all_rows(metric)
    smaller = _smaller_is_better(recipe, metric)
    if claim not in ("floor", "ceiling") or smaller is None:
        return
    if smaller == (claim == "floor"):
        better, other = ("smaller", "ceiling") if smaller else ("larger", "floor")
        side = "above" if claim == "floor" else "below"
        message = sentences(
            f"a {claim} asks that {metric} is {side} a number, and it is better when {better}",
            f"Did you mean {other}?",
        )
        yield Finding(path=("gates", index, "claim"), message=message)


def _smaller_is_better(recipe: RecipeView, metric: str) -> bool | None:
    """Whether less of a measured figure is better; None where we do not know it."""
    group, _, figure = metric.rpartition(".")
    own = _figures_of_task(recipe, group)
    if own is not None:
        return is_smaller_better(*own[figure]) if figure in own else None
    known = figure in (*LOSS_FIGURES, *DIVERGENCE_FIGURES) and metric in measured_figures(recipe)
    return figure in SMALLER_IS_BETTER if known else None


def _figures_of_task(recipe: RecipeView, group: str) -> dict[str, tuple[MetricEntry, str]] | None:
    """Figures of the task or benchmark ``group``: the metric of each, and its own name there."""
    for path in _answered(recipe):
        if recipe.value(*path, "name") == group:
            entries = metrics_at(recipe, path)
            return {f: (e, name) for e in entries for f, name in figures_of(e).items()}
    return None


def _figure_of(recipe: RecipeView, metric: str) -> Figure | None:
    """What kind of number ``metric`` is; None where it is known only when it runs."""
    group, _, figure = metric.rpartition(".")
    own = _figures_of_task(recipe, group)
    if own is None:
        return SHARE if figure in CHOICE_FIGURES else LOSS.get(figure)
    entry, name = own.get(figure, (None, ""))
    if entry is None or not entry.is_ours:
        return None
    return PASS_AT_K if entry.name == "pass_at_k" else GENERATION.get(name)


def number_is_in_range(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A gate's number is one that its figure can have, or can differ by."""
    metric = on_all_rows(recipe.value("gates", index, "metric"))
    figure = _figure_of(recipe, metric)
    if figure is None:
        return
    at, margin = (recipe.value("gates", index, key) for key in ("at", "margin"))
    low, high = figure.lowest, figure.highest
    if at is not None and ((low is not None and at < low) or (high is not None and at > high)):
        message = f"{at:g} is no value that {metric} can have: it is {_range(low, high)}."
        yield Finding(path=("gates", index, "at"), message=message)
    vacuous = {"floor": low, "ceiling": high}.get(recipe.value("gates", index, "claim"))
    if at is not None and at == vacuous:
        message = f"every value of {metric} passes: it is {_range(low, high)}. Claim more."
        yield Finding(path=("gates", index, "at"), message=message)
    if margin is not None and figure.span is not None and margin >= figure.span:
        message = sentences(
            f"{metric} is {_range(low, high)}, and no difference is {margin:g} or more",
            f"Did you mean {margin / 100:g}?" if figure.span == 1 else "Use less.",
        )
        yield Finding(path=("gates", index, "margin"), message=message)


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at least {low:g}" if low is not None else f"at most {high:g}"
    return f"between {low:g} and {high:g}"


def comparison_keys_are_for_comparisons(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Only a claim that compares says with what, and only a release may be missing."""
    claim, against = (recipe.value("gates", index, key) for key in ("claim", "against"))
    if claim not in PAIRED:
        for key in ("against", "first_release"):
            if recipe.gives("gates", index, key):
                message = f"this has no effect: a {claim} is a number of its own. Remove it."
                yield Finding(path=("gates", index, key), message=message, at_key=True)
    elif against == "base" and recipe.value("gates", index, "first_release") == "allow":
        message = "this has no effect with against: base. Write against: release, or remove this."
        yield Finding(path=("gates", index, "first_release"), message=message, at_key=True)


def first_release_is_shown_by_others(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A gate that lets a first release through leaves the proof to a gate that does not."""
    if not _allows_first(recipe, index):
        return
    gates = range(recipe.count("gates"))
    if all(_allows_first(recipe, other) for other in gates):
        message = sentences(
            "every gate would let a first release through, and nothing would be shown of it",
            "Add a gate against the base model, or a floor or a ceiling.",
        )
        yield Finding(path=("gates", index, "first_release"), message=message)


def _allows_first(recipe: RecipeView, index: int) -> bool:
    first = recipe.value("gates", index, "first_release")
    return first == "allow" and _compares_with_release(recipe, index)


def _compares_with_release(recipe: RecipeView, index: int) -> bool:
    claim, against = (recipe.value("gates", index, key) for key in ("claim", "against"))
    return claim in PAIRED and against == "release"


def claim_is_made_once(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """No two gates make the same claim about the same metric."""

    def key(at: int) -> tuple[str, ...]:
        return tuple(recipe.value("gates", at, name) for name in ("metric", "claim", "against"))

    earlier = list(takewhile(lambda at: key(at) != key(index), range(index)))
    if len(earlier) < index:
        message = f"gates[{len(earlier)}] makes this claim already. Keep one of them."
        yield Finding(path=("gates", index), message=message)


def previous_release_is_compared(recipe: RecipeView) -> Iterator[Finding]:
    """A release is named only where a gate compares with it."""
    if recipe.value("release", "previous") is None:
        return
    if not any(_compares_with_release(recipe, index) for index in range(recipe.count("gates"))):
        message = sentences(
            "this has no effect: no gate compares with a release",
            "Write against: release in a gate, or remove this.",
        )
        yield Finding(path=("release", "previous"), message=message, at_key=True)


RELEASE_RULES: tuple[Callable[[RecipeView], Iterator[Finding]], ...] = (
    previous_release_is_compared,
)
GATE_RULES: tuple[Callable[[RecipeView, int], Iterator[Finding]], ...] = (
    gate_is_measured,
    gate_has_its_number,
    comparison_needs_base,
    bound_is_on_the_right_side,
    number_is_in_range,
    comparison_keys_are_for_comparisons,
    first_release_is_shown_by_others,
    claim_is_made_once,
)
