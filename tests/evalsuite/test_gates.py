from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from evalsuite.gates import judge, judge_gate
from evalsuite.proportions import clopper_pearson, tango_interval
from evalsuite.records import (
    Evidence,
    Gate,
    GateVerdict,
    Identity,
    InstrumentFloor,
    Measurement,
    Method,
    PairedDifference,
)
from evalsuite.statistics import t_quantile


def measured(metric: str, value: float, error: float, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "metric": metric, "subject": "adapter", "value": value, "standard_error": error,
        "low": value - 2 * error, "high": value + 2 * error, "degrees_of_freedom": 199,
        "examples": 200, "unit": "", "method": "clustered-ratio",
        "higher_is_better": not metric.endswith(("loss", "perplexity")),
    }  # fmt: skip
    return Measurement(**{**fields, **changes})


def difference(metric: str, value: float, error: float, **changes: Any) -> PairedDifference:
    fields: dict[str, Any] = {
        "metric": metric, "difference": value, "standard_error": error, "low": value - 2 * error,
        "high": value + 2 * error, "degrees_of_freedom": 199, "examples": 200,
        "method": "clustered-ratio",
    }  # fmt: skip
    return PairedDifference(**{**fields, **changes})


@pytest.fixture
def evidence(identity: Identity) -> Evidence:
    return Evidence(
        measurements=(
            measured("test.loss", 0.90, 0.05),
            measured("test.loss", 1.70, 0.06, subject="base"),
            measured("answers.rougeL", 0.60, 0.02, method="item-mean"),
            measured("answers.tests_passed", 0.75, 0.03, method="binary-items"),
            measured("answers.exact_match", 1.0, 0.03, method="binary-items"),
            measured("test.perplexity", 2.46, 0.12, method="log-ratio"),
        ),
        differences=(
            difference("test.loss", -0.80, 0.02),
            difference("answers.rougeL", 0.01, 0.02, method="item-mean"),
            difference("answers.tests_passed", 0.10, 0.03, method="binary-items",
                       gained=30, lost=10),
            difference("answers.exact_match", 0.0, 0.005, method="binary-items",
                       gained=0, lost=0),
        ),
        leaked=(),
        identity=identity,
        base_digest="b",
        adapter_digest="a",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        # smaller is better: difference -0.80, one-sided 95% bounds -0.833 and -0.767
        (Gate(metric="test.loss", claim="superior"), "PASS"),
        (Gate(metric="test.loss", claim="superior", margin=0.76), "PASS"),
        (Gate(metric="test.loss", claim="superior", margin=0.80), "INCONCLUSIVE"),
        (Gate(metric="test.loss", claim="superior", margin=0.84), "FAIL"),
        (Gate(metric="test.loss", claim="non_inferior", margin=0.01), "PASS"),
        # larger is better: difference 0.01, bounds -0.023 and 0.043
        (Gate(metric="answers.rougeL", claim="superior"), "INCONCLUSIVE"),
        (Gate(metric="answers.rougeL", claim="superior", margin=0.05), "FAIL"),
        (Gate(metric="answers.rougeL", claim="non_inferior", margin=0.02), "INCONCLUSIVE"),
        (Gate(metric="answers.rougeL", claim="non_inferior", margin=0.03), "PASS"),
        # binary: gained 30, lost 10 of 200
        (Gate(metric="answers.tests_passed", claim="superior"), "PASS"),
        (Gate(metric="answers.tests_passed", claim="superior", margin=0.10), "INCONCLUSIVE"),
        (Gate(metric="answers.tests_passed", claim="superior", margin=0.20), "FAIL"),
        (Gate(metric="answers.tests_passed", claim="non_inferior", margin=0.02), "PASS"),
        # no discordant pair in 200: Tango's bound is -0.0133, with the correction -0.0179
        (Gate(metric="answers.exact_match", claim="non_inferior", margin=0.02), "PASS"),
        (Gate(metric="answers.exact_match", claim="non_inferior", margin=0.01), "INCONCLUSIVE"),
        # the adapter's own value 0.90, bounds 0.817 and 0.983
        (Gate(metric="test.loss", claim="ceiling", at=1.0), "PASS"),
        (Gate(metric="test.loss", claim="ceiling", at=0.95), "INCONCLUSIVE"),
        (Gate(metric="test.loss", claim="ceiling", at=0.8), "FAIL"),
        (Gate(metric="test.loss", claim="floor", at=0.8), "PASS"),
        (Gate(metric="answers.tests_passed", claim="floor", at=0.6), "PASS"),
        (Gate(metric="answers.tests_passed", claim="floor", at=0.72), "INCONCLUSIVE"),
        (Gate(metric="answers.tests_passed", claim="floor", at=0.85), "FAIL"),
        # all of 200 right: the exact bound is 0.05^(1/200) = 0.985
        (Gate(metric="answers.exact_match", claim="floor", at=0.98), "PASS"),
        (Gate(metric="answers.exact_match", claim="floor", at=0.99), "INCONCLUSIVE"),
        (Gate(metric="test.perplexity", claim="ceiling", at=2.70), "PASS"),
        (Gate(metric="test.perplexity", claim="ceiling", at=2.60), "INCONCLUSIVE"),
    ],
)
def test_verdicts(evidence: Evidence, gate: Gate, verdict: GateVerdict) -> None:
    result = judge_gate(gate, evidence)
    assert result.verdict == verdict, result.reason
    assert result.low is not None and result.high is not None and result.threshold is not None
    if verdict == "INCONCLUSIVE":
        assert result.low <= result.threshold <= result.high
    else:
        assert not result.low < result.threshold < result.high
    assert result.bound in (result.low, result.high)
    assert result.examples == 200
    assert result.reason.startswith(gate.metric) and result.reason.endswith(".")


def test_a_higher_confidence_asks_for_more(evidence: Evidence) -> None:
    gate = Gate(metric="test.loss", claim="superior", margin=0.76)
    assert judge_gate(gate, evidence).verdict == "PASS"
    assert judge_gate(replace(gate, confidence=0.99), evidence).verdict == "INCONCLUSIVE"


def test_bounds_are_those_of_the_methods(evidence: Evidence) -> None:
    loss = judge_gate(Gate(metric="test.loss", claim="superior"), evidence)
    assert loss.bound == pytest.approx(-0.80 + t_quantile(0.95, 199) * 0.02)
    tests = judge_gate(Gate(metric="answers.tests_passed", claim="superior"), evidence)
    corrected = tango_interval(30, 10, 200, 0.05, correction=0.5)
    assert (tests.low, tests.high) == pytest.approx(corrected)
    floor = judge_gate(Gate(metric="answers.tests_passed", claim="floor", at=0.5), evidence)
    assert (floor.low, floor.high) == pytest.approx(clopper_pearson(150, 200, 0.05))
    perplexity = judge_gate(Gate(metric="test.perplexity", claim="ceiling", at=3), evidence)
    reach = t_quantile(0.95, 199) * 0.12 / 2.46
    assert perplexity.bound == pytest.approx(2.46 * math.exp(reach))


def floor(metric: str, value: float) -> InstrumentFloor:
    return InstrumentFloor(metric=metric, floor=value, largest=value, examples=32, differing=None)


@pytest.mark.parametrize(
    ("gate", "of_instrument", "verdict"),
    [
        # a margin that is finer than the instrument decides nothing, however the figures lie
        (Gate(metric="test.loss", claim="superior", margin=0.01), 0.02, "ERROR"),
        (Gate(metric="test.loss", claim="superior", margin=0.02), 0.02, "PASS"),
        (Gate(metric="answers.rougeL", claim="non_inferior", margin=0.03), 0.04, "ERROR"),
        # nor does a pass by less than what the instrument can tell apart: -0.80 from -0.76
        (Gate(metric="test.loss", claim="superior", margin=0.76), 0.05, "ERROR"),
        (Gate(metric="test.loss", claim="superior", margin=0.76), 0.03, "PASS"),
        (Gate(metric="test.loss", claim="superior"), 0.9, "ERROR"),
        (Gate(metric="test.loss", claim="ceiling", at=1.0), 0.2, "ERROR"),
        (Gate(metric="test.loss", claim="ceiling", at=1.0), 0.05, "PASS"),
        # what is not shown anyway stays as it is
        (Gate(metric="test.loss", claim="ceiling", at=0.8), 0.2, "FAIL"),
        (Gate(metric="test.loss", claim="ceiling", at=0.95), 0.2, "INCONCLUSIVE"),
        # what was evaluated twice without any difference is as fine as one likes
        (Gate(metric="test.loss", claim="superior", margin=1e-9), 0.0, "PASS"),
    ],
)
def test_a_gate_finer_than_the_instrument_is_refused(
    evidence: Evidence, gate: Gate, of_instrument: float, verdict: GateVerdict
) -> None:
    found = judge_gate(gate, replace(evidence, instrument=(floor(gate.metric, of_instrument),)))
    assert found.verdict == verdict, found.reason
    if verdict == "ERROR":
        assert "in other batches" in found.reason
    # Another figure's floor says nothing of this one.
    other = judge_gate(gate, replace(evidence, instrument=(floor("test.other", of_instrument),)))
    assert "in other batches" not in other.reason


def test_clean_rows_have_the_floor_of_all_rows(evidence: Evidence) -> None:
    clean = replace(
        evidence,
        measurements=(measured("test.clean.loss", 0.90, 0.05),),
        differences=(difference("test.clean.loss", -0.80, 0.02),),
        instrument=(floor("test.loss", 0.02),),
    )
    gate = Gate(metric="test.clean.loss", claim="superior", margin=0.01)
    assert judge_gate(gate, clean).verdict == "ERROR"


def test_smallest_detectable(evidence: Evidence) -> None:
    found = judge_gate(Gate(metric="test.loss", claim="superior"), evidence).smallest_detectable
    assert found == pytest.approx((t_quantile(0.95, 199) + t_quantile(0.8, 199)) * 0.02)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(metric="test.bleu", claim="superior"), "test.bleu of base and adapter on the same"),
        (Gate(metric="test.perplexity", claim="superior"), "is missing from the evidence, which"),
        (Gate(metric="test.bleu", claim="floor", at=0.5), "test.bleu of the adapter is missing"),
        (Gate(metric="test.loss", claim="ceiling"), "a ceiling needs a finite number"),
        (Gate(metric="test.loss", claim="ceiling", at=math.nan), "needs a finite number"),
        (Gate(metric="test.loss", claim="superior", margin=-0.1), "margin -0.1 is not possible"),
        (Gate(metric="test.loss", claim="superior", margin=math.nan), "margin nan"),
        (Gate(metric="test.loss", claim="superior", confidence=0.5), "between 0.5 and 1"),
        (Gate(metric="test.loss", claim="superior", confidence=1.0), "between 0.5 and 1"),
    ],
)
def test_what_cannot_be_answered_is_an_error(evidence: Evidence, gate: Gate, message: str) -> None:
    verdict = judge([gate], evidence)
    assert verdict.verdict == "ERROR"
    assert message in verdict.gates[0].reason
    assert verdict.gates[0].estimate is None


@pytest.mark.parametrize(
    "changes",
    [
        {"difference": math.nan},
        {"difference": math.inf},
        {"standard_error": math.nan},
        {"examples": 0},
        {"method": "binary-items", "gained": None, "lost": None},
        {"method": "binary-items", "gained": 150, "lost": 150},
    ],
)
def test_evidence_that_is_no_result_is_an_error(
    evidence: Evidence, changes: dict[str, Any]
) -> None:
    spoiled = replace(evidence.differences[0], **changes)
    evidence = replace(evidence, differences=(spoiled,))
    found = judge_gate(Gate(metric="test.loss", claim="superior"), evidence)
    assert found.verdict == "ERROR"


def test_a_perplexity_that_is_none_is_an_error(evidence: Evidence) -> None:
    spoiled = measured("test.perplexity", -1.0, 0.1, method="log-ratio")
    gate = Gate(metric="test.perplexity", claim="ceiling", at=3.0)
    assert judge_gate(gate, replace(evidence, measurements=(spoiled,))).verdict == "ERROR"
    wide = measured("test.perplexity", 50.0, 9e4, method="log-ratio")
    found = judge_gate(gate, replace(evidence, measurements=(wide,)))
    assert (found.verdict, found.high) == ("INCONCLUSIVE", math.inf)


@pytest.mark.parametrize("better", [True, False])
def test_the_better_side_is_the_measurements(evidence: Evidence, better: bool) -> None:
    """Also for the metric of a plug-in, whose name tells nothing."""
    evidence = replace(
        evidence,
        measurements=(measured("answers.edits", 5.0, 0.1, higher_is_better=better),),
        differences=(difference("answers.edits", -3.0, 0.1),),
    )
    found = judge_gate(Gate(metric="answers.edits", claim="superior"), evidence)
    assert found.verdict == ("FAIL" if better else "PASS")


def test_one_example_is_inconclusive(evidence: Evidence) -> None:
    one = replace(
        evidence.differences[0], standard_error=math.inf, degrees_of_freedom=0.0, examples=1
    )
    found = judge_gate(
        Gate(metric="test.loss", claim="superior"), replace(evidence, differences=(one,))
    )
    assert found.verdict == "INCONCLUSIVE"
    assert found.smallest_detectable is None


@pytest.mark.parametrize("method", ["clustered-ratio", "item-mean", "bootstrap"])
def test_an_adapter_that_changes_nothing_is_not_superior(
    evidence: Evidence, method: Method
) -> None:
    nothing = replace(evidence.differences[0], difference=0.0, standard_error=0.0, method=method)
    found = judge_gate(
        Gate(metric="test.loss", claim="superior"), replace(evidence, differences=(nothing,))
    )
    assert found.verdict == "FAIL"


def test_the_run_is_as_good_as_its_worst_gate(evidence: Evidence) -> None:
    passes = Gate(metric="test.loss", claim="superior")
    straddles = Gate(metric="answers.rougeL", claim="superior")
    fails = Gate(metric="test.loss", claim="ceiling", at=0.8)
    error = Gate(metric="test.bleu", claim="superior")
    assert judge([passes], evidence).verdict == "PASS"
    assert judge([passes, passes], evidence).reason == "All 2 gates pass."
    assert judge([passes, straddles], evidence).verdict == "INCONCLUSIVE"
    assert judge([straddles, fails, passes], evidence).verdict == "FAIL"
    worst = judge([straddles, fails, error, passes], evidence)
    assert worst.verdict == "ERROR"
    assert worst.reason.startswith("1 of 4 gates cannot be judged: test.bleu")
    assert [g.verdict for g in worst.gates] == ["INCONCLUSIVE", "FAIL", "ERROR", "PASS"]


def test_no_gate_shows_nothing(evidence: Evidence) -> None:
    found = judge([], evidence)
    assert found.verdict == "INCONCLUSIVE"
    assert "nothing was claimed" in found.reason


def test_the_verdict_names_what_was_judged(evidence: Evidence) -> None:
    found = judge([], evidence)
    assert (found.base_digest, found.adapter_digest) == ("b", "a")
    other = replace(evidence, base_digest="c")
    assert judge([], other).evidence_digest != found.evidence_digest
    assert judge([], evidence).evidence_digest == found.evidence_digest
