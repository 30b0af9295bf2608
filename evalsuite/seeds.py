"""Runs of one recipe that differ by their seed: how much of a figure is the seed's doing.

A run's interval says what other examples would have shown of the same adapter; another seed gives
another adapter. Which of two recipes is better is a question about recipes, and there the spread
between seeds counts as well (Bouthillier et al. 2021, arXiv 2103.03098; Miller 2024, arXiv
2411.00640, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evalsuite.errors import StatisticsError
from evalsuite.records import Evidence, Gate, PairedDifference
from evalsuite.statistics import t_quantile

_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSpread:
    """A metric over several seeds of one recipe, on the same examples.

    ``spread`` is the standard deviation between the runs' values on these examples. A part of it is
    that other seeds answer other examples well, which averages out over more examples;
    ``seed_deviation`` is what is left: the standard deviation of the seeds themselves.
    ``item_error`` is the standard error of one run's value, by its examples.
    """

    metric: str
    seeds: int
    mean: float
    spread: float
    seed_deviation: float
    item_error: float


def seed_spread(
    metric: str,
    values: Sequence[float],
    item_errors: Sequence[float],
    differences: Mapping[tuple[int, int], PairedDifference],
) -> SeedSpread:
    """What several seeds say of one metric.

    For two seeds on the same examples, the expected square of their difference is twice the
    variance between seeds, plus the squared standard error of the paired difference. So the
    variance between seeds is half of what is left over, on average over all pairs, and never below
    0: the components of variance of examples by seeds without replication (Miller 2024, eq. 8).

    Args:
        metric: Its name.
        values: The metric of each run.
        item_errors: Standard error of each by its examples.
        differences: The paired difference of every two runs, by their places.

    Raises:
        StatisticsError: Fewer than two runs, or a pair is missing.
    """
    if len(values) < _FEWEST:
        raise StatisticsError("seeds are told from items by at least two runs.")
    left = []
    for pair in combinations(range(len(values)), 2):
        if pair not in differences:
            raise StatisticsError(f"{metric}: runs {pair[0]} and {pair[1]} are not paired.")
        found = differences[pair]
        left.append((found.difference**2 - found.standard_error**2) / 2.0)
    return SeedSpread(
        metric=metric,
        seeds=len(values),
        mean=float(np.mean(values)),
        spread=float(np.std(values, ddof=1)),
        seed_deviation=math.sqrt(max(0.0, float(np.mean(left)))),
        item_error=math.sqrt(float(np.mean(np.square(item_errors)))),
    )


def seed_warnings(
    gates: Sequence[Gate], evidence: Evidence, others: Sequence[Evidence]
) -> tuple[str, ...]:
    """A sentence for every claimed gain that another seed may not show.

    With gains d_1 … d_K of K seeds, another seed's gain on the same examples lies above
    mean - t_{K-1} · s · √(1 + 1/K) with the gate's confidence.

    Args:
        gates: The recipe's gates; those that claim ``superior`` are looked at.
        evidence: The run's own.
        others: That of runs that differ from it by nothing but their seed.
    """
    if not others:
        return ()
    found = (_warning(gate, evidence, others) for gate in gates if gate.claim == "superior")
    return tuple(sentence for sentence in found if sentence is not None)


def _warning(gate: Gate, evidence: Evidence, others: Sequence[Evidence]) -> str | None:
    measured = evidence.measurement(gate.metric, "adapter")
    found = [one.difference(gate.metric, gate.against) for one in (evidence, *others)]
    sign = 1.0 if measured is not None and measured.higher_is_better else -1.0
    gains = [sign * one.difference for one in found if one is not None]
    if measured is None or len(gains) < _FEWEST:
        return None
    seeds, mean = len(gains), float(np.mean(gains))
    reach = t_quantile(gate.confidence, seeds - 1) * float(np.std(gains, ddof=1))
    lowest = mean - reach * math.sqrt(1.0 + 1.0 / seeds)
    if lowest > gate.margin:
        return None
    return (
        f"{gate.metric}: {seeds} seeds of this recipe gain {mean:.4g} on average and from "
        f"{min(gains):.4g} to {max(gains):.4g}; another seed may gain {lowest:.4g}, which is not "
        f"beyond {gate.margin:g}. The gain may be the seed's and not the recipe's."
    )
