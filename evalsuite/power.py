"""How likely a gate passes, and how many examples it takes: exact for right or wrong items.

The tests are the gates' own: Tango's score interval with its correction, and Student's t.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import StatisticsError
from evalsuite.proportions import continuity_correction, tango_scores
from evalsuite.statistics import normal_quantile, t_quantile

Numbers = NDArray[np.int64]

# Share of items on which base and adapter are assumed to differ, where nothing is known yet.
DISCORDANCE = 0.1
POWER = 0.8
_CORRECTION = 0.5  # `continuity_correction`, where not every item is discordant
# Tables rarer than this have no part in a probability that is shown in percent.
_RARE = 1e-12
_MOST_EXACT = 50_000


def examples_needed(
    margin: float,
    *,
    discordance: float = DISCORDANCE,
    confidence: float = 0.95,
    power: float = POWER,
) -> int:
    """Examples for a non-inferiority gate on a proportion, if the adapter truly equals the base.

    By the exact power, found from where n·m - c = (z_confidence + z_power)·√(n·ψ): ψ is the share
    of items on which the two differ, and c the correction of the interval (without it n is the
    familiar (z_confidence + z_power)²·ψ/m²). So many that the exact sum is slow are left as that.

    Raises:
        StatisticsError: ``margin`` is not positive.
    """
    if margin <= 0.0:
        raise StatisticsError(
            f"a margin of {margin} needs infinitely many examples; it must be more than 0."
        )
    spread = (normal_quantile(confidence) + normal_quantile(power)) * math.sqrt(discordance)
    root = (spread + math.sqrt(spread**2 + 4.0 * margin * _CORRECTION)) / (2.0 * margin)
    near = math.ceil(root**2)
    if near > _MOST_EXACT:
        return near

    def enough(items: int) -> bool:
        half = discordance / 2.0
        found = proportion_power(items, -margin, gained=half, lost=half, confidence=confidence)
        return found >= power

    return bisect_left(range(2 * near), x=True, lo=1, key=enough)


def proportion_power(
    items: int, threshold: float, *, gained: float, lost: float, confidence: float = 0.95
) -> float:
    """Probability that a gate on right or wrong items passes: exact, over all tables.

    Args:
        items: How many there are.
        threshold: What adapter minus base must be shown to exceed; -margin for non-inferiority.
        gained: Probability of an item that only the adapter gets right.
        lost: Probability of an item that only the base gets right.
        confidence: One-sided.
    """
    from scipy.stats import binom

    misses = np.arange(items + 1)
    weights = binom.pmf(misses, items, lost)
    misses = misses[weights > _RARE]
    fewest = _fewest_gained(items, misses, threshold, confidence)
    rest = items - misses
    # Where nothing else can happen, the quotient may be 1 and a rounding error, which is no share.
    share = min(1.0, gained / (1.0 - lost)) if lost < 1.0 else 0.0
    passing = binom.sf(fewest - 1, rest, share)
    return float(weights[misses] @ passing)


def _fewest_gained(items: int, lost: Numbers, threshold: float, confidence: float) -> Numbers:
    """For each number of lost items, how many must be gained to pass; one too many if none do."""
    quantile = normal_quantile(confidence)
    low: Numbers = np.full(len(lost), -1)
    high: Numbers = items - lost + 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        tried = np.clip(middle, 0, items - lost)
        scores = tango_scores(
            tried.astype(np.float64),
            lost.astype(np.float64),
            items,
            threshold,
            correction=continuity_correction(tried, lost, items),
        )
        passes = (scores > quantile) & (middle <= items - lost)
        low, high = np.where(passes, low, middle), np.where(passes, middle, high)
    return np.asarray(high)


def mean_power(items: int, distance: float, spread: float, *, confidence: float = 0.95) -> float:
    """Probability that a one-sided t interval clears a line that lies ``distance`` away.

    Args:
        items: How many there are.
        distance: From the true mean to the line, in the figure's unit.
        spread: Standard deviation between items, in the same unit.
        confidence: One-sided.
    """
    from scipy.special import nctdtr

    if items < 2:  # noqa: PLR2004 - one item has no spread
        return 0.0
    shift = distance * math.sqrt(items) / spread
    return float(1.0 - nctdtr(items - 1, shift, t_quantile(confidence, items - 1)))
