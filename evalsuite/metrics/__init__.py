"""Metrics of generated answers: `evaluate.Metric` subclasses that also score item by item."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from evalsuite.catalogue import METRICS
from evalsuite.errors import EvaluationError

if TYPE_CHECKING:
    from evalsuite.metrics.item_metric import ItemMetric


def load_metric(name: str, *, cache_dir: str | None = None) -> ItemMetric:
    """The metric that a recipe calls ``name``: a built-in one or a "proofbox.metrics" entry point.

    Args:
        name: As in ``evaluation.generation[].metrics``.
        cache_dir: Where `evaluate` may write; its own default if None.

    Raises:
        EvaluationError: No metric has this name.
    """
    installed = {point.name: point.value for point in entry_points(group="proofbox.metrics")}
    known = {**installed, **METRICS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise EvaluationError(
            f"metric {name!r} is not known; known are {', '.join(sorted(known))}.{hint}"
        )
    module, _, attribute = known[name].partition(":")
    metric: ItemMetric = getattr(importlib.import_module(module), attribute)(cache_dir=cache_dir)
    return metric
