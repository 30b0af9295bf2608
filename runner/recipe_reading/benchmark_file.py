"""Benchmark files: checking one whole, reading one, and those that a recipe names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import Fault, RecipeError
from runner.recipe_reading.benchmark_rules import BENCHMARKS, benchmark_findings
from runner.recipe_reading.document import Document, read_document
from runner.recipe_reading.draft import KeyPath, Plain
from runner.recipe_reading.finding import Finding
from runner.recipe_reading.recipe_rules import RULES_OF_ASKING, file_rules
from runner.recipe_reading.recipe_schema import BENCHMARK_SCHEMA_FILE, EDITOR_KEY
from runner.recipe_reading.recipe_view import RecipeView
from runner.recipe_reading.schema_findings import schema_findings

if TYPE_CHECKING:
    from runner.recipe import Benchmark

# What a recipe must have and a benchmark cannot.
_OF_RECIPES = frozenset({"version", "model", "training", "lora", "evaluation", "gates"})
# What only a benchmark can have.
_OF_BENCHMARKS = frozenset({"kind", "metrics", "choices", "few_shot", "prompt", "decoding"})
# Where a recipe would have the benchmark that a file holds.
_PLACE: KeyPath = (*BENCHMARKS, 0)


def is_benchmark(document: Document) -> bool:
    """Whether a document is meant as a benchmark and not as a recipe."""
    keys = document.value.keys()
    declared = str(document.value.get(EDITOR_KEY, ""))
    if declared.endswith(BENCHMARK_SCHEMA_FILE):
        return True
    return _OF_RECIPES.isdisjoint(keys) and not _OF_BENCHMARKS.isdisjoint(keys)


def benchmark_faults(document: Document) -> list[Fault]:
    """Everything wrong with a document as a benchmark: reader, schema and rules across keys."""
    findings = schema_findings(document, BENCHMARK_SCHEMA_FILE)
    view = RecipeView.of(_lifted(document), [_at(_PLACE, finding) for finding in findings])
    folder = Path(document.file).parent
    found = benchmark_findings(view, _PLACE, (*RULES_OF_ASKING, *file_rules(folder)))
    findings += [replace(finding, path=finding.path[len(_PLACE) :]) for finding in found]
    told = [f for f in findings if not _is_within(f.path, document.unreadable)]
    return sorted({*document.faults, *(finding.fault(document) for finding in told)})


def read_benchmark(path: Path) -> Benchmark:
    """The benchmark in a YAML or JSON file, with every default filled in.

    Raises:
        RecipeError: the file cannot be read, or the benchmark is wrong; holds every fault.
    """
    from runner.recipe import Benchmark  # not on the path of `validate`

    document = read_document(path)
    faults = benchmark_faults(document)
    if faults:
        raise RecipeError(faults)
    return Benchmark.model_validate(_values(document))


def with_benchmarks(
    document: Document, folder: Path, *, in_place: bool
) -> tuple[Document, list[Fault]]:
    """A recipe with the benchmarks that it names as if they were written in it, and their faults.

    One that has faults cannot be read, and no rule complains about it again. ``folder`` is where
    the recipe's paths start; where it is not ``in_place``, as a copy that is stored with a run, the
    files need not be there.
    """
    named = list(_named_files(document.value))
    if not named:
        return document, []
    faults: list[Fault] = []
    unreadable: set[KeyPath] = set()
    read: dict[int, Plain] = {}
    for index, name in named:
        path = (*BENCHMARKS, index)
        if not (folder / name).is_file():
            message = f"there is no such file (looked for {folder / name})"
            faults += [document.fault_at_value(path, message)] if in_place else []
            unreadable.add(path)
            continue
        values, found = _checked(folder / name)
        faults += found
        read[index] = values
        unreadable |= {path} if found else set()
    return _filled(document, read, frozenset(unreadable)), faults


def _checked(path: Path) -> tuple[Plain, list[Fault]]:
    """The values of a benchmark file, and its faults."""
    try:
        document = read_document(path)
    except RecipeError as error:
        return None, list(error.faults)
    return _values(document), benchmark_faults(document)


def _named_files(recipe: dict[str, Plain]) -> Iterable[tuple[int, str]]:
    """The benchmarks that a recipe names as files, with their places in its list."""
    evaluation = recipe.get("evaluation")
    named = evaluation.get("benchmarks") if isinstance(evaluation, dict) else None
    listed = named if isinstance(named, list) else []
    return ((index, item) for index, item in enumerate(listed) if isinstance(item, str) and item)


def _filled(document: Document, read: dict[int, Plain], unreadable: frozenset[KeyPath]) -> Document:
    evaluation: Any = document.value["evaluation"]
    benchmarks = [read.get(i, item) for i, item in enumerate(evaluation["benchmarks"])]
    value = {**document.value, "evaluation": {**evaluation, "benchmarks": benchmarks}}
    return replace(document, value=value, unreadable=document.unreadable | unreadable)


def _values(document: Document) -> dict[str, Plain]:
    return {key: value for key, value in document.value.items() if key != EDITOR_KEY}


def _lifted(document: Document) -> Document:
    """A benchmark's document as that of a recipe which has nothing else."""
    return replace(
        document,
        value={"evaluation": {"benchmarks": [dict(document.value)]}},
        keys={(*_PLACE, *path): place for path, place in document.keys.items()},
        values={(*_PLACE, *path): place for path, place in document.values.items()},
        texts={(*_PLACE, *path): text for path, text in document.texts.items()},
        unreadable=frozenset((*_PLACE, *path) for path in document.unreadable),
    )


def _at(place: KeyPath, finding: Finding) -> Finding:
    meant = None if finding.meant is None else (*place, *finding.meant)
    return replace(finding, path=(*place, *finding.path), meant=meant)


def _is_within(path: KeyPath, roots: frozenset[KeyPath]) -> bool:
    return any(path[: len(root)] == root for root in roots)
