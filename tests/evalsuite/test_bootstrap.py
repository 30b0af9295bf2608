from __future__ import annotations

import math

import numpy as np
import pytest

from evalsuite.bootstrap import (
    Matrix,
    corpus_estimate,
    paired_corpus_difference,
    resampled_totals,
)
from evalsuite.corpus_scores import chrf
from evalsuite.errors import StatisticsError
from evalsuite.statistics import Vector, item_mean, paired_item_mean

RNG = np.random.default_rng(12)


def mean(totals: Matrix) -> Vector:
    """A corpus figure whose standard error is known: the mean of items."""
    return np.asarray(totals[:, 0] / totals[:, 1])


def items(values: Vector) -> Matrix:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_the_error_is_the_spread_of_the_replicates() -> None:
    """lighteval's `bootstrap_stderr` divided by √replicates: 31.6 times too small."""
    values = RNG.normal(size=150)
    found = corpus_estimate(items(values), mean, span=100.0)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std() / math.sqrt(150), rel=0.03)


def test_both_systems_are_resampled_together() -> None:
    shared = RNG.normal(scale=10.0, size=150)
    gain = RNG.normal(0.5, 1.0, size=150)
    found = paired_corpus_difference(items(shared), items(shared + gain), mean, span=100.0)
    assert found.value == pytest.approx(gain.mean())
    assert found.standard_error == pytest.approx(gain.std() / math.sqrt(150), rel=0.03)


def test_whole_clusters_are_drawn() -> None:
    clusters = np.repeat(np.arange(30), 8)
    values = RNG.normal(size=30)[clusters] + RNG.normal(scale=0.1, size=240)
    found = corpus_estimate(items(values), mean, span=100.0, clusters=clusters)
    expected = item_mean(values, clusters=clusters)
    assert found.value == pytest.approx(expected.value)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.05)
    assert found.degrees_of_freedom == 29
    alone = corpus_estimate(items(values), mean, span=100.0)
    assert found.standard_error > 2 * alone.standard_error
    gain = values + RNG.normal(0.5, 1.0, 30)[clusters]
    paired = paired_corpus_difference(
        items(values), items(gain), mean, span=100.0, clusters=clusters
    )
    assert paired.standard_error == pytest.approx(
        paired_item_mean(values, gain, clusters=clusters).standard_error, rel=0.05
    )


def test_the_same_evidence_gives_the_same_interval() -> None:
    values = items(RNG.normal(size=40))
    assert corpus_estimate(values, mean, span=1.0) == corpus_estimate(values, mean, span=1.0)


def test_every_replicate_draws_as_many_items() -> None:
    totals = resampled_totals(items(RNG.normal(size=3000)), replicates=1500)
    assert totals.shape == (1500, 2)
    assert (totals[:, 1] == 3000).all()
    assert len(np.unique(totals[:, 0])) == 1500


def test_equal_answers_keep_a_width() -> None:
    counts = np.tile([10.0, 10.0, 5.0], (30, 6))
    found = paired_corpus_difference(counts, counts, chrf, span=100.0)
    assert found.value == 0.0
    assert found.high == -found.low > 100.0 * 3.0 / 30.0


def test_one_item_says_nothing() -> None:
    assert corpus_estimate(items(np.array([3.0])), mean, span=1.0).high == math.inf


def test_no_item_and_no_number_are_errors() -> None:
    with pytest.raises(StatisticsError, match="at least one item"):
        corpus_estimate(np.empty((0, 2)), mean, span=1.0)
    with pytest.raises(StatisticsError, match="not finite"):
        corpus_estimate(np.array([[math.nan, 1.0]]), mean, span=1.0)
    with pytest.raises(StatisticsError, match="cannot be paired"):
        paired_corpus_difference(np.ones((3, 2)), np.ones((4, 2)), mean, span=1.0)
