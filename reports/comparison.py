"""Any number of runs side by side: what differs in their recipes, and what in their figures.

Differences are paired by example, and nothing is called best unless its interval against every
other run excludes zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.catalogue import is_clean
from evalsuite.errors import EvaluationError
from evalsuite.evidence import paired_results
from evalsuite.pairing import Paired
from evalsuite.records import GateVerdict, Measurement, PairedDifference
from reports.errors import ReportError
from reports.number_text import NOTHING, plain
from reports.seed_groups import SeedGroup, is_seed_noise, seed_groups
from reports.stored_run import StoredRun, read_run
from reports.visible_text import without_paths

# Keys of a recipe that name it and decide nothing.
_NAMING = ("name", "description", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run of a comparison; ``label`` is short and unique among the runs given.

    What training cost is None where the adapter was trained elsewhere.
    """

    label: str
    name: str
    verdict: GateVerdict
    adapter_digest: str
    trainable_parameters: int | None
    training_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedRun:
    """A run that may not be compared with the baseline, and why."""

    label: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedGroup:
    """A partition or task on which one run may not be compared with the baseline, and why."""

    label: str
    group: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeDifference:
    """A key of the recipe in which runs differ; ``values`` has one text a run."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """A metric of one run's adapter, and its difference from the baseline's.

    The difference is None for the baseline, and where the two may not be compared; the measurement
    is None where this run has none. ``seed_noise`` says that another seed alone makes as much of a
    difference.
    """

    measurement: Measurement | None
    difference: PairedDifference | None
    best: bool
    seed_noise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of every compared run, in the order of the runs."""

    metric: str
    unit: str
    higher_is_better: bool
    values: tuple[ComparedValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs compared with the first of them, the baseline."""

    runs: tuple[ComparedRun, ...]
    excluded: tuple[ExcludedRun, ...]
    refused: tuple[RefusedGroup, ...]
    seeds: tuple[SeedGroup, ...]
    recipe_differences: tuple[RecipeDifference, ...]
    metrics: tuple[ComparedMetric, ...]

    @property
    def baseline(self) -> ComparedRun:
        """The run that the others are measured against."""
        return self.runs[0]


def compare_runs(run_folders: Sequence[Path]) -> Comparison:
    """Compare finished runs; the first is the baseline.

    Where the examples, the template, the decoding or the metrics of a partition or task differ from
    the baseline's, the run is compared in the others, and the reason is given. A run measured by
    other code, or that shares nothing with the baseline, is not compared at all.

    Raises:
        ReportError: fewer than two runs, the same run twice, or a record that is missing or
            damaged.
    """
    runs = [read_run(folder) for folder in run_folders]
    labels = _labels(runs)
    baseline = runs[0]
    pairs = _Pairs(labels)
    reasons = [None, *(_incomparable(baseline, run, pairs) for run in runs[1:])]
    compared = [run for run, reason in zip(runs, reasons, strict=True) if reason is None]
    seeds = seed_groups(compared, labels, lambda *two: pairs.between(*two).differences)
    return Comparison(
        runs=tuple(_compared_run(run, labels[run.name]) for run in compared),
        excluded=tuple(
            ExcludedRun(label=labels[run.name], name=run.name, reason=reason)
            for run, reason in zip(runs, reasons, strict=True)
            if reason is not None
        ),
        refused=tuple(
            RefusedGroup(label=labels[run.name], group=found.group, reason=found.reason)
            for run in compared[1:]
            for found in pairs.between(baseline, run).refused
        ),
        seeds=seeds,
        recipe_differences=recipe_differences([run.lock.recipe for run in compared]),
        metrics=_compared_metrics(compared, pairs, seeds),
    )


def _labels(runs: Sequence[StoredRun]) -> dict[str, str]:
    """A label for each run: its recipe's name where that is unique, else with the run id."""
    if len(runs) < 2:  # noqa: PLR2004 - a comparison is of two
        raise ReportError("a comparison needs at least two runs; name another run folder.")
    names = [run.name for run in runs]
    recipes = [run.recipe_name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ReportError(f"{name}: this run is given twice; name each run once.")
    return {
        run.name: run.recipe_name
        if recipes.count(run.recipe_name) == 1
        else f"{run.recipe_name}/{run.lock.run_id[:7]}"
        for run in runs
    }


def _incomparable(baseline: StoredRun, run: StoredRun, pairs: _Pairs) -> str | None:
    """Why ``run`` may not be compared with the baseline at all; None where it may."""
    wanted, found = (one.evidence.identity.code_version for one in (baseline, run))
    if wanted != found:
        return f"its code version is {found[:12]}, the baseline's is {wanted[:12]}"
    try:
        pair = pairs.between(baseline, run)
    except EvaluationError as error:
        return f"its examples cannot be paired with the baseline's: {error}"
    if pair.differences or not pair.refused:
        return None
    first = pair.refused[0]
    return f"nothing of it can be paired with the baseline's; {first.group}: {first.reason}"


def _metrics_of(run: StoredRun) -> dict[str, None]:
    """What was measured on all rows, in order; which rows are clean depends on the training set."""
    measured = (m for m in run.evidence.measurements if m.subject == "adapter")
    return dict.fromkeys(m.metric for m in measured if not is_clean(m.metric))


def _compared_run(run: StoredRun, label: str) -> ComparedRun:
    training = run.training
    return ComparedRun(
        label=label,
        name=run.name,
        verdict=run.verdict.verdict,
        adapter_digest=run.adapter_digest,
        trainable_parameters=None if training is None else training.trainable_parameters,
        training_seconds=None if training is None else training.seconds,
        tokens_per_second=None if training is None else training.tokens_per_second,
        peak_memory_bytes=None if training is None else training.peak_memory_bytes,
    )


def recipe_differences(recipes: Sequence[Mapping[str, object]]) -> tuple[RecipeDifference, ...]:
    """The keys, as dotted paths, whose values are not the same in every resolved recipe."""
    flat = [flattened_recipe(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = ((key, tuple(one.get(key, NOTHING) for one in flat)) for key in keys)
    return tuple(
        RecipeDifference(key=key, values=values) for key, values in rows if len(set(values)) > 1
    )


def flattened_recipe(recipe: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """``{"lora": {"r": 8}}`` as ``{"lora.r": "8"}``, without its name."""
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        path = f"{prefix}{key}"
        if path in _NAMING:
            continue
        if isinstance(value, Mapping):
            flat |= flattened_recipe(value, f"{path}.")
        else:
            flat[path] = _value_text(value)
    return flat


def _value_text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return plain(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value_text, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {_value_text(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    return without_paths(str(value))


class _Pairs:
    """Paired differences between the adapters of two runs, each pair computed once."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._found: dict[tuple[str, str], Paired] = {}

    def between(self, first: StoredRun, second: StoredRun) -> Paired:
        """Second minus first of all that the two share."""
        key = (first.name, second.name)
        if key not in self._found:
            self._found[key] = paired_results(
                first.results("adapter"),
                second.results("adapter"),
                names=(self._labels[first.name], self._labels[second.name]),
            )
        return self._found[key]

    def difference(
        self, first: StoredRun, second: StoredRun, metric: str
    ) -> PairedDifference | None:
        """Second minus first of one metric; None where the two may not be compared in it."""
        found = self.between(first, second).differences
        return next((one for one in found if one.metric == metric), None)

    def separated(self, first: StoredRun, second: StoredRun, metric: str) -> bool:
        """Whether the interval between the two excludes zero, in whichever direction."""
        if (second.name, first.name) in self._found:
            first, second = second, first
        found = self.difference(first, second, metric)
        return found is not None and (found.low > 0.0 or found.high < 0.0)


def _compared_metrics(
    runs: Sequence[StoredRun], pairs: _Pairs, seeds: Sequence[SeedGroup]
) -> tuple[ComparedMetric, ...]:
    return tuple(_compared_metric(runs, metric, pairs, seeds) for metric in _metrics_of(runs[0]))


def _compared_metric(
    runs: Sequence[StoredRun], metric: str, pairs: _Pairs, seeds: Sequence[SeedGroup]
) -> ComparedMetric:
    own = _measured(runs[0], metric)
    shared = [run for run in runs[1:] if pairs.difference(runs[0], run, metric) is not None]
    best = _best([runs[0], *shared], metric, pairs) if len(shared) == len(runs) - 1 else None
    return ComparedMetric(
        metric=metric,
        unit=own.unit,
        higher_is_better=own.higher_is_better,
        values=tuple(_compared_value(runs[0], run, metric, pairs, seeds, best) for run in runs),
    )


def _compared_value(  # noqa: PLR0917 - one cell of the table
    baseline: StoredRun,
    run: StoredRun,
    metric: str,
    pairs: _Pairs,
    seeds: Sequence[SeedGroup],
    best: StoredRun | None,
) -> ComparedValue:
    difference = None if run is baseline else pairs.difference(baseline, run, metric)
    noise = difference is not None and is_seed_noise(difference, seeds)
    return ComparedValue(
        measurement=run.evidence.measurement(metric, "adapter"),
        difference=difference,
        best=run is best,
        seed_noise=noise,
    )


def _measured(run: StoredRun, metric: str) -> Measurement:
    found = run.evidence.measurement(metric, "adapter")
    if found is None:
        raise ReportError(f"{run.name}: {metric} is missing from its evidence")
    return found


def _best(runs: Sequence[StoredRun], metric: str, pairs: _Pairs) -> StoredRun | None:
    """The run that is better than each other one beyond noise; None where there is none."""
    if len(runs) == 1:
        return None
    measured = [_measured(run, metric) for run in runs]
    sign = 1.0 if measured[0].higher_is_better else -1.0
    leader = runs[max(range(len(runs)), key=lambda place: sign * measured[place].value)]
    others = (run for run in runs if run is not leader)
    return leader if all(pairs.separated(leader, other, metric) for other in others) else None
