"""Any number of runs side by side: what differs in their recipes, and what in their figures.

Differences are paired by example, and nothing is called best unless its interval against every
other run excludes zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from evalsuite.catalogue import is_clean
from evalsuite.errors import EvaluationError
from evalsuite.evidence import paired_differences
from evalsuite.records import GateVerdict, Identity, Measurement, PairedDifference
from reports.errors import ReportError
from reports.number_text import NOTHING, plain
from reports.stored_run import StoredRun, read_run
from reports.visible_text import without_paths

# Keys of a recipe that name it and decide nothing.
_NAMING = ("name", "description", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One run of a comparison; ``label`` is short and unique among the runs given."""

    label: str
    name: str
    verdict: GateVerdict
    adapter_digest: str
    trainable_parameters: int
    training_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedRun:
    """A run that may not be compared with the baseline, and why."""

    label: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeDifference:
    """A key of the recipe in which runs differ; ``values`` has one text a run."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """A metric of one run's adapter, and its difference from the baseline's (None for that)."""

    measurement: Measurement
    difference: PairedDifference | None
    best: bool


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
    recipe_differences: tuple[RecipeDifference, ...]
    metrics: tuple[ComparedMetric, ...]

    @property
    def baseline(self) -> ComparedRun:
        """The run that the others are measured against."""
        return self.runs[0]


def compare_runs(run_folders: Sequence[Path]) -> Comparison:
    """Compare finished runs; the first is the baseline.

    A run whose test examples, template, decoding or metric code differ from the baseline's is not
    compared but listed with the reason.

    Raises:
        ReportError: fewer than two runs, the same run twice, or a record that is missing or
            damaged.
    """
    runs = [read_run(folder) for folder in run_folders]
    labels = _labels(runs)
    baseline = runs[0]
    pairs = _Pairs()
    reasons = [None, *(_incomparable(baseline, run, pairs) for run in runs[1:])]
    compared = [run for run, reason in zip(runs, reasons, strict=True) if reason is None]
    return Comparison(
        runs=tuple(_compared_run(run, labels[run.name]) for run in compared),
        excluded=tuple(
            ExcludedRun(label=labels[run.name], name=run.name, reason=reason)
            for run, reason in zip(runs, reasons, strict=True)
            if reason is not None
        ),
        recipe_differences=recipe_differences([run.lock.recipe for run in compared]),
        metrics=_compared_metrics(compared, pairs),
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
    """Why ``run`` may not be compared with the baseline; None where it may."""
    wanted, found = baseline.evidence.identity, run.evidence.identity
    for field in fields(Identity):
        first, second = getattr(wanted, field.name), getattr(found, field.name)
        if first != second:
            what = field.name.replace("_", " ")
            return f"its {what} is {second[:12]}, the baseline's is {first[:12]}"
    missing = _metrics_of(baseline).keys() ^ _metrics_of(run).keys()
    if missing:
        return f"only one of the two measured {', '.join(sorted(missing))}"
    try:
        pairs.differences(baseline, run)
    except EvaluationError as error:
        return f"its examples cannot be paired with the baseline's: {error}"
    return None


def _metrics_of(run: StoredRun) -> dict[str, None]:
    """What was measured on all rows, in order; which rows are clean depends on the training set."""
    measured = (m for m in run.evidence.measurements if m.subject == "adapter")
    return dict.fromkeys(m.metric for m in measured if not is_clean(m.metric))


def _compared_run(run: StoredRun, label: str) -> ComparedRun:
    return ComparedRun(
        label=label,
        name=run.name,
        verdict=run.verdict.verdict,
        adapter_digest=run.training.adapter_digest,
        trainable_parameters=run.training.trainable_parameters,
        training_seconds=run.training.seconds,
        tokens_per_second=run.training.tokens_per_second,
        peak_memory_bytes=run.training.peak_memory_bytes,
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
    """Paired differences of every metric between two runs' adapters, each pair computed once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, PairedDifference]] = {}

    def differences(self, first: StoredRun, second: StoredRun) -> dict[str, PairedDifference]:
        """Second minus first, by metric."""
        key = (first.name, second.name)
        if key not in self._found:
            found = paired_differences(first.results("adapter"), second.results("adapter"))
            self._found[key] = {difference.metric: difference for difference in found}
        return self._found[key]

    def separated(self, first: StoredRun, second: StoredRun, metric: str) -> bool:
        """Whether the interval between the two excludes zero, in whichever direction."""
        if (second.name, first.name) in self._found:
            first, second = second, first
        found = self.differences(first, second)[metric]
        return found.low > 0.0 or found.high < 0.0


def _compared_metrics(runs: Sequence[StoredRun], pairs: _Pairs) -> tuple[ComparedMetric, ...]:
    return tuple(_compared_metric(runs, metric, pairs) for metric in _metrics_of(runs[0]))


def _compared_metric(runs: Sequence[StoredRun], metric: str, pairs: _Pairs) -> ComparedMetric:
    measured = [_measured(run, metric) for run in runs]
    best = _best(runs, measured, pairs)
    return ComparedMetric(
        metric=metric,
        unit=measured[0].unit,
        higher_is_better=measured[0].higher_is_better,
        values=tuple(
            ComparedValue(
                measurement=measurement,
                difference=None if run is runs[0] else pairs.differences(runs[0], run)[metric],
                best=run is best,
            )
            for run, measurement in zip(runs, measured, strict=True)
        ),
    )


def _measured(run: StoredRun, metric: str) -> Measurement:
    found = run.evidence.measurement(metric, "adapter")
    if found is None:
        raise ReportError(f"{run.name}: {metric} is missing from its evidence")
    return found


def _best(
    runs: Sequence[StoredRun], measured: Sequence[Measurement], pairs: _Pairs
) -> StoredRun | None:
    """The run that is better than each other one beyond noise; None where there is none."""
    if len(runs) == 1:
        return None
    sign = 1.0 if measured[0].higher_is_better else -1.0
    place = max(range(len(runs)), key=lambda place: sign * measured[place].value)
    leader, metric = runs[place], measured[place].metric
    others = (run for run in runs if run is not leader)
    return leader if all(pairs.separated(leader, other, metric) for other in others) else None
