"""Rules across keys about the data: sources, format and columns, partitions, leaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from runner.data.reading.urls import is_chained, is_url, secret_in
from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding, sentences
from runner.recipe_reading.format_columns import FORMAT_COLUMNS, plugin_formats
from runner.recipe_reading.jinja_source import expression_problem
from runner.recipe_reading.nearest_name import did_you_mean
from runner.recipe_reading.recipe_view import RecipeView

PARTITIONS = ("train", "validation", "test")
# Columns of the answer -> columns of the prompt.
_ANSWER_COLUMNS = {"output": ("instruction", "input"), "completion": ("prompt",)}
_LOCAL_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".gz", ".bz2", ".xz", ".zst")
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _Source:
    """One of a recipe's sources, however it is written."""

    path: KeyPath
    values: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.values["path"])

    def get(self, key: str) -> Any:  # noqa: ANN401 - checked against the schema already
        return self.values.get(key)


def sources_of(recipe: RecipeView) -> list[_Source]:
    """The recipe's sources.

    Raises:
        Unclear: something is wrong with one of them.
    """
    given = recipe.value("dataset", "source")
    path: KeyPath = ("dataset", "source")
    if not isinstance(given, list):
        return [_Source(path, {"path": given})]
    return [
        _Source((*path, index), item if isinstance(item, dict) else {"path": item})
        for index, item in enumerate(given)
    ]


def why_no_rows(recipe: RecipeView, partition: str) -> tuple[str, str] | None:
    """Why a partition has no rows and what to do about it, or None where it has some.

    Raises:
        Unclear: what decides it is itself wrong.
    """
    named = {source.get("partition") for source in sources_of(recipe)}
    if partition in named:
        return None
    if None not in named:
        return f"no source has partition: {partition}", "Give it to one"
    if recipe.value("dataset", "partition", partition) > 0:
        return None
    return f"dataset.partition.{partition} is 0", "Give it a share"


def is_local(source: str) -> bool:
    """Whether ``source`` can only be a path or a URL: the Hub has no such names."""
    begins = source.startswith((".", "/", "~"))
    return begins or is_url(source) or PurePath(source).suffix in _LOCAL_SUFFIXES


# Partitions


def shares_sum_to_one(recipe: RecipeView) -> Iterator[Finding]:
    """The shares of train, validation and test make up all rows."""
    path = ("dataset", "partition")
    shares = {name: float(recipe.value(*path, name)) for name in PARTITIONS}
    total = sum(shares.values())
    if abs(total - 1) > _ROUNDING and _divides(recipe):
        parts = " + ".join(
            f"{name} {share:g}{'' if recipe.gives(*path, name) else ' (default)'}"
            for name, share in shares.items()
        )
        yield Finding(path=path, message=f"{parts} is {total:g}, and must be 1", at_key=True)


def _divides(recipe: RecipeView) -> bool:
    """Whether a source leaves it open which partition its rows belong to."""
    return any(source.get("partition") is None for source in sources_of(recipe))


def partition_divides_something(recipe: RecipeView) -> Iterator[Finding]:
    """Rows are divided only where a source leaves it open."""
    if _divides(recipe):
        return
    if recipe.gives("dataset", "partition"):
        message = "this has no effect: every source names its own partition. Remove it."
        yield Finding(path=("dataset", "partition"), message=message, at_key=True)
    if reason := why_no_rows(recipe, "train"):
        message = f"train has no rows: {reason[0]}. {reason[1]}."
        yield Finding(path=("dataset", "source"), message=message, at_key=True)


def strata_can_hold(recipe: RecipeView) -> Iterator[Finding]:
    """Shares hold in every stratum only where nothing else decides where a row goes."""
    path = ("dataset", "partition")
    if recipe.value(*path, "stratify") is None:
        return
    if recipe.value(*path, "group") is not None:
        message = "this excludes group: whole groups cannot keep the shares. Remove one of the two."
        yield Finding(path=(*path, "stratify"), message=message, at_key=True)
    elif recipe.value(*path, "by") == "hash":
        default = "" if recipe.gives(*path, "by") else " (the default)"
        message = sentences(
            f"this has no effect with by: hash{default}, which keeps shares only on average",
            "Write by: random or by: position, or remove this.",
        )
        yield Finding(path=(*path, "stratify"), message=message, at_key=True)


# Sources


def weights_are_for_training(recipe: RecipeView) -> Iterator[Finding]:
    """Held-out rows are used once."""
    for source in sources_of(recipe):
        partition, weight = source.get("partition"), source.get("weight")
        if partition in ("validation", "test") and weight is not None and weight != 1:
            message = f"this has no effect: {partition} rows are used once. Remove it."
            yield Finding(path=(*source.path, "weight"), message=message, at_key=True)


def files_have_no_revision(recipe: RecipeView) -> Iterator[Finding]:
    """Splits and revisions are named for Hub datasets alone."""
    sources = sources_of(recipe)
    for source in sources:
        for key in ("split", "revision"):
            if source.get(key) is not None and is_local(source.name):
                message = f"this has no effect: only Hub datasets have {key}s. Remove it."
                yield Finding(path=(*source.path, key), message=message, at_key=True)
    for key, default in (("split", "train"), ("revision", None)):
        if recipe.value("dataset", key) != default:
            why = _without_effect(key, sources)
            if why:
                yield Finding(path=("dataset", key), message=why, at_key=True)


def _without_effect(key: str, sources: list[_Source]) -> str | None:
    """Why a split or revision for the whole dataset means nothing, or None."""
    elsewhere = [source for source in sources if not is_local(source.name)]
    if not elsewhere:
        return f"this has no effect: only Hub datasets have {key}s. Remove it."
    if all(source.get(key) is not None for source in elsewhere):
        return f"this has no effect: every source has its own {key}. Remove it."
    if key == "revision" and len({source.name for source in elsewhere}) > 1:
        return "several Hub datasets cannot share a revision. Give each source its own."
    return None


def urls_are_plain(recipe: RecipeView) -> Iterator[Finding]:
    """A recipe is committed and stored with its runs: no password may be in it, nor hidden in it.

    The message never repeats the URL.
    """
    for source in sources_of(recipe):
        problem = _url_problem(source.name) if is_url(source.name) else None
        if problem:
            in_block = recipe.gives(*source.path, "path")
            path = (*source.path, "path") if in_block else source.path
            yield Finding(path=path, message=problem)


def _url_problem(url: str) -> str | None:
    if is_chained(url):
        return "this URL chains protocols (::), which is not read here. Name the URL itself."
    secret = secret_in(url)
    if secret is None:
        return None
    return sentences(
        f"this URL holds {secret}, and a recipe is stored with each of its runs",
        "Remove it: credentials come from the environment (~/.netrc for https, AWS_… for "
        "s3, GOOGLE_APPLICATION_CREDENTIALS for gs).",
    )


def filters_are_jinja(recipe: RecipeView) -> Iterator[Finding]:
    """A filter is one Jinja expression."""
    whole = recipe.value("dataset", "filter")
    if whole is not None and (problem := expression_problem(whole)):
        yield Finding(path=("dataset", "filter"), message=problem)
    for source in sources_of(recipe):
        own = source.get("filter")
        if own is not None and (problem := expression_problem(own)):
            yield Finding(path=(*source.path, "filter"), message=problem)


# Format and columns


def format_is_known(recipe: RecipeView) -> Iterator[Finding]:
    """The format is ours or an installed plug-in's."""
    name = recipe.value("dataset", "format")
    if name is None or name in FORMAT_COLUMNS:
        return
    known = sorted({*FORMAT_COLUMNS, *plugin_formats()})
    if name not in known:
        message = sentences(
            f"{name!r} is not a format. There are {', '.join(known)}", did_you_mean(name, known)
        )
        yield Finding(path=("dataset", "format"), message=message)


def columns_fit_format(recipe: RecipeView) -> Iterator[Finding]:
    """Only columns that the format has are named."""
    name = recipe.value("dataset", "format")
    columns = dict.fromkeys(column for names in FORMAT_COLUMNS.values() for column in names)
    path = ("dataset", "columns")
    given = [column for column in columns if recipe.gives(*path, column)]
    if name is None and not any(set(given) <= {*names} for names in FORMAT_COLUMNS.values()):
        message = f"no format has the columns {', '.join(given)} together. Remove those not meant."
        yield Finding(path=path, message=message, at_key=True)
    if name not in FORMAT_COLUMNS:
        return
    for column in given:
        if column not in FORMAT_COLUMNS[name]:
            known = ", ".join(FORMAT_COLUMNS[name])
            message = f"this has no effect: format {name} has the columns {known}"
            yield Finding(path=(*path, column), message=message, at_key=True)


def columns_differ(recipe: RecipeView) -> Iterator[Finding]:
    """The answer's column is none of the columns that make the prompt."""
    name = recipe.value("dataset", "format")
    read = FORMAT_COLUMNS.get(name, ()) if name is not None else tuple(_ANSWER_COLUMNS)
    for answer in (column for column in _ANSWER_COLUMNS if column in read):
        column = recipe.value("dataset", "columns", answer)
        for part in _ANSWER_COLUMNS[answer]:
            if recipe.value("dataset", "columns", part) == column:
                message = (
                    f"{column!r} is also the column of {part}: the prompt would hold the answer"
                )
                at = answer if recipe.gives("dataset", "columns", answer) else part
                yield Finding(path=("dataset", "columns", at), message=message)


# Leaks


def threshold_is_used(recipe: RecipeView) -> Iterator[Finding]:
    """A threshold is for near duplicates."""
    path = ("dataset", "leaks", "threshold")
    if recipe.value("dataset", "leaks", "near") == "ignore" and recipe.gives(*path):
        message = "this has no effect with near: ignore. Remove one of the two."
        yield Finding(path=path, message=message, at_key=True)


# What holds for rows of any kind, and what of those that are divided and trained on.
ROWS_RULES = (
    files_have_no_revision,
    urls_are_plain,
    filters_are_jinja,
    format_is_known,
    columns_fit_format,
    columns_differ,
)
DATASET_RULES = (
    *ROWS_RULES,
    shares_sum_to_one,
    partition_divides_something,
    strata_can_hold,
    weights_are_for_training,
    threshold_is_used,
)
