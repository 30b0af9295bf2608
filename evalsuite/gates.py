"""Verdicts: whether the evidence bears out each claim about an adapter.

The burden of proof is on the adapter. A gate passes only if the whole interval clears the claim,
fails only if the interval excludes it, and is inconclusive between. All gates must pass, which is
an intersection-union test: each at its own level, no correction (Berger 1982, Technometrics 24).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalsuite.catalogue import is_clean
from evalsuite.errors import StatisticsError
from evalsuite.record_files import evidence_digest
from evalsuite.records import (
    Evidence,
    Gate,
    GateResult,
    GateVerdict,
    Measurement,
    PairedDifference,
    Verdict,
)
from evalsuite.statistics import (
    clopper_pearson,
    exponential_limit,
    t_interval,
    t_quantile,
    tango_interval,
)

# Worst first.
_SEVERITY: tuple[GateVerdict, ...] = ("ERROR", "FAIL", "INCONCLUSIVE", "PASS")
# The smallest detectable effect is the one that passes with this probability.
_POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A claim reduced to: does the interval lie on the claimed side of the threshold?"""

    estimate: float
    low: float
    high: float
    threshold: float
    upward: bool
    strict: bool
    examples: int
    standard_error: float
    degrees_of_freedom: float


class _UnanswerableError(Exception):
    """The evidence cannot answer the gate; the message is the reason of the ERROR verdict."""


def judge(gates: Sequence[Gate], evidence: Evidence) -> Verdict:
    """The verdict of every gate and of the run, which is the worst of them.

    A run without gates is inconclusive: nothing was claimed, so nothing was shown.
    """
    results = tuple(judge_gate(gate, evidence) for gate in gates)
    worst: GateVerdict = min(
        (result.verdict for result in results), key=_SEVERITY.index, default="INCONCLUSIVE"
    )
    return Verdict(
        verdict=worst,
        reason=_summary(worst, results),
        gates=results,
        adapter_digest=evidence.adapter_digest,
        base_digest=evidence.base_digest,
        evidence_digest=evidence_digest(evidence),
    )


def judge_gate(gate: Gate, evidence: Evidence) -> GateResult:
    """The verdict of one gate.

    ``low`` and ``high`` of the result miss with probability 1 - confidence on each side, so the
    drawn interval clears the threshold exactly when the gate passes.
    """
    try:
        question = _question(gate, evidence)
    except (_UnanswerableError, StatisticsError) as error:
        return _result(gate, evidence, None, "ERROR", str(error))
    verdict = _answer(question)
    return _result(gate, evidence, question, verdict, _reason(gate, question, verdict))


def _question(gate: Gate, evidence: Evidence) -> _Question:
    if not 0.5 < gate.confidence < 1.0:  # noqa: PLR2004 (a coin toss proves nothing)
        raise _UnanswerableError(
            f"confidence {gate.confidence} is not possible; it must lie between 0.5 and 1."
        )
    if gate.claim in ("floor", "ceiling"):
        return _absolute_question(gate, evidence)
    return _paired_question(gate, evidence)


def _absolute_question(gate: Gate, evidence: Evidence) -> _Question:
    if gate.at is None or not math.isfinite(gate.at):
        raise _UnanswerableError(f"a {gate.claim} needs a finite number `at`; found {gate.at}.")
    measured = evidence.measurement(gate.metric, "adapter")
    if measured is None:
        raise _UnanswerableError(_missing(gate.metric, evidence, "of the adapter"))
    _require_numbers(gate.metric, measured.value, measured.standard_error, measured.examples)
    low, high = _measurement_interval(measured, 1.0 - gate.confidence)
    return _Question(
        estimate=measured.value,
        low=low,
        high=high,
        threshold=gate.at,
        upward=gate.claim == "floor",
        strict=False,
        examples=measured.examples,
        standard_error=measured.standard_error,
        degrees_of_freedom=measured.degrees_of_freedom,
    )


def _paired_question(gate: Gate, evidence: Evidence) -> _Question:
    if not (gate.margin >= 0.0 and math.isfinite(gate.margin)):
        raise _UnanswerableError(f"margin {gate.margin} is not possible; it must be 0 or more.")
    difference = evidence.difference(gate.metric)
    measured = evidence.measurement(gate.metric, "adapter")
    if difference is None or measured is None:
        raise _UnanswerableError(
            _missing(gate.metric, evidence, "of base and adapter on the same items")
        )
    _require_numbers(
        gate.metric, difference.difference, difference.standard_error, difference.examples
    )
    low, high = _difference_interval(difference, 1.0 - gate.confidence)
    toward_better = gate.margin if gate.claim == "superior" else -gate.margin
    return _Question(
        estimate=difference.difference,
        low=low,
        high=high,
        # + 0.0 turns -0.0 into 0.0, which reads better.
        threshold=(toward_better if measured.higher_is_better else -toward_better) + 0.0,
        upward=measured.higher_is_better,
        strict=True,
        examples=difference.examples,
        standard_error=difference.standard_error,
        degrees_of_freedom=difference.degrees_of_freedom,
    )


def _require_numbers(metric: str, value: float, error: float, examples: int) -> None:
    if examples < 1:
        raise _UnanswerableError(f"{metric} was measured on no example.")
    if not math.isfinite(value) or math.isnan(error) or error < 0.0:
        raise _UnanswerableError(
            f"{metric} is {value} with standard error {error}, which is no result."
        )


def _measurement_interval(measured: Measurement, tail: float) -> tuple[float, float]:
    if measured.method == "binary-items":
        successes = round(measured.value * measured.examples)
        return clopper_pearson(successes, measured.examples, tail)
    error, freedom = measured.standard_error, measured.degrees_of_freedom
    if measured.method == "log-ratio":
        if measured.value <= 0.0:
            raise _UnanswerableError(f"{measured.metric} is {measured.value}; it must be positive.")
        low, high = t_interval(math.log(measured.value), error / measured.value, freedom, tail)
        return exponential_limit(low), exponential_limit(high)
    return t_interval(measured.value, error, freedom, tail)


def _difference_interval(difference: PairedDifference, tail: float) -> tuple[float, float]:
    if difference.method == "binary-items":
        gained, lost = difference.gained, difference.lost
        if gained is None or lost is None:
            raise _UnanswerableError(
                f"{difference.metric} counts items but the counts of gained and lost are missing."
            )
        return tango_interval(gained, lost, difference.examples, tail)
    return t_interval(
        difference.difference, difference.standard_error, difference.degrees_of_freedom, tail
    )


def _answer(question: _Question) -> GateVerdict:
    """PASS if the interval lies wholly on the claimed side, FAIL if wholly off it."""
    low, high, threshold = question.low, question.high, question.threshold
    if not question.upward:
        low, high, threshold = -high, -low, -threshold
    if low > threshold or (low == threshold and not question.strict):
        return "PASS"
    if high < threshold or (high == threshold and question.strict):
        return "FAIL"
    return "INCONCLUSIVE"


def _result(
    gate: Gate,
    evidence: Evidence,
    question: _Question | None,
    verdict: GateVerdict,
    reason: str,
) -> GateResult:
    base = evidence.measurement(gate.metric, "base")
    adapter = evidence.measurement(gate.metric, "adapter")
    return GateResult(
        gate=gate,
        verdict=verdict,
        reason=reason,
        base=_finite(base),
        adapter=_finite(adapter),
        estimate=None if question is None else question.estimate,
        bound=None if question is None else _bound(question),
        low=None if question is None else question.low,
        high=None if question is None else question.high,
        threshold=None if question is None else question.threshold,
        examples=0 if question is None else question.examples,
        smallest_detectable=None if question is None else _smallest_detectable(gate, question),
    )


def _finite(measured: Measurement | None) -> float | None:
    if measured is None or not math.isfinite(measured.value):
        return None
    return measured.value


def _bound(question: _Question) -> float:
    """The end of the interval that decides whether the gate passes."""
    return question.low if question.upward else question.high


def _smallest_detectable(gate: Gate, question: _Question) -> float | None:
    """Distance beyond the threshold at which 80% of such evaluations would pass."""
    if not math.isfinite(question.standard_error):
        return None
    freedom = question.degrees_of_freedom
    quantiles = t_quantile(gate.confidence, freedom) + t_quantile(_POWER, freedom)
    return quantiles * question.standard_error


def _missing(metric: str, evidence: Evidence, whose: str) -> str:
    leaks = evidence.leaks_of(metric) if is_clean(metric) else None
    if leaks is not None and leaks.leaked == leaks.examples:
        return f"{metric} cannot be measured: all {leaks.examples} examples of {leaks.group} leak."
    known = sorted({measured.metric for measured in evidence.measurements})
    listed = ", ".join(known) if known else "nothing"
    return f"{metric} {whose} is missing from the evidence, which holds {listed}."


def _reason(gate: Gate, question: _Question, verdict: GateVerdict) -> str:
    """One sentence with the numbers that decided."""
    what = f"{gate.metric} of the adapter"
    if gate.claim in ("superior", "non_inferior"):
        what = f"{gate.metric}, adapter minus base,"
    found = (
        f"{what} is {question.estimate:.4g} [{question.low:.4g}, {question.high:.4g}] "
        f"({gate.confidence:.4g} one-sided, {question.examples} examples)"
    )
    side = "above" if question.upward else "below"
    asked = f"{side} {question.threshold:.4g}, as {gate.claim.replace('_', '-')} asks"
    if verdict == "PASS":
        return f"{found}, which lies {asked}."
    if verdict == "FAIL":
        return f"{found}, which is not {asked}."
    return f"{found}, which is too wide to say whether it lies {asked}."


def _summary(worst: GateVerdict, results: Sequence[GateResult]) -> str:
    """One sentence about the run."""
    if not results:
        return "No gate is declared: nothing was claimed, so nothing was shown."
    if worst == "PASS":
        return f"All {len(results)} gates pass." if len(results) > 1 else "The only gate passes."
    first = next(result for result in results if result.verdict == worst)
    count = sum(result.verdict == worst for result in results)
    state = {"ERROR": "cannot be judged", "FAIL": "failed", "INCONCLUSIVE": "inconclusive"}[worst]
    return f"{count} of {len(results)} gates {state}: {first.reason}"
