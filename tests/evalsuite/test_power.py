"""What is said of a gate before training: whether it can pass, how likely, what it could show."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from scipy.stats import binom

from evalsuite.errors import StatisticsError
from evalsuite.outlook import can_pass, too_few_examples
from evalsuite.power import examples_needed, mean_power, proportion_power
from evalsuite.proportions import clopper_pearson
from evalsuite.records import Claim, Gate

MARGIN = Gate(metric="answers.exact_match", claim="non_inferior", margin=0.02)


def test_the_number_of_examples_of_a_small_margin() -> None:
    """(z_0.95 + z_0.8)²·ψ/m² is 1,546; the exact test with its correction asks for 1,617."""
    assert examples_needed(0.02, discordance=0.1) == 1617
    assert too_few_examples(MARGIN, 200) == (
        "a margin of 0.02 at 10% discordance needs 1,617 examples; this split has 200, and an "
        "adapter equal to the base passes 18% of the time"
    )
    assert too_few_examples(MARGIN, 1617) is None


@pytest.mark.parametrize(
    ("margin", "discordance"), [(0.02, 0.1), (0.05, 0.2), (0.1, 0.3), (0.03, 0.04)]
)
def test_so_many_examples_have_the_power(margin: float, discordance: float) -> None:
    items = examples_needed(margin, discordance=discordance)
    half = discordance / 2
    assert proportion_power(items, -margin, gained=half, lost=half) >= 0.8
    fewer = proportion_power(items - 20, -margin, gained=half, lost=half)
    assert fewer < 0.8


def test_no_margin_needs_infinitely_many() -> None:
    with pytest.raises(StatisticsError, match="infinitely many"):
        examples_needed(0.0)


def test_power_grows_with_examples_and_with_the_margin() -> None:
    by_items = [proportion_power(n, -0.05, gained=0.05, lost=0.05) for n in (50, 200, 800)]
    by_margin = [proportion_power(200, -m, gained=0.05, lost=0.05) for m in (0.01, 0.05, 0.1)]
    assert by_items == sorted(by_items)
    assert by_margin == sorted(by_margin)
    assert proportion_power(5, -0.01, gained=0.0, lost=0.5) == 0.0


def test_the_power_of_a_mean_is_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    for items, distance, spread in ((20, 0.1, 0.2), (300, 0.02, 0.25), (50, -0.01, 0.3)):
        expected = TTestPower().power(distance / spread, items, 0.05, alternative="larger")
        assert mean_power(items, distance, spread) == pytest.approx(expected, abs=1e-9)
    assert mean_power(1, 1.0, 0.1) == 0.0


def test_outlook_of_a_gain() -> None:
    """The gain that is called detectable passes in 80% of evaluations, by the exact power."""
    gate = Gate(metric="answers.exact_match", claim="superior", margin=0.1)
    outlook = can_pass(gate, 200)
    assert outlook.detectable is not None
    power = proportion_power(200, 0.1, gained=0.05 + outlook.detectable, lost=0.05)
    assert power == pytest.approx(0.8, abs=0.01)
    assert outlook.sentence == (
        "can pass with 200 examples: four times in five at a true gain of "
        f"{outlook.detectable:.3g} while 5% are lost"
    )


@pytest.mark.parametrize(("claim", "at"), [("floor", 0.5), ("ceiling", 0.2)])
def test_outlook_of_a_number(claim: str, at: float) -> None:
    gate = Gate(metric="answers.tests_passed", claim=cast("Claim", claim), at=at)
    share = can_pass(gate, 150).detectable
    assert share is not None
    limits = [clopper_pearson(right, 150, 0.05) for right in range(151)]
    clears = [low >= at if claim == "floor" else high <= at for low, high in limits]
    power = binom.pmf(np.arange(151), 150, share)[clears].sum()
    assert power == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "claim", "number", "examples"),
    [
        # Five of five must be gained, and one in twenty is lost: 0.95^5 = 77% at the very most.
        ("answers.exact_match", "superior", 0.0, 5),
        ("answers.rougeL", "superior", 0.0, 2),
        ("answers.rougeL", "floor", 0.99, 50),
    ],
)
def test_what_no_adapter_can_show_four_times_in_five_is_said(
    metric: str, claim: str, number: float, examples: int
) -> None:
    absolute = claim == "floor"
    gate = Gate(
        metric=metric,
        claim=cast("Claim", claim),
        at=number if absolute else None,
        margin=0.0 if absolute else number,
    )
    outlook = can_pass(gate, examples)
    assert (outlook.possible, outlook.detectable) == (True, None)
    what = "value" if absolute else "gain"
    assert outlook.sentence.endswith(f"less than four times in five, whatever the true {what}")


def test_power_where_nothing_else_can_happen() -> None:
    """0.05 + 0.9 is more than 1 - 0.05 in floating point."""
    power = proportion_power(5, 0.0, gained=0.05 + 0.9, lost=0.05)
    assert power == pytest.approx(0.95**5)


def test_outlook_of_scores_and_of_a_loss() -> None:
    rouge = can_pass(Gate(metric="answers.rougeL", claim="non_inferior", margin=0.05), 200)
    assert rouge.power == pytest.approx(mean_power(200, 0.05, 0.25))
    assert "a standard deviation of 0.25 between examples" in rouge.sentence
    few = Gate(metric="answers.rougeL", claim="non_inferior", margin=0.01)
    assert "needs 3,866 examples; this split has 200" in str(too_few_examples(few, 200))
    loss = can_pass(Gate(metric="test.loss", claim="superior"), 300)
    assert (loss.needed, loss.power, loss.detectable) == (None, None, None)
    assert loss.sentence.endswith("by 0.14 of the standard deviation between examples")
    one = can_pass(Gate(metric="answers.a_plugins", claim="superior"), 300)
    assert one.sentence == "can pass with 300 examples"


def test_outlook_against_the_release_names_it() -> None:
    gate = Gate(metric="answers.exact_match", claim="non_inferior", margin=0.1, against="release")
    assert "an adapter equal to the release passes" in can_pass(gate, 300).sentence


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
