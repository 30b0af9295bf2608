"""Rules across keys: what a recipe measures and claims, and the list of all rules.

Each rule is a function that yields what is wrong. A rule that needs a value which is itself wrong
is left out (``Unclear``), so that one slip is not reported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from runner.recipe_reading.benchmark_rules import (
    BENCHMARKS,
    benchmark_findings,
    benchmark_name_is_free,
    clean_rows_are_looked_for,
)
from runner.recipe_reading.code_rules import code_has_a_backend, limits_can_be_held
from runner.recipe_reading.dataset_rules import DATASET_RULES, why_no_rows
from runner.recipe_reading.engine_rules import (
    ENGINE_GATE_RULES,
    ENGINE_RULES,
    ENGINE_TASK_RULES,
)
from runner.recipe_reading.extraction_rules import extraction_finds_something
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.gate_rules import GATE_RULES, RELEASE_RULES
from runner.recipe_reading.learning_rules import LEARNING_RULES
from runner.recipe_reading.metric_file_rules import metric_files_are_there
from runner.recipe_reading.metric_rules import (
    METRIC_RULES,
    TASKS,
)
from runner.recipe_reading.recipe_view import RecipeView, Unclear
from runner.recipe_reading.set_rules import SET_RULES, SETS, TAKEN_NAMES
from runner.recipe_reading.template_rules import TEMPLATE_RULES

Rule = Callable[[RecipeView], Iterator[Finding]]
ItemRule = Callable[[RecipeView, int], Iterator[Finding]]

_DRAWING = {"temperature": 1, "top_p": 1, "top_k": 0}


def rule_findings(recipe: RecipeView, folder: Path | None = None) -> list[Finding]:
    """Everything that the rules find, in no order.

    ``folder`` is where the recipe's paths start; without it, as for a stored copy of a recipe, it
    is not looked whether files are there.
    """
    findings: list[Finding] = []
    files = () if folder is None else file_rules(folder)
    tasks = (*TASK_RULES, *files)
    for rule in ALL_RULES:
        findings.extend(_decided(rule(recipe)))
    findings.extend(_decided(code_has_a_backend(recipe, folder)))
    gates = (*GATE_RULES, *ENGINE_GATE_RULES, clean_rows_are_looked_for)
    for rules, path in ((tasks, TASKS), (SET_RULES, SETS), (gates, ("gates",))):
        for index in recipe.indices(*path):
            for item_rule in rules:
                findings.extend(_decided(item_rule(recipe, index)))
    for index in recipe.indices(*BENCHMARKS):
        findings.extend(_decided(benchmark_name_is_free(recipe, index)))
        # One that is a file of its own was checked there.
        if recipe.gives(*BENCHMARKS, index, "name"):
            block = (*BENCHMARKS, index)
            findings.extend(benchmark_findings(recipe, block, (*RULES_OF_ASKING, *files)))
    return findings


def file_rules(folder: Path) -> tuple[ItemRule, ...]:
    """Rules about the files that tasks and benchmarks name, from ``folder`` on."""
    return (partial(metric_files_are_there, folder=folder),)


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
    if name.lower() in TAKEN_NAMES:
        taken = ", ".join(TAKEN_NAMES)
        yield Finding(path=path, message=f"{name} is taken. Use a name other than {taken}.")
    elif name.lower() in earlier:
        message = f"{name} is also the name of generation[{earlier.index(name.lower())}]"
        yield Finding(path=path, message=sentences(message, "Give each task its own."))


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


EVALUATION_RULES: tuple[Rule, ...] = (loss_has_rows,)
ALL_RULES: tuple[Rule, ...] = (
    *DATASET_RULES,
    *TEMPLATE_RULES,
    *LEARNING_RULES,
    *EVALUATION_RULES,
    limits_can_be_held,
    *ENGINE_RULES,
    *RELEASE_RULES,
)
TASK_RULES: tuple[ItemRule, ...] = (
    task_has_rows,
    task_name_is_free,
    *METRIC_RULES,
    extraction_finds_something,
    drawing_needs_sampling,
    *ENGINE_TASK_RULES,
)
# Those that hold for a benchmark too: it has rows and a name of its own.
RULES_OF_ASKING: tuple[ItemRule, ...] = tuple(
    rule for rule in TASK_RULES if rule not in (task_has_rows, task_name_is_free)
)
