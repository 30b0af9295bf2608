"""Verdicts: whether the evidence bears out each claim about an adapter.

The burden of proof is on the adapter. A gate passes only if the whole interval clears the claim,
fails only if the interval excludes it, and is inconclusive between. All gates must pass, which is
an intersection-union test: each at its own level, no correction (Berger 1982, Technometrics 24).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalsuite.errors import StatisticsError
from evalsuite.gate_question import PAIRED_CLAIMS, Question, question_of, within_floor
from evalsuite.record_files import evidence_digest
from evalsuite.records import Evidence, Gate, GateResult, GateVerdict, Measurement, Verdict
from evalsuite.statistics import t_quantile

# Worst first.
_SEVERITY: tuple[GateVerdict, ...] = ("ERROR", "FAIL", "INCONCLUSIVE", "PASS")
# The smallest detectable effect is the one that passes with this probability.
_POWER = 0.8


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
    if gate.claim in PAIRED_CLAIMS and gate.against == "release" and evidence.release is None:
        return _without_release(gate, evidence)
    try:
        question = question_of(gate, evidence)
    except StatisticsError as error:
        return _result(gate, evidence, None, "ERROR", str(error))
    verdict = _answer(question)
    reason = _reason(gate, question, verdict)
    unclear = within_floor(question, evidence.floor(gate.metric))
    if unclear is not None and verdict == "PASS":
        verdict, reason = "ERROR", f"{reason} {unclear}"
    return _result(gate, evidence, question, verdict, reason)


def _without_release(gate: Gate, evidence: Evidence) -> GateResult:
    """A first release has nothing to be compared with: it passes only where the gate allows it."""
    if gate.first_release == "allow":
        reason = (
            f"{gate.metric}: nothing of this recipe is released yet, and the gate allows a first "
            "release: what was shown, the other gates show."
        )
        return _result(gate, evidence, None, "PASS", reason)
    reason = (
        f"{gate.metric}: nothing of this recipe is released yet, so there is nothing to compare "
        "with. For a first release write first_release: allow, or name a release to compare with "
        "(release.previous, or --previous)."
    )
    return _result(gate, evidence, None, "INCONCLUSIVE", reason)


def _answer(question: Question) -> GateVerdict:
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
    question: Question | None,
    verdict: GateVerdict,
    reason: str,
) -> GateResult:
    reference = gate.against if gate.claim in PAIRED_CLAIMS else "base"
    return GateResult(
        gate=gate,
        verdict=verdict,
        reason=reason,
        base=_finite(evidence.measurement(gate.metric, reference)),
        adapter=_finite(evidence.measurement(gate.metric, "adapter")),
        estimate=None if question is None else question.estimate,
        bound=None if question is None else question.bound,
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


def _smallest_detectable(gate: Gate, question: Question) -> float | None:
    """Distance beyond the threshold at which 80% of such evaluations would pass."""
    if not math.isfinite(question.standard_error):
        return None
    freedom = question.degrees_of_freedom
    quantiles = t_quantile(gate.confidence, freedom) + t_quantile(_POWER, freedom)
    return quantiles * question.standard_error


def _reason(gate: Gate, question: Question, verdict: GateVerdict) -> str:
    """One sentence with the numbers that decided."""
    what = f"{gate.metric} of the adapter"
    if gate.claim in PAIRED_CLAIMS:
        reference = {"base": "base", "release": "the last release"}[gate.against]
        what = f"{gate.metric}, adapter minus {reference},"
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
