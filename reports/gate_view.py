"""The gates of a run as rows to look at: the worst first, each with its interval drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from evalsuite.records import (
    Evidence,
    Gate,
    GateResult,
    GateVerdict,
    Measured,
    Measurement,
    Verdict,
)
from reports.charts import Interval, gate_strip
from reports.metric_names import figure_of, group_of, label_of
from reports.number_text import (
    NOTHING,
    Scale,
    count,
    interval_text,
    plain,
    scale_of,
    significant,
    value_text,
)

# What the verdict of a run says about its release.
DECISIONS: dict[GateVerdict, str] = {
    "PASS": "RELEASE",
    "FAIL": "BLOCKED",
    "INCONCLUSIVE": "INCONCLUSIVE",
    "ERROR": "ERROR",
}
_WORST_FIRST: tuple[GateVerdict, ...] = ("ERROR", "FAIL", "INCONCLUSIVE", "PASS")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One gate in words, numbers and a drawing."""

    verdict: GateVerdict
    label: str
    group: str
    claim: str
    as_written: str
    reason: str
    base: str
    adapter: str
    difference: str
    examples: str
    smallest_detectable: str
    strip: Markup | None


def gate_rows(verdict: Verdict, evidence: Evidence) -> list[GateRow]:
    """The gates of ``verdict``, failing ones first."""
    ordered = sorted(verdict.gates, key=lambda result: _WORST_FIRST.index(result.verdict))
    return [_row(result, evidence, index) for index, result in enumerate(ordered)]


def _row(result: GateResult, evidence: Evidence, index: int) -> GateRow:
    gate = result.gate
    measured = evidence.measurement(gate.metric, "adapter")
    scale = scale_of(measured.unit) if measured else Scale(unit="")
    label = label_of(figure_of(gate.metric))
    return GateRow(
        verdict=result.verdict,
        label=label,
        group=group_of(gate.metric),
        claim=claim_words(gate, scale),
        as_written=gate_as_written(gate),
        reason=result.reason,
        base=_subject_text(evidence, gate.metric, result.base, scale, gate.against),
        adapter=_subject_text(evidence, gate.metric, result.adapter, scale, "adapter"),
        difference=_difference_text(evidence, gate, scale),
        examples=count(result.examples),
        smallest_detectable=_detectable_text(result.smallest_detectable, scale),
        strip=_strip(result, measured, scale, f"gate-{index}", label),
    )


def claim_words(gate: Gate, scale: Scale) -> str:
    """The claim as a sentence's end, in the unit that the numbers are read in."""
    margin = f"{plain(gate.margin * scale.factor)}{scale.difference_suffix}"
    reference = {"base": "the base", "release": "the last release"}[gate.against]
    match gate.claim:
        case "superior":
            return f"better than {reference}" + (f" by more than {margin}" if gate.margin else "")
        case "non_inferior":
            return f"less than {margin} worse than {reference}"
        case "floor":
            return f"above {plain((gate.at or 0.0) * scale.factor)}{scale.suffix}"
        case "ceiling":
            return f"below {plain((gate.at or 0.0) * scale.factor)}{scale.suffix}"


def gate_as_written(gate: Gate) -> str:
    """The gate in one line, as a recipe has it; what is left at its default is left out."""
    default = Gate(metric=gate.metric, claim=gate.claim)
    words = [gate.metric, gate.claim]
    if gate.at is not None:
        words.append(f"at {plain(gate.at)}")
    if gate.margin != default.margin:
        words.append(f"margin {plain(gate.margin)}")
    if gate.confidence != default.confidence:
        words.append(f"confidence {plain(gate.confidence)}")
    if gate.against != default.against:
        words.append(f"against {gate.against}")
    if gate.first_release != default.first_release:
        words.append(f"first_release {gate.first_release}")
    return " ".join(words)


def looks_sentence(verdict: Verdict) -> str:
    """Which look at the rows that decided it was, by the ledger."""
    counted = ", ".join(f"look {found.count:,} at {found.group}" for found in verdict.looks)
    return f"By the ledger: {counted}. Each look at the same rows makes a pass by luck likelier."


def _subject_text(
    evidence: Evidence, metric: str, value: float | None, scale: Scale, subject: Measured
) -> str:
    measured = evidence.measurement(metric, subject)
    if measured is None or value is None:
        return NOTHING
    return value_text(value, scale, half_width=(measured.high - measured.low) / 2)


def _difference_text(evidence: Evidence, gate: Gate, scale: Scale) -> str:
    found = evidence.difference(gate.metric, gate.against)
    if found is None:
        return NOTHING
    return interval_text(found.difference, found.low, found.high, scale, difference=True)


def _detectable_text(value: float | None, scale: Scale) -> str:
    if value is None:
        return NOTHING
    return f"{significant(value * scale.factor, 2)}{scale.difference_suffix}"


def _strip(
    result: GateResult, measured: Measurement | None, scale: Scale, key: str, label: str
) -> Markup | None:
    numbers = (result.estimate, result.low, result.high, result.threshold)
    estimate, low, high, threshold = numbers
    if measured is None or estimate is None or low is None or high is None or threshold is None:
        return None
    if not all(map(math.isfinite, (estimate, low, high, threshold))):
        return None
    own_value = result.gate.claim in ("floor", "ceiling")
    suffix = scale.suffix if own_value else scale.difference_suffix
    return gate_strip(
        Interval(value=estimate, low=low, high=high),
        threshold,
        key=key,
        title=f"{label}: interval against the gate's line",
        higher_passes=_higher_passes(result.gate, measured),
        class_=result.verdict.lower(),
        zero=not own_value,
        label=f"{plain(threshold * scale.factor, signed=not own_value)}{suffix}",
    )


def _higher_passes(gate: Gate, measured: Measurement) -> bool:
    if gate.claim in ("floor", "ceiling"):
        return gate.claim == "floor"
    return measured.higher_is_better
