"""A gate and its evidence as one question: does the interval lie on the claimed side of a line?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from evalsuite.catalogue import is_clean
from evalsuite.errors import StatisticsError
from evalsuite.proportions import clopper_pearson, continuity_correction, tango_interval
from evalsuite.records import Evidence, Gate, InstrumentFloor, Measurement, PairedDifference
from evalsuite.statistics import exponential_limit, t_interval

PAIRED_CLAIMS = ("superior", "non_inferior")


class UnanswerableError(StatisticsError):
    """The evidence cannot answer the gate; the message is the reason of the ERROR verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Does the interval lie on the claimed side of the threshold?"""

    estimate: float
    low: float
    high: float
    threshold: float
    upward: bool
    strict: bool
    examples: int
    standard_error: float
    degrees_of_freedom: float

    @property
    def bound(self) -> float:
        """The end of the interval that decides whether the gate passes."""
        return self.low if self.upward else self.high


def question_of(gate: Gate, evidence: Evidence) -> Question:
    """What ``gate`` asks of ``evidence``.

    Raises:
        UnanswerableError: The gate is not possible, or what it judges is missing, cannot be
            compared or is no number, or the instrument is too coarse for it.
        StatisticsError: No honest interval can be made.
    """
    if not 0.5 < gate.confidence < 1.0:  # noqa: PLR2004 (a coin toss proves nothing)
        raise UnanswerableError(
            f"confidence {gate.confidence} is not possible; it must lie between 0.5 and 1."
        )
    if gate.claim in PAIRED_CLAIMS:
        return _paired_question(gate, evidence)
    return _absolute_question(gate, evidence)


def _absolute_question(gate: Gate, evidence: Evidence) -> Question:
    if gate.at is None or not math.isfinite(gate.at):
        raise UnanswerableError(f"a {gate.claim} needs a finite number `at`; found {gate.at}.")
    measured = evidence.measurement(gate.metric, "adapter")
    if measured is None:
        raise UnanswerableError(_missing(gate.metric, evidence, "of the adapter"))
    _require_numbers(gate.metric, measured.value, measured.standard_error, measured.examples)
    low, high = _measurement_interval(measured, 1.0 - gate.confidence)
    return Question(
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


def _paired_question(gate: Gate, evidence: Evidence) -> Question:
    if not (gate.margin >= 0.0 and math.isfinite(gate.margin)):
        raise UnanswerableError(f"margin {gate.margin} is not possible; it must be 0 or more.")
    difference, measured = _compared(gate, evidence)
    _require_coarser_than(evidence.floor(gate.metric), gate)
    _require_numbers(
        gate.metric, difference.difference, difference.standard_error, difference.examples
    )
    low, high = _difference_interval(difference, 1.0 - gate.confidence)
    toward_better = gate.margin if gate.claim == "superior" else -gate.margin
    return Question(
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


def _compared(gate: Gate, evidence: Evidence) -> tuple[PairedDifference, Measurement]:
    """The difference that the gate judges, and the adapter's own figure."""
    release = evidence.release if gate.against == "release" else None
    refusal = release.refusal(gate.metric) if release is not None else None
    if refusal is not None:
        raise UnanswerableError(
            f"{gate.metric} cannot be compared with the last release: {refusal.reason}"
        )
    difference = evidence.difference(gate.metric, gate.against)
    measured = evidence.measurement(gate.metric, "adapter")
    if difference is None or measured is None:
        whose = {"base": "base", "release": "last release"}[gate.against]
        raise UnanswerableError(
            _missing(gate.metric, evidence, f"of {whose} and adapter on the same items")
        )
    return difference, measured


def _require_coarser_than(floor: InstrumentFloor | None, gate: Gate) -> None:
    """A margin finer than what the instrument itself changes decides nothing."""
    if floor is not None and 0.0 < gate.margin < floor.floor:
        raise UnanswerableError(
            f"the margin {gate.margin:g} of {gate.metric} is finer than the instrument: the base "
            f"model evaluated twice, in other batches, may differ by {floor.floor:.2g} "
            f"({floor.examples} examples). Set a larger margin, or evaluate in float32."
        )


def within_floor(question: Question, floor: InstrumentFloor | None) -> str | None:
    """Why the estimate is too near to the threshold for the instrument; None where it is not."""
    if floor is None:
        return None
    distance = abs(question.estimate - question.threshold)
    if distance >= floor.floor or floor.floor == 0.0:
        return None
    return (
        f"The estimate lies {distance:.2g} from the line, and the instrument is no finer than "
        f"{floor.floor:.2g}: by so much may the same model differ when it is evaluated twice, in "
        f"other batches ({floor.examples} examples)."
    )


def _require_numbers(metric: str, value: float, error: float, examples: int) -> None:
    if examples < 1:
        raise UnanswerableError(f"{metric} was measured on no example.")
    if not math.isfinite(value) or math.isnan(error) or error < 0.0:
        raise UnanswerableError(
            f"{metric} is {value} with standard error {error}, which is no result."
        )


def _measurement_interval(measured: Measurement, tail: float) -> tuple[float, float]:
    if measured.method == "binary-items":
        successes = round(measured.value * measured.examples)
        return clopper_pearson(successes, measured.examples, tail)
    error, freedom = measured.standard_error, measured.degrees_of_freedom
    if measured.method == "log-ratio":
        if measured.value <= 0.0:
            raise UnanswerableError(f"{measured.metric} is {measured.value}; it must be positive.")
        low, high = t_interval(math.log(measured.value), error / measured.value, freedom, tail)
        return exponential_limit(low), exponential_limit(high)
    return t_interval(measured.value, error, freedom, tail)


def _difference_interval(difference: PairedDifference, tail: float) -> tuple[float, float]:
    if difference.method == "binary-items":
        gained, lost = difference.gained, difference.lost
        if gained is None or lost is None:
            raise UnanswerableError(
                f"{difference.metric} counts items but the counts of gained and lost are missing."
            )
        correction = float(continuity_correction(gained, lost, difference.examples))
        return tango_interval(gained, lost, difference.examples, tail, correction=correction)
    return t_interval(
        difference.difference, difference.standard_error, difference.degrees_of_freedom, tail
    )


def _missing(metric: str, evidence: Evidence, whose: str) -> str:
    leaks = evidence.leaks_of(metric) if is_clean(metric) else None
    if leaks is not None and leaks.leaked == leaks.examples:
        return f"{metric} cannot be measured: all {leaks.examples} examples of {leaks.group} leak."
    known = sorted({measured.metric for measured in evidence.measurements})
    listed = ", ".join(known) if known else "nothing"
    return f"{metric} {whose} is missing from the evidence, which holds {listed}."
