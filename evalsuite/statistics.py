"""Estimates with honest intervals: ratios over clusters, and item means.

Formulas: Cochran (1977), *Sampling Techniques*, ch. 6 and 9 (ratio estimator over clusters);
Miller (2024), arXiv 2411.00640, app. A (the same for language-model evaluations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evalsuite.errors import StatisticsError

Vector = NDArray[np.float64]
# Which cluster each example belongs to (n,); None: each is one of its own.
Clusters = NDArray[np.intp] | None

# Each tail of a two-sided 95% interval.
TAIL = 0.025
# An item further than this share of a figure's range from the mean says something of its spread.
_TELLING = 1e-3


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


def cluster_numbers(names: Sequence[str]) -> Clusters:
    """The cluster of each example from the clusters' names; an example without one is its own.

    None where no example has a name, so that nothing depends on anything.
    """
    if not any(names):
        return None
    own = (name or (place,) for place, name in enumerate(names))
    numbers: dict[str | tuple[int], int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in own], dtype=np.intp)


def cluster_sums(values: ArrayLike, clusters: Clusters) -> Vector:
    """Sum of ``values`` (n,) or (n, K) within each cluster: (C,) or (C, K)."""
    items = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return items
    if len(items) != len(clusters):
        raise StatisticsError(f"{len(items)} values cannot belong to {len(clusters)} clusters.")
    _, places = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(places.max()) + 1, *items.shape[1:]))
    np.add.at(sums, places, items)
    return sums


def ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    span: float | None = None,
    clusters: Clusters = None,
) -> Estimate:
    """Ratio of sums over C clusters: loss per token, bits per byte, share of tokens.

    With L = ΣS/ΣN and r_c = S_c - L·N_c: SE = sqrt(C/(C-1) · Σ r_c²) / ΣN, Student t with C - 1
    degrees of freedom. One cluster has an infinite standard error.

    Args:
        numerators: S (n,) of each example.
        denominators: N (n,) of each example, their sum positive.
        span: Width of the ratio's range where it is bounded; see `floored_error`.
        clusters: Which examples depend on each other; S_c and N_c are the sums within a cluster.

    Raises:
        StatisticsError: No cluster, a number that is not finite, or no denominator at all.
    """
    value, influence = _ratio_influence(numerators, denominators)
    return _estimate(value, cluster_sums(influence, clusters), span)


def log_ratio(
    numerators: ArrayLike, denominators: ArrayLike, *, clusters: Clusters = None
) -> Estimate:
    """Perplexity: a ratio of sums, exponentiated. The interval has exponentiated ends.

    Raises:
        StatisticsError: As `ratio`, or the exponential is beyond floating point.
    """
    inner = ratio(numerators, denominators, clusters=clusters)
    value = exponential(inner.value)
    return Estimate(
        value=value,
        standard_error=value * inner.standard_error,
        degrees_of_freedom=inner.degrees_of_freedom,
        low=exponential_limit(inner.low),
        high=exponential_limit(inner.high),
    )


def paired_ratio(
    base: ArrayLike,
    adapter: ArrayLike,
    denominators: ArrayLike,
    *,
    span: float | None = None,
    clusters: Clusters = None,
) -> Estimate:
    """Adapter minus base of a ratio over the same clusters: `ratio` of the S_c's differences."""
    before, after = _vector(base), _vector(adapter)
    _same_length(before, after)
    widest = None if span is None else 2.0 * span
    return ratio(after - before, denominators, span=widest, clusters=clusters)


def paired_log_ratio(
    base: ArrayLike, adapter: ArrayLike, denominators: ArrayLike, *, clusters: Clusters = None
) -> Estimate:
    """Adapter minus base of perplexity, by the delta method.

    The influence of cluster c on exp(L) is exp(L)·(S_c - L·N_c)/ΣN; those of the two models are
    subtracted cluster by cluster, which keeps what they share.
    """
    before, before_influence = _ratio_influence(base, denominators)
    after, after_influence = _ratio_influence(adapter, denominators)
    first, second = exponential(before), exponential(after)
    influence = second * after_influence - first * before_influence
    return _estimate(second - first, cluster_sums(influence, clusters), None)


def item_mean(
    values: ArrayLike, *, span: float | None = None, clusters: Clusters = None
) -> Estimate:
    """Mean of n items: the ratio estimator with N = 1, so SE = sd/√n without clusters.

    With them (samples of one problem, questions on one text):
    SE = sqrt(C/(C-1) · Σ_c (Σ_{i in c} (x_i - x̄))²) / n.
    """
    items = _vector(values)
    return ratio(items, np.ones_like(items), span=span, clusters=clusters)


def paired_item_mean(
    base: ArrayLike,
    adapter: ArrayLike,
    *,
    span: float | None = None,
    clusters: Clusters = None,
) -> Estimate:
    """Mean of adapter - base over the same items."""
    before, after = _vector(base), _vector(adapter)
    _same_length(before, after)
    widest = None if span is None else 2.0 * span
    return item_mean(after - before, span=widest, clusters=clusters)


def zero_event_error(items: int, span: float) -> float:
    """Standard error of a bounded figure of which ``items`` equal values are known: 2·span/n.

    n equal items do not show that the population is equal. Times the t quantile this is at least
    the exact zero-event bound span·(1 - alpha^(1/n)) (the "rule of three", Hanley and Lippman-Hand
    1983) for one-sided alpha from 1% to 10%.
    """
    return 2.0 * span / items


def floored_error(standard_error: float, deviations: Vector, span: float | None) -> float:
    """Standard error of a bounded figure that counts how few items its spread comes from.

    It is combined with `zero_event_error`·exp(-k), where k = (Σd²)² / Σd⁴ is the number of items
    that carry the spread: the whole of that where every item is equal, a third where one differs,
    nothing where ten do. So the interval does not collapse when a single item begins to differ.
    Deviations that are tiny beside the range do not count, which makes it continuous.

    An unbounded figure (loss) has no such bound: there, differences that all are exactly equal mean
    an adapter without effect.

    Args:
        standard_error: As the items' spread gives it.
        deviations: How far each of C clusters lies from the mean (C,), in the figure's own unit.
        span: Width of the figure's range.
    """
    if span is None:
        return standard_error
    squares = (deviations / span) ** 2
    carrying = float(squares.sum()) ** 2 / (float((squares**2).sum()) + _TELLING**4)
    floor = zero_event_error(len(deviations), span)
    return math.hypot(standard_error, floor * math.exp(-carrying))


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
        error = floored_error(raw, clusters * influence, span)
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
