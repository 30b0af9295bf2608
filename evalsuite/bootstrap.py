"""Paired bootstrap for figures of a whole corpus, which have no per-item mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import StatisticsError
from evalsuite.statistics import Estimate, Vector, floored_error, t_interval

Matrix = NDArray[np.float64]
# Totals of sufficient statistics (R, K) -> figures (R,).
CorpusScore = Callable[[Matrix], Vector]

REPLICATES = 10_000
_SEED = 20_040_725  # fixed, so that the same evidence gives the same interval
_DRAWS_AT_ONCE = 2_000_000  # item draws held in memory at a time


def corpus_estimate(statistics: Matrix, score: CorpusScore, *, span: float) -> Estimate:
    """A corpus figure of n items with the bootstrap's standard error.

    Args:
        statistics: Per-item sufficient statistics (n, K).
        score: Turns totals (R, K) into figures (R,).
        span: Width of the figure's range.

    Raises:
        StatisticsError: No item, or a statistic that is not finite.
    """
    _check(statistics)
    replicates = score(resampled_totals(statistics))
    return _estimate(float(score(statistics.sum(axis=0)[None])[0]), replicates, statistics, span)


def paired_corpus_difference(
    base: Matrix, adapter: Matrix, score: CorpusScore, *, span: float
) -> Estimate:
    """Adapter minus base, both figures from the same resampled items (Koehn 2004, EMNLP).

    The standard error is the standard deviation of the replicates, not divided by √replicates.
    """
    _check(base)
    _check(adapter)
    if base.shape != adapter.shape:
        raise StatisticsError(f"items of shape {base.shape} and {adapter.shape} cannot be paired.")
    width = base.shape[1]
    both = np.concatenate([base, adapter], axis=1)
    totals = resampled_totals(both)
    replicates = score(totals[:, width:]) - score(totals[:, :width])
    whole = both.sum(axis=0)[None]
    value = float(score(whole[:, width:])[0] - score(whole[:, :width])[0])
    return _estimate(value, replicates, both, 2.0 * span)


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


def _estimate(value: float, replicates: Vector, statistics: Matrix, span: float) -> Estimate:
    items = len(statistics)
    error = float("inf")
    if items > 1:
        error = floored_error(float(np.std(replicates, ddof=1)), items, span)
    low, high = t_interval(value, error, items - 1)
    return Estimate(
        value=value, standard_error=error, degrees_of_freedom=items - 1, low=low, high=high
    )


def _check(statistics: Matrix) -> None:
    if statistics.ndim != 2 or len(statistics) == 0:  # noqa: PLR2004 (items by statistics)
        raise StatisticsError("a corpus figure needs at least one item.")
    if not np.isfinite(statistics).all():
        raise StatisticsError("a sufficient statistic is not finite; every one must be.")
