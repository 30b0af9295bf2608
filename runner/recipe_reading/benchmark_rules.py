"""Rules across keys of a benchmark, whether it is a file of its own or written in a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evalsuite.catalogue import is_clean, on_all_rows
from runner.recipe_reading.benchmark_view import BenchmarkView
from runner.recipe_reading.dataset_rules import ROWS_RULES, sources_of, urls_are_plain
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.recipe_view import RecipeView, Unclear
from runner.recipe_reading.set_rules import TAKEN_NAMES
from runner.recipe_reading.template_rules import (
    assistant_template_is_jinja,
    system_template_is_jinja,
    turns_belong_to_rows,
    user_template_is_jinja,
)

BENCHMARKS = ("evaluation", "benchmarks")
TaskRule = Callable[[RecipeView, int], Iterator[Finding]]
BenchmarkRule = Callable[[BenchmarkView], Iterator[Finding]]

# What has rows of its own, and so a name of its own.
_NAMED = ("generation", "held_out", "benchmarks")
# Formats whose rows have a prompt and one answer to it, which a choice can stand in for.
_ONE_ANSWER = (None, "alpaca", "prompt_completion")
# Of a source of a benchmark these would have no effect: all of its rows are asked, once.
_WITHOUT_EFFECT = ("partition", "weight")
_TEMPLATE_RULES = (
    turns_belong_to_rows,
    system_template_is_jinja,
    user_template_is_jinja,
    assistant_template_is_jinja,
)


def benchmark_findings(
    recipe: RecipeView, block: KeyPath, task_rules: Sequence[TaskRule]
) -> list[Finding]:
    """Everything that the rules find in the benchmark at ``block``.

    ``task_rules`` are those for tasks under ``evaluation.generation``, which hold for it too.
    """
    view = BenchmarkView.at(recipe, block)
    found: list[Finding] = []
    for rule in (*ROWS_RULES, *_TEMPLATE_RULES):
        found += [view.placed(finding) for finding in _decided(rule(view))]
    for own_rule in BENCHMARK_RULES:
        found += _decided(own_rule(view))
    for task_rule in task_rules:
        found += [view.placed(finding) for finding in _decided(_of_generation(task_rule, view))]
    return found


def _of_generation(rule: TaskRule, view: BenchmarkView) -> Iterator[Finding]:
    if view.value(*view.block, "kind") == "generation":
        yield from rule(view, 0)


def _decided(findings: Iterator[Finding]) -> list[Finding]:
    """What a rule finds before it meets a value that is wrong already."""
    found: list[Finding] = []
    try:
        found.extend(findings)
    except Unclear:
        return found
    return found


def benchmark_name_is_free(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """A benchmark's name is its own, also where a file system ignores case."""
    path = (*BENCHMARKS, index, "name")
    name = recipe.value(*path)
    if name.lower() in TAKEN_NAMES:
        taken = ", ".join(TAKEN_NAMES)
        yield Finding(path=path, message=f"{name} is taken. Use a name other than {taken}.")
    for block in _NAMED:
        earlier = index if block == "benchmarks" else None
        for other in list(recipe.indices("evaluation", block))[:earlier]:
            if recipe.value("evaluation", block, other, "name").lower() == name.lower():
                message = f"{name} is also the name of {block}[{other}]. Give each its own."
                yield Finding(path=path, message=message)


def clean_rows_are_looked_for(recipe: RecipeView, index: int) -> Iterator[Finding]:
    """Figures on the clean rows of a benchmark need leaks to be looked for."""
    metric = recipe.value("gates", index, "metric")
    group = on_all_rows(metric).rpartition(".")[0]
    if not is_clean(metric):
        return
    for at in range(recipe.count(*BENCHMARKS)):
        name, leaks = (recipe.value(*BENCHMARKS, at, key) for key in ("name", "leaks"))
        if name == group and leaks == "ignore":
            message = sentences(
                f"which rows of {name} are clean is not known with leaks: ignore",
                "Write leaks: warn there.",
            )
            yield Finding(path=("gates", index, "metric"), message=message)


# Rows


def rows_are_asked_once(view: BenchmarkView) -> Iterator[Finding]:
    """Sources of a benchmark, and of its few-shot rows, have no partition and no weight."""
    for view_of in (view, *([view.shots] if _has_shots_of_its_own(view) else [])):
        for source in sources_of(view_of):
            for key in _WITHOUT_EFFECT:
                if source.get(key) is not None:
                    message = "this has no effect: all rows of a benchmark are asked. Remove it."
                    finding = Finding(path=(*source.path, key), message=message, at_key=True)
                    yield view_of.placed(finding)


def shots_have_plain_urls(view: BenchmarkView) -> Iterator[Finding]:
    """A few-shot source holds no password either."""
    if _has_shots_of_its_own(view):
        yield from (view.shots.placed(finding) for finding in urls_are_plain(view.shots))


def _has_shots_of_its_own(view: BenchmarkView) -> bool:
    shots = view.value(*view.block, "few_shot")
    return shots is not None and shots.get("source") is not None


def rows_ask_something(view: BenchmarkView) -> Iterator[Finding]:
    """Plain text asks nothing, and only rows with one answer can have choices."""
    name, kind = view.value("dataset", "format"), view.value(*view.block, "kind")
    path = (*view.block, "dataset", "format")
    if name == "text":
        yield Finding(path=path, message="text asks nothing that could be answered")
    elif kind == "multiple_choice" and name not in _ONE_ANSWER:
        message = sentences(
            f"rows of format {name} hold their own answers, and so have no choices",
            "Use alpaca or prompt_completion.",
        )
        yield Finding(path=path, message=message)


# Scoring


def kind_has_its_keys(view: BenchmarkView) -> Iterator[Finding]:
    """Generation is scored by metrics, multiple choice by the likelihood of choices."""
    block = view.block
    if view.value(*block, "kind") == "generation":
        if not view.value(*block, "metrics"):
            message = "kind generation needs metrics. Add them, for example metrics: [exact_match]"
            yield Finding(path=block, message=message)
        if view.value(*block, "choices") is not None:
            message = sentences(
                "this has no effect with kind: generation", "Write kind: multiple_choice."
            )
            yield Finding(path=(*block, "choices"), message=message, at_key=True)
        return
    if view.value(*block, "choices") is None:
        message = (
            "kind multiple_choice needs choices. Add them, for example choices: "
            "{columns: [a, b, c, d], gold: answer, gold_is: letter}"
        )
        yield Finding(path=block, message=message)
    for key in OF_GENERATION:
        if view.gives(*block, key):
            message = "this has no effect with kind: multiple_choice. Remove it."
            yield Finding(path=(*block, key), message=message, at_key=True)


def choices_come_from_one_place(view: BenchmarkView) -> Iterator[Finding]:
    """The texts of choices are in one column, in several, or in the benchmark itself."""
    choices = view.value(*view.block, "choices")
    if choices is None:
        return
    path = (*view.block, "choices")
    given = [key for key in ("column", "columns", "texts") if choices.get(key) is not None]
    if not given:
        yield Finding(path=path, message="give one of column, columns and texts", at_key=True)
    for key in given[1:]:
        message = f"this excludes {given[0]}. Keep one of the two."
        yield Finding(path=(*path, key), message=message, at_key=True)
    if view.gives(*path, "first_index") and view.value(*path, "gold_is") != "index":
        message = "this has no effect: only with gold_is: index are choices numbered. Remove it."
        yield Finding(path=(*path, "first_index"), message=message, at_key=True)


def texts_around_shots_are_used(view: BenchmarkView) -> Iterator[Finding]:
    """Separator and delimiter are for few-shot rows that are shown as text."""
    block = view.block
    shots = view.value(*block, "few_shot")
    as_text = shots is not None and view.value(*block, "few_shot", "shown") == "text"
    if shots is not None and not as_text and view.gives(*block, "few_shot", "separator"):
        message = "this has no effect with shown: turns. Remove it, or write shown: text."
        yield Finding(path=(*block, "few_shot", "separator"), message=message, at_key=True)
    of_choices = view.value(*block, "kind") == "multiple_choice"
    if view.value(*block, "delimiter") and not (as_text or of_choices):
        message = (
            "this has no effect: it stands before choices, and before answers of few-shot rows "
            "with shown: text. Remove it."
        )
        yield Finding(path=(*block, "delimiter"), message=message, at_key=True)


# Keys that mean something where answers are generated, and nothing where choices are scored.
OF_GENERATION = ("answer", "decoding", "stop", "answers", "extract", "metrics")
BENCHMARK_RULES: tuple[BenchmarkRule, ...] = (
    rows_are_asked_once,
    shots_have_plain_urls,
    rows_ask_something,
    kind_has_its_keys,
    choices_come_from_one_place,
    texts_around_shots_are_used,
)
