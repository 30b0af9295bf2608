"""Held-out loss as tables and charts: base, adapter, and what changed example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalsuite.catalogue import is_clean, on_clean_rows
from evalsuite.records import Evidence, Measurement, PairedDifference
from reports.charts import Bin, Curve, bins_of, curves, difference_histogram, paired_scatter
from reports.example_values import LossValues, check_same_examples, read_losses
from reports.exhibits import Figure, Table, names
from reports.metric_names import figure_of, group_of, is_loss, label_of
from reports.number_text import (
    MINUS,
    NOTHING,
    count,
    counted,
    fixed,
    interval_text,
    percent,
    scale_of,
    significant,
)
from reports.run_records import Training
from reports.slice_view import slice_tables
from reports.stored_run import StoredRun

# Examples named at each end of the table beside the scatter.
_EXTREMES = 10
_NATS = "nats per token"
_DIFFERENCE = f"adapter {MINUS} base, {_NATS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One metric of base and adapter; ``effect`` is better, worse or unclear (or empty)."""

    label: str
    unit: str
    metric: str
    base: str
    adapter: str
    difference: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLoss:
    """The held-out loss of one partition."""

    name: str
    examples: str
    rows: tuple[MetricRow, ...]
    figures: tuple[Figure, ...]
    slices: tuple[Table, ...]


def metric_row(evidence: Evidence, metric: str) -> MetricRow:
    """``metric`` of both subjects with intervals, and whether the difference excludes zero."""
    base = evidence.measurement(metric, "base")
    adapter = evidence.measurement(metric, "adapter")
    found = evidence.difference(metric)
    some = adapter or base
    scale = scale_of(some.unit if some else "")
    difference = NOTHING
    if found is not None:
        difference = interval_text(found.difference, found.low, found.high, scale, difference=True)
    label = label_of(figure_of(metric))
    return MetricRow(
        label=f"{label}, clean rows" if is_clean(metric) else label,
        unit="" if scale.unit == label.lower() else scale.unit,
        metric=metric,
        base=_measured(base),
        adapter=_measured(adapter),
        difference=difference,
        effect=effect_of(found, higher_is_better=some.higher_is_better if some else True),
    )


def metric_rows(evidence: Evidence, metrics: Sequence[str]) -> tuple[MetricRow, ...]:
    """Each of ``metrics``, followed by the same on the clean rows where some rows leak."""
    measured = {m.metric for m in evidence.measurements}
    both = (name for metric in metrics for name in (metric, on_clean_rows(metric)))
    return tuple(metric_row(evidence, metric) for metric in both if metric in measured)


def _measured(measurement: Measurement | None) -> str:
    if measurement is None:
        return NOTHING
    scale = scale_of(measurement.unit)
    return interval_text(measurement.value, measurement.low, measurement.high, scale)


def effect_of(difference: PairedDifference | None, *, higher_is_better: bool) -> str:
    """``better`` or ``worse`` where the 95% interval excludes zero, else ``unclear``."""
    if difference is None:
        return ""
    if difference.low <= 0.0 <= difference.high:
        return "unclear"
    return "better" if (difference.low > 0.0) == higher_is_better else "worse"


def partition_losses(run: StoredRun) -> list[PartitionLoss]:
    """Every partition whose loss was measured, the test partition first."""
    base, adapter = read_losses(run.results("base")), read_losses(run.results("adapter"))
    evidence = run.evidence
    measured = dict.fromkeys(m.metric for m in evidence.measurements)
    metrics = [metric for metric in measured if is_loss(metric) and not is_clean(metric)]
    partitions = sorted(dict.fromkeys(map(group_of, metrics)), key=lambda name: name != "test")
    return [
        PartitionLoss(
            name=name,
            examples=_examples(evidence, f"{name}.loss"),
            rows=metric_rows(evidence, [m for m in metrics if group_of(m) == name]),
            figures=_figures(name, base.get(name), adapter.get(name)),
            slices=slice_tables(evidence, name),
        )
        for name in partitions
    ]


def _examples(evidence: Evidence, metric: str) -> str:
    found = evidence.measurement(metric, "adapter") or evidence.measurement(metric, "base")
    return counted(found.examples, "example") if found else ""


def _figures(name: str, base: LossValues | None, adapter: LossValues | None) -> tuple[Figure, ...]:
    if base is None or adapter is None:
        return ()
    check_same_examples(base.example_ids, adapter.example_ids, f"loss of {name}")
    pairs = list(zip(base.per_token, adapter.per_token, strict=True))
    return _scatter(name, adapter.rows, pairs), _histogram(name, pairs)


def _scatter(name: str, rows: Sequence[int], pairs: Sequence[tuple[float, float]]) -> Figure:
    better = sum(adapter < base for base, adapter in pairs)
    title = f"The adapter has the lower loss on {better:,} of {counted(len(pairs), 'example')}"
    return Figure(
        title=title,
        chart=paired_scatter(
            pairs, key=f"scatter-{name}", title=title, unit=_NATS, smaller_is_better=True
        ),
        table=_extremes(name, rows, pairs),
        note=f"Each dot is one {name} example. Below the diagonal the adapter is better.",
    )


def _extremes(name: str, rows: Sequence[int], pairs: Sequence[tuple[float, float]]) -> Table:
    ordered = sorted(zip(rows, pairs, strict=True), key=lambda item: item[1][1] - item[1][0])
    if len(ordered) > 2 * _EXTREMES:
        ordered = ordered[:_EXTREMES] + ordered[-_EXTREMES:]
    return Table(
        caption=f"The {name} examples that gained and lost most, {_NATS}",
        columns=names("#Source row", "#Base", "#Adapter", "#Difference"),
        rows=tuple(
            (str(row), fixed(base, 3), fixed(adapter, 3), fixed(adapter - base, 3, signed=True))
            for row, (base, adapter) in ordered
        ),
    )


def _histogram(name: str, pairs: Sequence[tuple[float, float]]) -> Figure:
    differences = sorted(adapter - base for base, adapter in pairs)
    bins = bins_of(differences)
    middle = differences[len(differences) // 2]
    way = "lower" if middle < 0 else "higher"
    title = f"The typical example's loss is {significant(abs(middle))} nats per token {way}"
    return Figure(
        title=title,
        chart=difference_histogram(
            bins,
            key=f"differences-{name}",
            title=title,
            x_name=_DIFFERENCE,
            smaller_is_better=True,
        ),
        table=bin_table(bins, f"Differences of {name} examples", _DIFFERENCE),
        note="The median of the differences is named; bars left of zero are improvements.",
    )


def bin_table(bins: Sequence[Bin], caption: str, unit: str) -> Table:
    """The numbers of a histogram; empty bins are left out."""
    total = sum(b.count for b in bins)
    return Table(
        caption=caption,
        columns=names(f"#From ({unit})", "#To below", "#Examples", "#Share"),
        rows=tuple(
            (significant(b.low), significant(b.high), count(b.count), percent(b.count, total))
            for b in bins
            if b.count
        ),
    )


def training_figure(training: Training) -> Figure | None:
    """The training curve with the validation points; None where nothing was logged."""
    lines = []
    if training.history:
        points = tuple((float(p.step), p.loss) for p in training.history)
        lines.append(Curve(label="training", class_="quiet", points=points))
    if training.validation:
        points = tuple((float(p.step), p.loss) for p in training.validation)
        lines.append(Curve(label="validation", class_="adapter", points=points, marked=True))
    if not lines:
        return None
    title = _curve_title(training)
    return Figure(
        title=title,
        chart=curves(
            lines, key="training-curve", title=title, x_name="optimizer step", y_name=_NATS
        ),
        table=_curve_table(training),
        note="The training line is the logged loss of each step's examples; validation is measured "
        "on the whole partition, token-weighted.",
    )


def _curve_title(training: Training) -> str:
    name = "Validation" if training.validation else "Training"
    points = training.validation or training.history
    first, last = points[0], points[-1]
    if first.step == last.step:
        return f"{name} loss is {significant(last.loss)} after {counted(last.step, 'step')}"
    way = "fell" if last.loss < first.loss else "rose"
    return (
        f"{name} loss {way} from {significant(first.loss)} to {significant(last.loss)} "
        f"over {counted(training.steps, 'step')}"
    )


def _curve_table(training: Training) -> Table:
    logged = {point.step: point for point in training.history}
    validated = {point.step: point.loss for point in training.validation}
    rows = []
    for step in sorted(logged.keys() | validated.keys()):
        point, loss = logged.get(step), validated.get(step)
        rows.append(
            (
                count(step),
                fixed(point.loss, 4) if point else "",
                fixed(loss, 4) if loss is not None else "",
                significant(point.learning_rate) if point else "",
                count(round(point.tokens_per_second)) if point else "",
            )
        )
    return Table(
        caption="Loss by step, nats per token",
        columns=names(
            "#Step", "#Training loss", "#Validation loss", "#Learning rate", "#Tokens per second"
        ),
        rows=tuple(rows),
    )
