"""Seeds are told from items, and a gain that another seed may not show is warned of."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from evalsuite.errors import StatisticsError
from evalsuite.records import Evidence, Gate, Identity, Measurement, PairedDifference
from evalsuite.seeds import SeedSpread, seed_spread, seed_warnings
from evalsuite.statistics import Vector, item_mean, paired_item_mean, t_quantile


def spread_of(runs: list[Vector]) -> SeedSpread:
    estimates = [item_mean(run) for run in runs]
    pairs = {}
    for one, other in combinations(range(len(runs)), 2):
        found = paired_item_mean(runs[one], runs[other])
        pairs[one, other] = paired("answers.rougeL", found.value, found.standard_error)
    return seed_spread(
        "answers.rougeL",
        [one.value for one in estimates],
        [one.standard_error for one in estimates],
        pairs,
    )


def paired(metric: str, value: float, error: float) -> PairedDifference:
    return PairedDifference(
        metric=metric, difference=value, standard_error=error, low=0.0, high=0.0,
        degrees_of_freedom=99, examples=100, method="item-mean",
    )  # fmt: skip


def runs_of(
    generator: np.random.Generator, seeds: int, items: int, *, seed: float, residual: float
) -> list[Vector]:
    difficulty = generator.normal(0.0, 1.0, items)
    return [
        0.5 + generator.normal(0.0, seed) + difficulty + generator.normal(0.0, residual, items)
        for _ in range(seeds)
    ]


def test_it_is_the_component_of_an_analysis_of_variance() -> None:
    """Items by seeds without replication: (MS_seeds - MS_residual)/n."""
    runs = np.array(runs_of(np.random.default_rng(1), 4, 80, seed=0.5, residual=1.0))
    seeds, items = runs.shape
    of_seeds, of_items = runs.mean(axis=1), runs.mean(axis=0)
    between = items * ((of_seeds - runs.mean()) ** 2).sum() / (seeds - 1)
    residual = runs - of_seeds[:, None] - of_items[None] + runs.mean()
    within = (residual**2).sum() / ((seeds - 1) * (items - 1))
    found = spread_of(list(runs))
    assert found.seed_deviation**2 == pytest.approx((between - within) / items)
    assert found.spread == pytest.approx(of_seeds.std(ddof=1))
    assert found.seeds == 4


@pytest.mark.parametrize("true", [0.0, 0.2])
def test_the_component_is_what_was_put_in(true: float) -> None:
    generator = np.random.default_rng(2)
    variances = []
    for _ in range(300):
        found = spread_of(runs_of(generator, 5, 60, seed=true, residual=0.5))
        variances.append(found.seed_deviation**2)
    # Cut off at 0, so a little above where there is none.
    assert np.mean(variances) == pytest.approx(true**2, abs=0.004)


def test_seeds_are_not_items() -> None:
    """Items that all runs find hard widen every run's interval, and none differs by its seed."""
    runs = runs_of(np.random.default_rng(3), 3, 200, seed=0.0, residual=0.05)
    found = spread_of(runs)
    assert found.item_error > 10 * found.spread
    assert found.seed_deviation < 0.01


def test_one_run_tells_nothing_of_seeds() -> None:
    with pytest.raises(StatisticsError, match="at least two runs"):
        seed_spread("test.loss", [1.0], [0.1], {})
    with pytest.raises(StatisticsError, match="runs 0 and 1 are not paired"):
        seed_spread("test.loss", [1.0, 1.1], [0.1, 0.1], {})


@pytest.fixture
def gain(identity: Identity) -> Evidence:
    measurement = Measurement(
        metric="test.loss", subject="adapter", value=1.0, standard_error=0.01, low=0.9, high=1.1,
        degrees_of_freedom=99, examples=100, unit="", higher_is_better=False,
        method="clustered-ratio",
    )  # fmt: skip
    return Evidence(
        measurements=(measurement,), differences=(paired("test.loss", -0.30, 0.01),), leaked=(),
        identity=identity, base_digest="b", adapter_digest="a",
    )  # fmt: skip


def with_gain(evidence: Evidence, value: float) -> Evidence:
    (one,) = evidence.differences
    return replace(evidence, differences=(replace(one, difference=-value),))


GATE = Gate(metric="test.loss", claim="superior", margin=0.1)


def test_a_gain_that_every_seed_shows_is_no_warning(gain: Evidence) -> None:
    assert seed_warnings([GATE], gain, []) == ()
    others = [with_gain(gain, 0.31), with_gain(gain, 0.29)]
    assert seed_warnings([GATE], gain, others) == ()


def test_a_gain_that_another_seed_may_not_show_is_warned_of(gain: Evidence) -> None:
    others = [with_gain(gain, 0.45), with_gain(gain, 0.12)]
    (warning,) = seed_warnings([GATE], gain, others)
    gains = np.array([0.30, 0.45, 0.12])
    lowest = gains.mean() - t_quantile(0.95, 2) * gains.std(ddof=1) * np.sqrt(1 + 1 / 3)
    assert f"another seed may gain {lowest:.4g}" in warning
    assert "from 0.12 to 0.45" in warning
    # What claims no gain is not looked at, nor what the others did not measure.
    assert seed_warnings([replace(GATE, claim="non_inferior")], gain, others) == ()
    without = [replace(one, differences=()) for one in others]
    assert seed_warnings([GATE], gain, without) == ()


def test_the_warning_errs_as_often_as_it_says(gain: Evidence) -> None:
    """Of recipes whose gains vary by the seed, 5% of new seeds fall below the bound."""
    generator = np.random.default_rng(4)
    below = 0
    for _ in range(2000):
        gains = generator.normal(0.3, 0.05, 5)
        reach = t_quantile(0.95, 3) * gains[:4].std(ddof=1) * np.sqrt(1 + 1 / 4)
        below += gains[4] < gains[:4].mean() - reach
    assert below / 2000 == pytest.approx(0.05, abs=0.015)
