"""Paired bootstrap for figures of a whole corpus, which have no per-item mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import StatisticsError
from evalsuite.statistics import (
    Clusters,
    Estimate,
    Vector,
    cluster_sums,
    floored_error,
    t_interval,
)

Matrix = NDArray[np.float64]
# Totals of sufficient statistics (R, K) -> figures (R,).
CorpusScore = Callable[[Matrix], Vector]

REPLICATES = 10_000
_SEED = 20_040_725  # fixed, so that the same evidence gives the same interval
_DRAWS_AT_ONCE = 2_000_000  # item draws held in memory at a time


def corpus_estimate(
    statistics: Matrix, score: CorpusScore, *, span: float, clusters: Clusters = None
) -> Estimate:
    """A corpus figure of n items with the bootstrap's standard error.

    Args:
        statistics: Per-item sufficient statistics (n, K).
        score: Turns totals (R, K) into figures (R,).
        span: Width of the figure's range.
        clusters: Which items depend on each other; whole clusters are drawn.

    Raises:
        StatisticsError: No item, or a statistic that is not finite.
    """
    _check(statistics)
    return _estimate(cluster_sums(statistics, clusters), score, span)


def paired_corpus_difference(
    base: Matrix, adapter: Matrix, score: CorpusScore, *, span: float, clusters: Clusters = None
) -> Estimate:
    """Adapter minus base, both figures from the same resampled items (Koehn 2004, EMNLP).

    The standard error is the standard deviation of the replicates, not divided by √replicates.
    """
    _check(base)
    _check(adapter)
    if base.shape != adapter.shape:
        raise StatisticsError(f"items of shape {base.shape} and {adapter.shape} cannot be paired.")
    width = base.shape[1]

    def difference(totals: Matrix) -> Vector:
        return score(totals[:, width:]) - score(totals[:, :width])

    both = np.concatenate([base, adapter], axis=1)
    return _estimate(cluster_sums(both, clusters), difference, 2.0 * span)


def resampled_totals(statistics: Matrix, replicates: int = REPLICATES) -> Matrix:
    """Totals (replicates, K) of items drawn with replacement from ``statistics`` (n, K)."""
    items = len(statistics)
    generator = np.random.default_rng(_SEED)
    rows = max(1, _DRAWS_AT_ONCE // items)
    totals = np.empty((replicates, statistics.shape[1]))
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        drawn = generator.integers(0, items, size=(count, items))  # (R, n)
        drawn += np.arange(count)[:, None] * items
        times = np.bincount(drawn.ravel(), minlength=count * items).reshape(count, items)
        totals[start : start + count] = times @ statistics
    return totals


def _estimate(statistics: Matrix, score: CorpusScore, span: float) -> Estimate:
    """The figure of clusters (C, K) and its interval."""
    clusters = len(statistics)
    whole = statistics.sum(axis=0)
    value = float(score(whole[None])[0])
    error = float("inf")
    if clusters > 1:
        spread = float(np.std(score(resampled_totals(statistics)), ddof=1))
        # The jackknife's pseudo-values: how far each cluster lies from the figure.
        deviations = (clusters - 1) * (value - score(whole - statistics))
        error = floored_error(spread, deviations, span)
    low, high = t_interval(value, error, clusters - 1)
    return Estimate(
        value=value, standard_error=error, degrees_of_freedom=clusters - 1, low=low, high=high
    )


def _check(statistics: Matrix) -> None:
    if statistics.ndim != 2 or len(statistics) == 0:  # noqa: PLR2004 (items by statistics)
        raise StatisticsError("a corpus figure needs at least one item.")
    if not np.isfinite(statistics).all():
        raise StatisticsError("a sufficient statistic is not finite; every one must be.")
