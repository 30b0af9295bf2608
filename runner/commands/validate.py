"""``proofbox validate``: check recipe files, and say everything that is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from runner.errors import ExitCode, Fault, RecipeError
from runner.recipe_reading.benchmark_file import benchmark_faults, is_benchmark
from runner.recipe_reading.document import Document, read_document
from runner.recipe_reading.recipe_file import recipe_faults, shipped_recipes
from runner.recipe_reading.recipe_view import RecipeView
from runner.training.trackers import missing_trackers

# What a recipe has and no JSON Schema: a recipe that names the wrong `$schema` is checked as one.
_RECIPE_KEYS = {"version", "dataset", "model", "training"}
Format = Literal["text", "json", "github"]


def validate(files: Sequence[Path], format: Format = "text") -> ExitCode:
    """Check every file and print its faults, or that it is valid.

    A benchmark among the files is checked as one. A JSON Schema (as ``recipes/*.json`` has one) is
    checked to be a valid schema.
    Exit code 2 if any file has a fault.
    """
    checked = [check_file(path) for path in files]
    faults = [fault for found, _ in checked for fault in found]
    sys.stdout.write(_PRINTED[format](checked))
    return ExitCode.RECIPE if faults else ExitCode.PASS


Checked = tuple[list[Fault], str]


def check_file(path: Path) -> Checked:
    """The faults of a file, and the line that tells of a file without any."""
    # A recipe's file has a suffix, so a bare word can only be the name of a shipped one.
    shipped = {} if path.suffix else shipped_recipes()
    try:
        document = read_document(shipped.get(str(path), path))
    except RecipeError as error:
        return list(error.faults), ""
    if _is_schema(document):
        return _schema_faults(document), f"{document.file}: valid (a JSON Schema)"
    if is_benchmark(document):
        return benchmark_faults(document), f"{document.file}: valid (a benchmark)"
    faults = recipe_faults(document, in_place=True)
    return faults, "" if faults else "\n".join([f"{document.file}: valid", *_missing(document)])


def _missing(document: Document) -> list[str]:
    """What a valid recipe needs and this machine lacks; another machine may have it."""
    trackers = RecipeView.of(document, ()).value("training", "trackers")
    return [f"  {missing}" for missing in missing_trackers(trackers)]


def _is_schema(document: Document) -> bool:
    declared = document.value.get("$schema")
    is_recipe = not _RECIPE_KEYS.isdisjoint(document.value)
    return isinstance(declared, str) and "//json-schema.org/" in declared and not is_recipe


def _schema_faults(document: Document) -> list[Fault]:
    from jsonschema.validators import validator_for

    dialect = validator_for(document.value)
    errors = dialect(dialect.META_SCHEMA).iter_errors(document.value)
    return sorted(
        {document.fault_at_value(tuple(error.absolute_path), error.message) for error in errors}
        | set(document.faults)
    )


def _text(checked: Sequence[Checked]) -> str:
    lines = [line for faults, valid in checked for line in (list(map(str, faults)) or [valid])]
    return "".join(f"{line}\n" for line in lines)


def _json(checked: Sequence[Checked]) -> str:
    faults = [asdict(fault) for found, _ in checked for fault in found]
    return json.dumps(faults, indent=1, ensure_ascii=False) + "\n"


def _github(checked: Sequence[Checked]) -> str:
    """Annotations as GitHub Actions reads them ("Workflow commands" in its documentation)."""
    lines = [line for faults, valid in checked for line in ([*map(_annotate, faults)] or [valid])]
    return "".join(f"{line}\n" for line in lines)


def _annotate(fault: Fault) -> str:
    file = _escape(fault.file).replace(":", "%3A").replace(",", "%2C")
    message = f"{fault.key}: {fault.message}" if fault.key else fault.message
    return f"::error file={file},line={fault.line},col={fault.column}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


_PRINTED: dict[Format, Callable[[Sequence[Checked]], str]] = {
    "text": _text,
    "json": _json,
    "github": _github,
}
