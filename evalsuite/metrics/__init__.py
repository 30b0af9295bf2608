"""Metrics of generated answers: `evaluate.Metric` subclasses that also score item by item."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from evalsuite.catalogue import HUB, METRICS
from evalsuite.errors import EvaluationError
from evalsuite.records import MetricSpec

if TYPE_CHECKING:
    from evalsuite.metrics.item_metric import ItemMetric
    from evalsuite.records import CodeExecution


def load_metric(
    spec: str | MetricSpec,
    *,
    cache_dir: str | None = None,
    code_execution: CodeExecution | None = None,
) -> ItemMetric:
    """A metric as a recipe names it: a built-in one, an entry point's, a file's, or ``hub:…``.

    Args:
        spec: The metric with its options; a name where it has none.
        cache_dir: Where `evaluate` may write; its own default if None.
        code_execution: Given to metrics that run answers; their default if None.

    Raises:
        EvaluationError: No metric has this name, or it does not take these options.
    """
    spec = _spec(spec)
    kind, options = metric_kind(spec), dict(spec.options)
    if spec.file is None and spec.name.startswith(HUB):
        options["place"] = spec.name.removeprefix(HUB)
    if code_execution is not None and "code_execution" in inspect.signature(kind).parameters:
        options["code_execution"] = code_execution
    metric = _made(kind, spec.name, options, cache_dir)
    if spec.renamed is None:
        return metric
    from evalsuite.metrics.renamed_metric import RenamedMetric

    return RenamedMetric(metric, spec.renamed, cache_dir=cache_dir)


def metric_signature(spec: str | MetricSpec, metric: ItemMetric) -> str:
    """Everything that the scores of ``metric`` depend on, the code of others' metrics included."""
    spec = _spec(spec)
    if spec.name in METRICS and spec.file is None:
        return metric.signature
    options = json.dumps(dict(spec.options), sort_keys=True, ensure_ascii=False)
    return f"{_origin(spec)}options {options}, {metric.signature}"


def metric_kind(spec: MetricSpec) -> type[ItemMetric]:
    """The class of a metric.

    Raises:
        EvaluationError: No metric has this name.
    """
    if spec.file is not None:
        from evalsuite.metrics.file_metric import metric_class

        return metric_class(spec.file, spec.name)
    if spec.name.startswith(HUB):
        from evalsuite.metrics.loaded_metric import LoadedMetric

        return LoadedMetric
    module, _, attribute = _known(spec.name).partition(":")
    kind: type[ItemMetric] = getattr(importlib.import_module(module), attribute)
    return kind


def plugin_points() -> dict[str, EntryPoint]:
    """The metrics that installed packages add, by name."""
    return {point.name: point for point in entry_points(group="proofbox.metrics")}


def _spec(spec: str | MetricSpec) -> MetricSpec:
    return MetricSpec(name=spec) if isinstance(spec, str) else spec


def _known(name: str) -> str:
    """Module and class of the metric of this name."""
    known = {**{name: point.value for name, point in plugin_points().items()}, **METRICS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise EvaluationError(
            f"metric {name!r} is not known; known are {', '.join(sorted(known))}.{hint}"
        )
    return known[name]


def _options_of(kind: type[ItemMetric]) -> dict[str, bool]:
    """The options that a metric's constructor takes, and whether each must be given."""
    import evaluate

    # All else is passed on to `evaluate`, which takes anything, and has settings of its own.
    theirs = inspect.signature(evaluate.Metric).parameters
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in theirs and parameter.kind not in rest
    }


def _made(
    kind: type[ItemMetric], name: str, options: dict[str, Any], cache_dir: str | None
) -> ItemMetric:
    """A metric with its options, after a check that it takes them."""
    taken = _options_of(kind)
    unknown = next((option for option in options if option not in taken), None)
    missing = next((option for option in taken if taken[option] and option not in options), None)
    if unknown is not None or missing is not None:
        fault = f"does not take {unknown!r}" if unknown is not None else f"needs {missing!r}"
        raise EvaluationError(f"{name} {fault}; its options are {', '.join(taken) or 'none'}.")
    return kind(cache_dir=cache_dir, **options)


def _origin(spec: MetricSpec) -> str:
    """Where the code of a metric comes from that is none of ours."""
    if spec.file is not None:
        from evalsuite.metrics.file_metric import file_digest

        return f"{spec.file.name}:{spec.name} sha256 {file_digest(spec.file)}, "
    point = plugin_points().get(spec.name)
    package = point.dist if point is not None else None
    return f"{package.name} {package.version}, " if package is not None else ""
