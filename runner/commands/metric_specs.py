"""The metrics and extractions of a recipe as the eval suite's records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalsuite.catalogue import HUB, HUB_OPTIONS, METRIC_OPTIONS, METRICS
from evalsuite.records import Extraction, MetricSpec
from runner.errors import MachineError
from runner.recipe import ExtractBlock, ExtractionBlock, MetricBlock


def metric_specs(metrics: Iterable[str | MetricBlock], folder: Path) -> tuple[MetricSpec, ...]:
    """The metrics of a task; ``folder`` is where the recipe's or benchmark's paths start.

    Raises:
        MachineError: a JSON Schema cannot be read.
    """
    return tuple(
        MetricSpec(name=metric) if isinstance(metric, str) else _spec(metric, folder)
        for metric in metrics
    )


def extraction_of(block: ExtractionBlock | None) -> Extraction | None:
    """What is taken from a text, or None for all of it."""
    if block is None:
        return None
    return Extraction(**block.model_dump(exclude={"reference"}))


def extraction_of_references(block: ExtractBlock | None) -> Extraction | None:
    """What is taken from each reference, or None for all of it."""
    return None if block is None else extraction_of(block.reference)


def _spec(block: MetricBlock, folder: Path) -> MetricSpec:
    if block.file is not None:
        file, _, name = block.file.rpartition(":")
        return MetricSpec(
            name=name, file=folder / file, options=block.options, renamed=block.renamed
        )
    name = str(block.name)  # recipe_rules has made sure that there is one
    if name.startswith(HUB):
        name = _placed(name, folder)
        options = {key: getattr(block, key) for key in HUB_OPTIONS}
    elif name in METRICS:
        options = {key: _option(block, key, folder) for key in METRIC_OPTIONS[name]}
    else:
        options = block.options
    return MetricSpec(name=name, options=options, renamed=block.renamed)


def _placed(name: str, folder: Path) -> str:
    """A metric of the evaluate library, its path relative to the recipe made whole."""
    place = name.removeprefix(HUB)
    return f"{HUB}{(folder / place).resolve()}" if place.startswith((".", "/")) else name


def _option(block: MetricBlock, key: str, folder: Path) -> Any:  # noqa: ANN401 - any option
    if key != "schema":
        return getattr(block, key)
    schema = block.json_schema
    return _schema_file(folder / schema) if isinstance(schema, str) else schema


def _schema_file(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MachineError(f"{path}: cannot be read as a JSON Schema: {error}") from None
