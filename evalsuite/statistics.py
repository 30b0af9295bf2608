"""Estimates with honest intervals: ratios over clusters, item means, proportions.

Formulas: Cochran (1977), *Sampling Techniques*, ch. 6 and 9 (ratio estimator over clusters);
Miller (2024), arXiv 2411.00640, app. A (the same for language-model evaluations).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.errors import StatisticsError

Vector = NDArray[np.float64]

# Each tail of a two-sided 95% interval.
TAIL = 0.025
# Below this share of a figure's range a standard error is rounding, not spread.
_ROUNDING = 1e-12
# Bisection halves an interval of length 2 down to the spacing of float64.
_BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its standard error and two-sided 95% Student-t interval."""

    value: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t; infinite where there is no degree of freedom."""
    from scipy.special import stdtrit

    if degrees_of_freedom < 1:
        return math.inf
    return float(stdtrit(degrees_of_freedom, probability))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def t_interval(
    value: float, standard_error: float, degrees_of_freedom: float, tail: float = TAIL
) -> tuple[float, float]:
    """Interval that misses on each side with probability ``tail``."""
    if math.isinf(standard_error) or degrees_of_freedom < 1:
        return -math.inf, math.inf
    reach = t_quantile(1.0 - tail, degrees_of_freedom) * standard_error
    return value - reach, value + reach


def t_test(value: float, standard_error: float, degrees_of_freedom: float) -> float:
    """Two-sided p-value of ``value`` being zero."""
    from scipy.special import stdtr

    if math.isinf(standard_error) or degrees_of_freedom < 1:
        return 1.0
    if standard_error == 0.0:
        return 1.0 if value == 0.0 else 0.0
    return float(2.0 * stdtr(degrees_of_freedom, -abs(value) / standard_error))


def cluster_sums(values: ArrayLike, clusters: ArrayLike) -> Vector:
    """Sum of ``values`` (n,) within each cluster (C,), clusters in sorted order."""
    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(places, weights=np.asarray(values, dtype=np.float64)).astype(np.float64)


def ratio(numerators: ArrayLike, denominators: ArrayLike, *, span: float | None = None) -> Estimate:
    """Ratio of sums over C clusters: loss per token, bits per byte, share of tokens.

    With L = ΣS/ΣN and r_c = S_c - L·N_c: SE = sqrt(C/(C-1) · Σ r_c²) / ΣN, Student t with C - 1
    degrees of freedom. One cluster has an infinite standard error.

    Args:
        numerators: S_c (C,).
        denominators: N_c (C,), their sum positive.
        span: Width of the ratio's range where it is bounded; see `floored_error`.

    Raises:
        StatisticsError: No cluster, a number that is not finite, or no denominator at all.
    """
    value, influence = _ratio_influence(numerators, denominators)
    return _estimate(value, influence, span)


def log_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
    """Perplexity: a ratio of sums, exponentiated. The interval has exponentiated ends.

    Raises:
        StatisticsError: As `ratio`, or the exponential is beyond floating point.
    """
    inner = ratio(numerators, denominators)
    value = exponential(inner.value)
    return Estimate(
        value=value,
        standard_error=value * inner.standard_error,
        degrees_of_freedom=inner.degrees_of_freedom,
        low=exponential_limit(inner.low),
        high=exponential_limit(inner.high),
    )


def paired_ratio(
    base: ArrayLike, adapter: ArrayLike, denominators: ArrayLike, *, span: float | None = None
) -> Estimate:
    """Adapter minus base of a ratio over the same clusters: `ratio` of the S_c's differences."""
    before, after = _vector(base), _vector(adapter)
    _same_length(before, after)
    return ratio(after - before, denominators, span=None if span is None else 2.0 * span)


def paired_log_ratio(base: ArrayLike, adapter: ArrayLike, denominators: ArrayLike) -> Estimate:
    """Adapter minus base of perplexity, by the delta method.

    The influence of cluster c on exp(L) is exp(L)·(S_c - L·N_c)/ΣN; those of the two models are
    subtracted cluster by cluster, which keeps what they share.
    """
    before, before_influence = _ratio_influence(base, denominators)
    after, after_influence = _ratio_influence(adapter, denominators)
    first, second = exponential(before), exponential(after)
    return _estimate(second - first, second * after_influence - first * before_influence, None)


def item_mean(values: ArrayLike, *, span: float | None = None) -> Estimate:
    """Mean of n items with SE = sd/√n and Student t (the ratio estimator with N_c = 1)."""
    items = _vector(values)
    return ratio(items, np.ones_like(items), span=span)


def clustered_mean(
    values: ArrayLike, clusters: ArrayLike, *, span: float | None = None
) -> Estimate:
    """Mean of items that come in clusters (samples of one problem, questions on one text)."""
    items = _vector(values)
    sizes = cluster_sums(np.ones_like(items), clusters)
    return ratio(cluster_sums(items, clusters), sizes, span=span)


def paired_item_mean(base: ArrayLike, adapter: ArrayLike, *, span: float | None = None) -> Estimate:
    """Mean of adapter - base over the same items."""
    before, after = _vector(base), _vector(adapter)
    _same_length(before, after)
    return item_mean(after - before, span=None if span is None else 2.0 * span)


def floored_error(standard_error: float, items: int, span: float | None) -> float:
    """Standard error of a bounded figure, with a floor where no spread at all was seen.

    n equal items do not show that the population is equal. The floor 2·span/n, times the t
    quantile, is at least the exact zero-event bound span·(1 - alpha^(1/n)) (the "rule of three",
    Hanley and Lippman-Hand 1983) for one-sided alpha from 1% to 10%. An unbounded figure (loss) has
    no such bound: there, differences that all are exactly equal mean an adapter without effect.
    """
    if span is None or standard_error > _ROUNDING * span:
        return standard_error
    return 2.0 * span / items


def clopper_pearson(successes: int, items: int, tail: float = TAIL) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson 1934), ``tail`` on each side."""
    from scipy.special import betaincinv

    _counts(successes, 0, items)
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(betaincinv(successes, items - successes + 1, tail))
    if successes < items:
        high = float(betaincinv(successes + 1, items - successes, 1.0 - tail))
    return low, high


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value: ``gained`` of ``gained + lost`` against one half."""
    from scipy.stats import binomtest

    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def proportion_error(successes: int, items: int) -> float:
    """Standard error of a proportion; where none or all is right, of one in n + 2 (Laplace)."""
    _counts(successes, 0, items)
    share = successes / items
    if successes in (0, items):
        share = 1.0 / (items + 2)
    return math.sqrt(share * (1.0 - share) / items)


def discordance_error(gained: int, lost: int, items: int) -> float:
    """Wald standard error of (gained - lost)/items; never below that of one discordant item."""
    _counts(gained, lost, items)
    spread = gained + lost - (gained - lost) ** 2 / items
    of_one = (items - 1) / items if items > 1 else 1.0
    return math.sqrt(max(spread, of_one)) / items


def tango_interval(gained: int, lost: int, items: int, tail: float = TAIL) -> tuple[float, float]:
    """Score interval of the difference (gained - lost)/items of two paired proportions.

    The limits are those differences Δ at which the score statistic equals the normal quantile
    (Tango 1998, Statistics in Medicine 17:891-908, equations 6 to 9). Unlike Wald's it is not
    too narrow for few or no discordant pairs.

    Args:
        gained: Items that only the adapter got right.
        lost: Items that only the base got right.
        items: All items.
        tail: Probability of missing on each side.

    Raises:
        StatisticsError: Counts that are negative or more than ``items``, or no items.
    """
    _counts(gained, lost, items)
    quantile = normal_quantile(1.0 - tail)
    score = partial(_tango_score, gained, lost, items)
    return _crossing(score, quantile), _crossing(score, -quantile)


def _crossing(falling: Callable[[float], float], level: float) -> float:
    """Where in [-1, 1] a falling function reaches ``level``, by bisection."""
    left, right = -1.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2.0
        if falling(middle) > level:
            left = middle
        else:
            right = middle
    return (left + right) / 2.0


def _tango_score(gained: int, lost: int, items: int, delta: float) -> float:
    """Tango's statistic; ``lost_share`` is the maximum-likelihood P(lost) under ``delta``."""
    distance = gained - lost - items * delta
    linear = -(gained + lost) + (2 * items - gained + lost) * delta
    constant = -lost * delta * (1.0 - delta)
    root = math.sqrt(max(linear * linear - 8.0 * items * constant, 0.0))
    lost_share = (root - linear) / (4.0 * items)
    variance = items * (2.0 * lost_share + delta * (1.0 - delta))
    if variance <= 0.0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def exponential_limit(limit: float) -> float:
    """The end of a loss interval as one of perplexity; infinite beyond floating point."""
    try:
        return math.exp(limit)
    except OverflowError:
        return math.inf


def exponential(value: float) -> float:
    """Perplexity of a loss of ``value`` nats.

    Raises:
        StatisticsError: The result is beyond floating point.
    """
    try:
        return math.exp(value)
    except OverflowError:
        raise StatisticsError(
            f"the perplexity of a loss of {value:.6g} nats per token is beyond floating point."
        ) from None


def _estimate(value: float, influence: Vector, span: float | None) -> Estimate:
    clusters = len(influence)
    error = math.inf
    if clusters > 1:
        raw = math.sqrt(clusters / (clusters - 1) * float(np.sum(influence * influence)))
        error = floored_error(raw, clusters, span)
    low, high = t_interval(value, error, clusters - 1)
    return Estimate(
        value=value, standard_error=error, degrees_of_freedom=clusters - 1, low=low, high=high
    )


def _ratio_influence(numerators: ArrayLike, denominators: ArrayLike) -> tuple[float, Vector]:
    """ΣS/ΣN and each cluster's influence (S_c - L·N_c)/ΣN on it."""
    top, bottom = _vector(numerators), _vector(denominators)
    _same_length(top, bottom)
    whole = float(bottom.sum())
    if (bottom < 0).any() or whole <= 0:
        raise StatisticsError("the denominators must not be negative and must not sum to zero.")
    value = float(top.sum()) / whole
    return value, (top - value * bottom) / whole


def _vector(values: ArrayLike) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise StatisticsError(
            f"an estimate needs at least one example; found an array of shape {vector.shape}."
        )
    if not np.isfinite(vector).all():
        place = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise StatisticsError(f"value {place} is {vector[place]}; every value must be finite.")
    return vector


def _same_length(first: Vector, second: Vector) -> None:
    if len(first) != len(second):
        raise StatisticsError(
            f"{len(first)} values cannot be paired with {len(second)}; they must be as many."
        )


def _counts(first: int, second: int, items: int) -> None:
    if items < 1:
        raise StatisticsError("a proportion needs at least one item.")
    if min(first, second) < 0 or first + second > items:
        raise StatisticsError(f"counts {first} and {second} are not possible among {items} items.")
