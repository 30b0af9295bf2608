from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from evalsuite.errors import StatisticsError
from evalsuite.power import can_pass, examples_needed, too_few_examples
from evalsuite.records import Claim, Gate
from evalsuite.statistics import tango_interval

MARGIN = Gate(metric="answers.exact_match", claim="non_inferior", margin=0.02)


def test_the_number_of_the_design() -> None:
    assert examples_needed(0.02, discordance=0.1) == 1546
    assert too_few_examples(MARGIN, 200) == (
        "a margin of 0.02 at 10% discordance needs 1,546 examples; this split has 200"
    )
    assert too_few_examples(MARGIN, 1546) is None


def test_no_margin_needs_infinitely_many() -> None:
    with pytest.raises(StatisticsError, match="infinitely many"):
        examples_needed(0.0)


def test_power_is_as_predicted() -> None:
    """An adapter equal to the base passes in about 80% of evaluations of that size."""
    items = examples_needed(0.05, discordance=0.2)
    drawn = np.random.default_rng(5).multinomial(items, [0.1, 0.1, 0.8], size=3000)
    tables, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    passes = [tango_interval(int(g), int(b), items, 0.05)[0] > -0.05 for g, b in tables]
    assert counts[passes].sum() / 3000 == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("metric", "claim", "number", "examples", "possible"),
    [
        # a perfect result on n items has the exact lower bound 0.05^(1/n)
        ("answers.tests_passed", "floor", 0.9, 28, False),
        ("answers.tests_passed", "floor", 0.9, 29, True),
        ("answers.tests_passed", "ceiling", 0.1, 28, False),
        ("answers.tests_passed", "ceiling", 0.1, 29, True),
        ("answers.rougeL", "floor", 0.9, 1, False),
        ("answers.rougeL", "floor", 1.1, 10, False),
        # scores between 0 and 1 that lie close together can have any narrow interval
        ("answers.rougeL", "floor", 0.9, 100, True),
        ("answers.tests_passed", "superior", 0.5, 2, False),
        ("answers.tests_passed", "superior", 0.5, 20, True),
        ("answers.rougeL", "superior", 0.5, 5, True),
        ("answers.rougeL", "superior", 1.0, 5, False),
        ("answers.chrf", "superior", 1.0, 200, True),
        ("test.loss", "superior", 0.0, 1, False),
        ("test.loss", "superior", 0.0, 2, True),
        ("test.loss", "superior", 0.0, 0, False),
        ("test.loss", "ceiling", -1.0, 500, False),
        ("answers.of_a_plugin", "superior", 0.0, 30, True),
    ],
)
def test_what_the_best_result_could_show(
    metric: str, claim: str, number: float, examples: int, possible: bool
) -> None:
    absolute = claim in ("floor", "ceiling")
    gate = Gate(
        metric=metric,
        claim=cast("Claim", claim),
        at=number if absolute else None,
        margin=0.0 if absolute else number,
    )
    outlook = can_pass(gate, examples)
    assert outlook.possible == possible
    assert (too_few_examples(gate, examples) is None) == possible


def test_the_reason_gives_the_best_bound() -> None:
    gate = Gate(metric="answers.tests_passed", claim="floor", at=0.95)
    assert too_few_examples(gate, 20) == (
        "cannot pass: the best result possible on 20 examples has the bound 0.8609"
    )
    ceiling = Gate(metric="answers.tests_passed", claim="ceiling", at=0.05)
    assert too_few_examples(ceiling, 20) == (
        "cannot pass: the best result possible on 20 examples has the bound 0.1391"
    )
