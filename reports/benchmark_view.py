"""Generation benchmarks as dumbbells and tables, and what each binary figure gained and lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalsuite.catalogue import is_clean
from evalsuite.records import Evidence, Measurement, PairedDifference, Verdict
from reports.charts import Dumbbell, Interval, Share, dumbbells, share_bar
from reports.exhibits import Figure, Table, names
from reports.loss_view import MetricRow, metric_row, metric_rows
from reports.metric_names import figure_of, group_of, is_loss, label_of, telling_rank
from reports.number_text import Scale, count, counted, percent, scale_of, significant
from reports.svg import round_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """What became of the items of a binary figure."""

    label: str
    figure: str
    bar: Markup
    both_right: str
    gained: str
    lost: str
    both_wrong: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One generation task: its figures, drawn and in numbers."""

    name: str
    examples: str
    rows: tuple[MetricRow, ...]
    figures: tuple[Figure, ...]
    churn: tuple[Churn, ...]


def task_views(evidence: Evidence, verdict: Verdict) -> list[TaskView]:
    """Every generation task of the evidence, its most telling figures first."""
    measured = dict.fromkeys(m.metric for m in evidence.measurements)
    found = [metric for metric in measured if not is_loss(metric) and not is_clean(metric)]
    metrics = sorted(found, key=lambda metric: telling_rank(figure_of(metric)))
    tasks = dict.fromkeys(map(group_of, found))
    return [
        _task(name, [m for m in metrics if group_of(m) == name], evidence, verdict)
        for name in tasks
    ]


def _task(name: str, metrics: Sequence[str], evidence: Evidence, verdict: Verdict) -> TaskView:
    some = next(m for m in evidence.measurements if m.metric == metrics[0])
    return TaskView(
        name=name,
        examples=counted(some.examples, "example"),
        rows=metric_rows(evidence, metrics),
        figures=tuple(_figures(name, metrics, evidence, verdict)),
        churn=tuple(churn for metric in metrics if (churn := _churn(evidence, metric)) is not None),
    )


def _figures(
    name: str, metrics: Sequence[str], evidence: Evidence, verdict: Verdict
) -> list[Figure]:
    """One dumbbell chart a kind of unit, since a chart has one scale."""
    units: dict[str, list[str]] = {}
    for metric in metrics:
        some = next(m for m in evidence.measurements if m.metric == metric)
        units.setdefault(_axis_of(some.unit), []).append(metric)
    return [
        _dumbbell_figure(f"{name}-{index}", axis, group, evidence, verdict)
        for index, (axis, group) in enumerate(units.items())
    ]


def _axis_of(unit: str) -> str:
    """Figures that share an axis: percentages, then each other unit on its own."""
    return scale_of(unit).unit


def _dumbbell_figure(
    key: str, axis: str, metrics: Sequence[str], evidence: Evidence, verdict: Verdict
) -> Figure:
    rows = [_dumbbell(metric, evidence, verdict) for metric in metrics]
    title = _title(metrics, evidence)
    return Figure(
        title=title,
        chart=dumbbells(
            rows, key=f"dumbbell-{key}", title=title, x_name=axis or "value", span=_span(rows, axis)
        ),
        table=_table(metrics, evidence),
        note="Lines through the dots are 95% intervals."
        + (" The band is what a gate's margin allows." if any(r.allowed for r in rows) else ""),
    )


def _span(rows: Sequence[Dumbbell], axis: str) -> tuple[float, float]:
    if axis.startswith("%") or axis == "points of 100":
        return 0.0, 100.0
    if axis == "F1":
        return 0.0, 1.0
    ends = [
        end
        for row in rows
        for interval in (row.base, row.adapter)
        if interval is not None
        for end in (interval.low, interval.high, interval.value)
        if math.isfinite(end)
    ]
    return round_range(min(0.0, *ends), max(ends))


def _dumbbell(metric: str, evidence: Evidence, verdict: Verdict) -> Dumbbell:
    base, adapter = evidence.measurement(metric, "base"), evidence.measurement(metric, "adapter")
    some = adapter or base
    scale = scale_of(some.unit if some else "")
    return Dumbbell(
        label=label_of(figure_of(metric)),
        base=_interval(base, scale),
        adapter=_interval(adapter, scale),
        allowed=_allowed(metric, base, verdict, scale),
    )


def _interval(measured: Measurement | None, scale: Scale) -> Interval | None:
    if measured is None:
        return None
    value, low, high = (
        number * scale.factor for number in (measured.value, measured.low, measured.high)
    )
    if not (math.isfinite(low) and math.isfinite(high)):
        low = high = value
    return Interval(value=value, low=low, high=high)


def _allowed(metric: str, base: Measurement | None, verdict: Verdict, scale: Scale) -> float | None:
    """The worst value that a non-inferiority gate on ``metric`` allows."""
    if base is None:
        return None
    for result in verdict.gates:
        if result.gate.metric == metric and result.gate.claim == "non_inferior":
            sign = -1.0 if base.higher_is_better else 1.0
            return (base.value + sign * result.gate.margin) * scale.factor
    return None


def _title(metrics: Sequence[str], evidence: Evidence) -> str:
    """What the chart shows: the one figure's way, or how many figures went which way."""
    rows = [metric_row(evidence, metric) for metric in metrics]
    judged = [row for row in rows if row.effect]
    if not judged:
        return f"{_listed([row.label for row in rows])} of the adapter"
    return _one_title(rows[0]) if len(rows) == 1 else _many_title([row.effect for row in judged])


def _many_title(effects: Sequence[str]) -> str:
    two = len(effects) == 2  # noqa: PLR2004 - two are both, or neither
    if set(effects) == {"unclear"}:
        return f"No clear change in {'either' if two else 'any'} of {len(effects)} figures"
    if len(set(effects)) == 1:
        return f"The adapter is {effects[0]} on {'both' if two else f'all {len(effects)}'} figures"
    counts = [(effect, effects.count(effect)) for effect in ("better", "worse", "unclear")]
    parts = [f"{effect} on {number}" for effect, number in counts if number]
    return f"Of {len(effects)} figures the adapter is {_listed(parts)}"


def _one_title(row: MetricRow) -> str:
    before, after = (text.partition(" [")[0] for text in (row.base, row.adapter))
    if row.effect == "unclear":
        return f"{row.label} shows no clear change ({before} to {after})"
    word = "better" if row.effect == "better" else "worse"
    return f"{row.label} is {word} with the adapter: {before} to {after}"


def _listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _table(metrics: Sequence[str], evidence: Evidence) -> Table:
    rows = [metric_row(evidence, metric) for metric in metrics]
    return Table(
        caption="Base and adapter with 95% intervals",
        columns=names("Figure", "Unit", "#Base", "#Adapter", "#Difference"),
        rows=tuple((r.label, r.unit, r.base, r.adapter, r.difference) for r in rows),
    )


def _churn(evidence: Evidence, metric: str) -> Churn | None:
    """The four outcomes of a binary figure; None where it is no binary one."""
    found = evidence.difference(metric)
    adapter = evidence.measurement(metric, "adapter")
    if found is None or adapter is None or found.gained is None or found.lost is None:
        return None
    right = round(adapter.value * found.examples)
    both = right - found.gained
    wrong = found.examples - right - found.lost
    label = label_of(figure_of(metric))
    return Churn(
        label=label,
        figure=figure_of(metric),
        bar=share_bar(
            (
                Share(label="both right", class_="both", count=both),
                Share(label="gained", class_="adapter", count=found.gained),
                Share(label="lost", class_="base", count=found.lost),
                Share(label="both wrong", class_="neither", count=wrong),
            ),
            key=f"churn-{group_of(metric)}-{figure_of(metric)}",
            title=f"{label}: what was gained and lost",
        ),
        both_right=_part(both, found.examples),
        gained=_part(found.gained, found.examples),
        lost=_part(found.lost, found.examples),
        both_wrong=_part(wrong, found.examples),
        sentence=_churn_sentence(found, found.gained, found.lost),
    )


def _part(number: int, whole: int) -> str:
    return f"{count(number)} ({percent(number, whole)})"


def _churn_sentence(found: PairedDifference, gained: int, lost: int) -> str:
    words = f"{count(gained)} gained for {count(lost)} lost"
    if found.p_value is None:
        return words
    least = 0.001
    value = "< 0.001" if found.p_value < least else f"= {significant(found.p_value, 2)}"
    return f"{words} (exact McNemar test, p {value})"
