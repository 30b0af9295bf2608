"""Verdicts and comparisons for the terminal: tables of rich, with no markup from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evalsuite.records import GateResult, GateVerdict, Verdict
from reports.comparison import ComparedMetric, ComparedValue, Comparison
from reports.gate_view import DECISIONS, gate_as_written, looks_sentence
from reports.loss_view import effect_of
from reports.number_text import (
    MINUS,
    NOTHING,
    count,
    interval_text,
    scale_of,
    seconds,
    significant,
    size,
)
from reports.seed_groups import SeedGroup
from reports.visible_text import visible

Number = TypeVar("Number", int, float)

_STYLES: dict[GateVerdict, str] = {
    "PASS": "green",
    "FAIL": "red",
    "INCONCLUSIVE": "yellow",
    "ERROR": "magenta",
}


def verdict_panel(verdict: Verdict) -> RenderableType:
    """The verdict of a run with its gates, for the end of ``proofbox run`` and for ``gate``."""
    style = _STYLES[verdict.verdict]
    parts: list[RenderableType] = [_text(verdict.reason)]
    if verdict.gates:
        parts += [Text(), _gate_table(verdict)]
    parts += [_text(f"\nwarning: {warning}", "yellow") for warning in verdict.warnings]
    if verdict.looks:
        parts += [Text(), _text(looks_sentence(verdict), "dim")]
    if verdict.adapter_digest is not None:
        parts += [Text(), _text(f"adapter {verdict.adapter_digest}", "dim")]
    title = Text(f" {verdict.verdict} {MINUS} {DECISIONS[verdict.verdict]} ", f"bold {style}")
    if verdict.verdict == DECISIONS[verdict.verdict]:
        title = Text(f" {verdict.verdict} ", f"bold {style}")
    return Panel(
        Group(*parts),
        title=_ascii_minus(title),
        title_align="left",
        border_style=style,
        box=box.ROUNDED,
        padding=(1, 1),
    )


def _gate_table(verdict: Verdict) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("verdict", "gate"):
        table.add_column(name, header_style="dim", overflow="fold")
    for name in ("estimate", "examples"):
        table.add_column(name, header_style="dim", justify="right", overflow="fold")
    for result in verdict.gates:
        metric, _, claim = gate_as_written(result.gate).partition(" ")
        table.add_row(
            Text(result.verdict, _STYLES[result.verdict]),
            Group(_text(metric), _text(f"  {claim}", "dim")),
            _text(_estimate_text(result)),
            _text(count(result.examples)),
        )
    return table


def _estimate_text(result: GateResult) -> str:
    if result.estimate is None or result.low is None or result.high is None:
        return NOTHING
    return interval_text(result.estimate, result.low, result.high, scale_of(""))


def comparison_table(comparison: Comparison) -> RenderableType:
    """Recipe differences, then every metric with its difference from the baseline."""
    parts: list[RenderableType] = []
    if comparison.recipe_differences:
        parts += [_recipe_table(comparison), Text()]
    parts.append(_metric_table(comparison))
    if len(comparison.runs) > 1:
        parts.append(
            _text(
                f"Second lines are differences from {comparison.baseline.label}, paired by "
                "example, with 95% intervals; dim ones are within noise. “best” separates from "
                "every other run.",
                "dim",
            )
        )
    parts += [part for group in comparison.seeds for part in (Text(), _seed_table(group))]
    for refused in comparison.refused:
        what = f"{refused.group} of {refused.label}"
        parts += [Text(), _text(f"not compared: {what}: {refused.reason}", "yellow")]
    for run in comparison.excluded:
        parts += [Text(), _text(f"not compared: {run.label}: {run.reason}", "yellow")]
    return Group(*parts)


def _seed_table(group: SeedGroup) -> Table:
    """How far the seed alone moves each metric."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(_text(f"{len(group.labels)} seeds of one recipe"), overflow="fold")
    for name in ("mean", "between runs", "of it the seed's", "by examples"):
        table.add_column(name, justify="right")
    for spread in group.spreads:
        deviations = (spread.spread, spread.seed_deviation, spread.item_error)
        numbers = (significant(spread.mean, 4), *(significant(number, 2) for number in deviations))
        table.add_row(_text(spread.metric), *map(_text, numbers))
    table.caption = _text(
        f"{', '.join(group.labels)}: standard deviation between these runs, what of it is left "
        "with ever more examples, and the standard error of one run.",
        "dim",
    )
    return table


def _recipe_table(comparison: Comparison) -> Table:
    table = _run_table("recipe", comparison)
    for difference in comparison.recipe_differences:
        table.add_row(_text(difference.key), *(_text(value) for value in difference.values))
    return table


def _metric_table(comparison: Comparison) -> Table:
    table = _run_table("metric", comparison)
    for metric in comparison.metrics:
        table.add_row(_metric_name(metric), *(_cell(metric, value) for value in metric.values))
    table.add_section()
    runs = comparison.runs
    table.add_row("verdict", *(Text(run.verdict, _STYLES[run.verdict]) for run in runs))
    table.add_row("training time", *(_known(run.training_seconds, seconds) for run in runs))
    table.add_row(
        "tokens/s", *(_known(run.tokens_per_second, lambda n: count(round(n))) for run in runs)
    )
    table.add_row("peak memory", *(_known(run.peak_memory_bytes, size) for run in runs))
    table.add_row("trainable", *(_known(run.trainable_parameters, count) for run in runs))
    return table


def _known(value: Number | None, words: Callable[[Number], str]) -> Text:
    """A number in words; of an adapter that was trained elsewhere nothing is known."""
    return _text(NOTHING if value is None else words(value))


def _run_table(first: str, comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for run in comparison.runs:
        table.add_column(_text(run.label), justify="right", overflow="fold")
    return table


def _metric_name(metric: ComparedMetric) -> Text:
    name = _text(metric.metric)
    unit = scale_of(metric.unit).unit
    return name.append(f"\n{unit}", "dim") if unit else name


def _cell(metric: ComparedMetric, value: ComparedValue) -> Text:
    measured, scale = value.measurement, scale_of(metric.unit)
    if measured is None:
        return _text(NOTHING)
    cell = _text(interval_text(measured.value, measured.low, measured.high, scale))
    if value.best:
        cell = _text("best ", "bold green") + cell
    found = value.difference
    if found is None:
        return cell
    effect = effect_of(found, higher_is_better=metric.higher_is_better)
    style = {"better": "green", "worse": "red", "unclear": "dim"}[effect]
    words = interval_text(found.difference, found.low, found.high, scale, difference=True)
    if value.seed_noise:
        style, words = "dim", f"{words} (seeds differ as much)"
    return cell + Text("\n") + _text(words, style)


def _text(words: str, style: str = "") -> Text:
    """Text without markup, control characters, or signs that an ASCII terminal lacks."""
    return _ascii_minus(Text(visible(words), style))


def _ascii_minus(text: Text) -> Text:
    plain_words = text.plain.replace(MINUS, "-").replace(NOTHING, "-")
    return Text(plain_words.replace("“", '"').replace("”", '"'), text.style)
