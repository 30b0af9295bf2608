"""Compared runs that differ by nothing but their seed, and how far the seed alone moves figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from evalsuite.records import PairedDifference
from evalsuite.seeds import SeedSpread, seed_spread
from evalsuite.statistics import TAIL, t_quantile
from reports.stored_run import StoredRun

Differences = Callable[[StoredRun, StoredRun], Sequence[PairedDifference]]
# Keys of a recipe that decide nothing about its adapter, or are what differs.
_ASIDE = ("seed", "name", "description", "gates", "release", "hardware")
_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedGroup:
    """Runs of one recipe by several seeds, and the spread of every metric between them."""

    labels: tuple[str, ...]
    spreads: tuple[SeedSpread, ...]

    def spread(self, metric: str) -> SeedSpread | None:
        """That of one metric; None where not every run has it."""
        return next((found for found in self.spreads if found.metric == metric), None)


def seed_groups(
    runs: Sequence[StoredRun], labels: Mapping[str, str], differences: Differences
) -> tuple[SeedGroup, ...]:
    """The recipes of which at least two seeds are among ``runs``.

    Args:
        runs: Runs that may be compared with each other.
        labels: What each is called, by its name.
        differences: Second minus first of every metric that two runs share.
    """
    by_recipe: dict[str, dict[int, StoredRun]] = {}
    for run in runs:
        by_recipe.setdefault(_but_for_seed(run), {}).setdefault(run.lock.seed, run)
    groups = (tuple(by_seed.values()) for by_seed in by_recipe.values())
    return tuple(
        SeedGroup(
            labels=tuple(labels[run.name] for run in group),
            spreads=_spreads(group, differences),
        )
        for group in groups
        if len(group) >= _FEWEST
    )


def _but_for_seed(run: StoredRun) -> str:
    recipe = {key: value for key, value in run.lock.recipe.items() if key not in _ASIDE}
    return repr((sorted(recipe.items()), run.lock.data.digest, run.lock.model.digest))


def _spreads(group: Sequence[StoredRun], differences: Differences) -> tuple[SeedSpread, ...]:
    pairs = {
        (one, other): {found.metric: found for found in differences(group[one], group[other])}
        for one, other in combinations(range(len(group)), 2)
    }
    shared = [name for name in next(iter(pairs.values())) if all(name in p for p in pairs.values())]
    return tuple(_spread(metric, group, pairs) for metric in shared)


def _spread(
    metric: str,
    group: Sequence[StoredRun],
    pairs: Mapping[tuple[int, int], Mapping[str, PairedDifference]],
) -> SeedSpread:
    found = [run.evidence.measurement(metric, "adapter") for run in group]
    measured = [one for one in found if one is not None]
    return seed_spread(
        metric,
        [one.value for one in measured],
        [one.standard_error for one in measured],
        {place: pair[metric] for place, pair in pairs.items()},
    )


def is_seed_noise(difference: PairedDifference, groups: Sequence[SeedGroup]) -> bool:
    """Whether two seeds of one recipe differ as much as these two runs do.

    The difference of two runs of one recipe has √2 times the spread between seeds, which is known
    from K seeds: two-sided at 95%, Student t with K - 1 degrees of freedom.
    """
    spreads = [(group.spread(difference.metric), len(group.labels)) for group in groups]
    reaches = [
        math.sqrt(2.0) * spread.spread * t_quantile(1.0 - TAIL, seeds - 1)
        for spread, seeds in spreads
        if spread is not None
    ]
    return any(abs(difference.difference) < reach for reach in reaches)
