"""Shares of items that are right or wrong: of one model, and of two on the same items."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from evalsuite.errors import StatisticsError
from evalsuite.statistics import TAIL, Vector, normal_quantile

# A count of items, or one for each of several tables.
Counts = TypeVar("Counts", float, Vector)

# Bisection halves an interval of length 2 down to the spacing of float64.
_BISECTIONS = 60


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


def tango_interval(
    gained: int, lost: int, items: int, tail: float = TAIL, *, correction: float = 0.0
) -> tuple[float, float]:
    """Score interval of the difference (gained - lost)/items of two paired proportions.

    The limits are those differences Δ at which the score statistic equals the normal quantile
    (Tango 1998, Statistics in Medicine 17:891-908, equations 6 to 9). Unlike Wald's it is not
    too narrow for few or no discordant pairs.

    Args:
        gained: Items that only the adapter got right.
        lost: Items that only the base got right.
        items: All items.
        tail: Probability of missing on each side.
        correction: Moves both limits outwards, as if so many items more were lost (gained).

    Raises:
        StatisticsError: Counts that are negative or more than ``items``, or no items.
    """
    _counts(gained, lost, items)
    quantile = normal_quantile(1.0 - tail)
    low = partial(_tango_score, gained, lost, items, correction)
    high = partial(_tango_score, gained, lost, items, -correction)
    return _crossing(low, quantile), _crossing(high, -quantile)


def continuity_correction(gained: ArrayLike, lost: ArrayLike, items: int) -> Vector:
    """Half the step between possible differences, by which a gate moves Tango's limits outwards.

    The plain limit passes an adapter at the margin up to 6.7% of the time at 5% where few items are
    discordant, however many items there are (docs/decisions/0012). Where every item is discordant,
    the difference of gained and lost goes in steps of two.
    """
    every = np.add(gained, lost) == items
    return np.asarray(np.where(every, 1.0, 0.5))


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


def _tango_score(gained: int, lost: int, items: int, correction: float, delta: float) -> float:
    return float(tango_scores(gained, lost, items, delta, correction=correction))


def tango_scores(
    gained: Counts, lost: Counts, items: int, delta: float, *, correction: float | Vector = 0.0
) -> Counts:
    """Tango's statistic of tables; the nuisance P(lost) at its maximum likelihood under ``delta``.

    Args:
        gained: Items that only the adapter got right, of one table or of many (T,).
        lost: Items that only the base got right, as many.
        items: All items of each table.
        delta: The difference of the two proportions that is tested.
        correction: Taken off the items gained.
    """
    distance = gained - lost - items * delta - correction
    linear = -(gained + lost) + (2 * items - gained + lost) * delta
    constant = -lost * delta * (1.0 - delta)
    root = np.sqrt(np.maximum(linear * linear - 8.0 * items * constant, 0.0))
    lost_share = (root - linear) / (4.0 * items)
    variance = items * (2.0 * lost_share + delta * (1.0 - delta))
    # Without any spread the statistic is infinite, or 0 where there is no distance either.
    return distance / np.sqrt(np.maximum(variance, sys.float_info.min))  # type: ignore[no-any-return]  # numpy's sqrt of a float or an array


def _counts(first: int, second: int, items: int) -> None:
    if items < 1:
        raise StatisticsError("a proportion needs at least one item.")
    if min(first, second) < 0 or first + second > items:
        raise StatisticsError(f"counts {first} and {second} are not possible among {items} items.")
