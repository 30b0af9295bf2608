"""Recipe files: finding one, checking it whole, reading it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import Fault, RecipeError, UsageError
from runner.recipe_reading.benchmark_file import with_benchmarks
from runner.recipe_reading.document import SUFFIXES, Document, read_document
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_rules import rule_findings
from runner.recipe_reading.recipe_schema import EDITOR_KEY
from runner.recipe_reading.recipe_view import RecipeView
from runner.recipe_reading.schema_findings import schema_findings

if TYPE_CHECKING:
    from runner.recipe import Recipe


def read_recipe(path: Path, *, shown: str | None = None, in_place: bool = False) -> Recipe:
    """The recipe in a YAML or JSON file, with every default filled in.

    Args:
        path: the file; its suffix decides how it is read.
        shown: how faults name the file; the path as given if None.
        in_place: whether the files that its metrics name must be there. They are not beside a copy
            that is stored with a run or a release.

    Raises:
        RecipeError: the file cannot be read, or the recipe is wrong; holds every fault.
    """
    from runner.recipe import Recipe  # not on the path of `validate`: takes 0.1 s to import

    document = read_document(path, shown=shown)
    faults = recipe_faults(document, path.parent, in_place=in_place)
    if faults:
        raise RecipeError(faults)
    return Recipe.model_validate({k: v for k, v in document.value.items() if k != EDITOR_KEY})


def recipe_faults(
    document: Document, folder: Path | None = None, *, in_place: bool = False
) -> list[Fault]:
    """Everything wrong with a document as a recipe: reader, schema and rules across keys.

    Benchmarks that it names are read from ``folder`` (its file's own if None), and their faults are
    among these; so are missing files of metrics, if it is the recipe ``in_place``.
    """
    findings = schema_findings(document)
    start = folder or Path(document.file).parent
    filled, faults = with_benchmarks(document, start, in_place=in_place)
    findings += rule_findings(RecipeView.of(filled, findings), start if in_place else None)
    told = [f for f in findings if not _is_within(f.path, filled.unreadable)]
    return sorted({*document.faults, *faults, *(finding.fault(document) for finding in told)})


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe that is given by its path, or by its name if it is a shipped one.

    Raises:
        UsageError: there is none; the message lists the shipped ones.
    """
    given = str(name_or_path)
    path = Path(given)
    with suppress(OSError):  # a name that is too long for any file
        if path.is_file():
            return path
    shipped = shipped_recipes()
    if given in shipped:
        return shipped[given]
    listed = f"Shipped recipes are: {', '.join(shipped)}."
    if path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        also = f" Without its path, {path.stem} is a shipped one." if path.stem in shipped else ""
        raise UsageError(f"{given}: there is no such file.{also or ' ' + listed}")
    near = did_you_mean(given, shipped)
    raise UsageError(f"{given!r} is neither a file nor a shipped recipe. {listed} {near}".rstrip())


def shipped_recipes() -> Mapping[str, Path]:
    """Name -> file of the recipes that are installed with proofbox, by name."""
    found = (Path(str(entry)) for entry in files("recipes").iterdir())
    recipes = (p for p in found if p.suffix in SUFFIXES and not p.name.endswith(".schema.json"))
    return {path.stem: path for path in sorted(recipes)}


def _is_within(path: tuple[str | int, ...], roots: frozenset[tuple[str | int, ...]]) -> bool:
    return any(path[: len(root)] == root for root in roots)
