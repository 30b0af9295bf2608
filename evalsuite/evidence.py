"""Evidence: every figure of base and adapter and their paired differences, from stored results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.bootstrap import CorpusScore, corpus_estimate, paired_corpus_difference
from evalsuite.clean_rows import Leaked, clean_losses, clean_scores, leaked_examples
from evalsuite.corpus_scores import CORPUS_SCORES
from evalsuite.errors import EvidenceError, StatisticsError
from evalsuite.figures import LOSS, Figure
from evalsuite.records import (
    Evidence,
    Identity,
    LeakedExamples,
    Measurement,
    Method,
    PairedDifference,
    Subject,
)
from evalsuite.results import (
    Matrix,
    PartitionLoss,
    TaskScores,
    Vector,
    read_loss,
    read_task,
)
from evalsuite.statistics import (
    Estimate,
    clopper_pearson,
    discordance_error,
    exact_mcnemar,
    item_mean,
    log_ratio,
    paired_item_mean,
    paired_log_ratio,
    paired_ratio,
    proportion_error,
    ratio,
    t_test,
    tango_interval,
)

LOSS_FILE = "loss.parquet"

_METHODS: Mapping[str, Method] = {
    "ratio": "clustered-ratio",
    "log-ratio": "log-ratio",
    "mean": "item-mean",
    "binary": "binary-items",
    "corpus": "bootstrap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Results:
    """All that was stored about one subject."""

    losses: Mapping[str, PartitionLoss]
    tasks: Mapping[str, TaskScores]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Observed:
    """One figure of one subject: per-example numbers in the form its kind asks for.

    ``values`` are the numerators of a ratio (n,), per-item scores (n,), or the sufficient
    statistics of a corpus figure (n, K); ``weights`` are the denominators of a ratio (n,).
    """

    metric: str
    figure: Figure
    values: Vector | Matrix
    weights: Vector


def gather_evidence(
    *,
    folder: Path,
    base: bool,
    identity: Identity,
    base_digest: str,
    adapter_digest: str | None,
    leaked: Leaked | None = None,
) -> Evidence:
    """Measure every figure from the per-example Parquet files below ``folder``.

    Where some rows of a partition or task leak, its figures are measured on the clean rows as well.

    Args:
        folder: A run's ``evaluation/``, with a folder for each subject.
        base: Whether the base model was evaluated; without it there are no differences.
        identity: What the results have in common.
        base_digest: Digest of the base model.
        adapter_digest: Digest of the adapter, or None where only the base was evaluated.
        leaked: By partition, the examples that leak; None where leaks were not looked for.

    Raises:
        EvidenceError: A file is missing or damaged; base and adapter were not evaluated on the
            same examples in the same way; a value is not finite; an example that leaks was not
            evaluated.
    """
    before = _read_results(folder / "base") if base else None
    after = _read_results(folder / "adapter") if adapter_digest is not None else None
    measurements: list[Measurement] = []
    differences: tuple[PairedDifference, ...] = ()
    if before is not None:
        measurements += _measurements(before, "base", leaked)
    if after is not None:
        measurements += _measurements(after, "adapter", leaked)
    if before is not None and after is not None:
        differences = _differences(before, after)
        if leaked is not None:
            differences += _differences(_clean(before, leaked), _clean(after, leaked))
    return Evidence(
        measurements=tuple(measurements),
        differences=differences,
        leaked=_leaked_examples(before or after, leaked),
        identity=identity,
        base_digest=base_digest,
        adapter_digest=adapter_digest,
    )


def _measurements(results: _Results, subject: Subject, leaked: Leaked | None) -> list[Measurement]:
    """Every figure on all rows, then those on clean rows."""
    found = [_measurement(seen, subject) for seen in _observations(results)]
    if leaked is not None:
        clean = _observations(_clean(results, leaked))
        found += [_measurement(seen, subject) for seen in clean]
    return found


def _clean(results: _Results, leaked: Leaked) -> _Results:
    return _Results(
        losses=clean_losses(results.losses, leaked), tasks=clean_scores(results.tasks, leaked)
    )


def _leaked_examples(results: _Results | None, leaked: Leaked | None) -> tuple[LeakedExamples, ...]:
    if results is None or leaked is None:
        return ()
    return leaked_examples(results.losses, results.tasks, leaked)


def paired_differences(first: Path, second: Path) -> tuple[PairedDifference, ...]:
    """Second minus first of every figure, from two folders of per-example results.

    The folders are ``evaluation/<subject>`` of any two runs: two adapters, or an adapter and a
    base.

    Raises:
        EvidenceError: As `gather_evidence`.
    """
    return _differences(_read_results(first), _read_results(second))


def _differences(first: _Results, second: _Results) -> tuple[PairedDifference, ...]:
    _require_comparable(first, second)
    pairs = zip(_observations(first), _observations(second), strict=True)
    return tuple(_difference(*pair) for pair in pairs)


def _read_results(folder: Path) -> _Results:
    if not folder.is_dir():
        raise EvidenceError(f"{folder}: is missing; evaluate the {folder.name} first.")
    losses = folder / LOSS_FILE
    tasks = sorted(path for path in folder.glob("*.parquet") if path.name != LOSS_FILE)
    return _Results(
        losses=read_loss(losses) if losses.is_file() else {},
        tasks={path.stem: read_task(path) for path in tasks},
    )


def _observations(results: _Results) -> Iterator[_Observed]:
    """Every figure that was stored, loss first, in a fixed order."""
    for partition, stored in sorted(results.losses.items()):
        for name, figure in LOSS.items():
            values, weights = _loss_ratio(name, stored)
            yield _Observed(
                metric=f"{partition}.{name}", figure=figure, values=values, weights=weights
            )
    for task, scored in sorted(results.tasks.items()):
        for name, figure in scored.figures.items():
            corpus = figure.kind == "corpus"
            yield _Observed(
                metric=f"{task}.{name}",
                figure=figure,
                values=scored.statistics[name] if corpus else scored.scores[name],
                weights=np.ones(len(scored.example_ids)),
            )


def _loss_ratio(name: str, stored: PartitionLoss) -> tuple[Vector, Vector]:
    """Numerators and denominators of a figure of held-out loss."""
    if name == "bits_per_byte":
        return stored.nll / math.log(2.0), stored.bytes
    if name == "token_accuracy":
        return stored.correct, stored.tokens
    return stored.nll, stored.tokens


def _measurement(seen: _Observed, subject: Subject) -> Measurement:
    try:
        estimate = _estimate(seen)
    except StatisticsError as error:
        raise EvidenceError(f"{seen.metric} of the {subject}: {error}") from error
    figure = seen.figure
    return Measurement(
        metric=seen.metric,
        subject=subject,
        value=estimate.value,
        standard_error=estimate.standard_error,
        low=estimate.low if figure.lowest is None else max(estimate.low, figure.lowest),
        high=estimate.high if figure.highest is None else min(estimate.high, figure.highest),
        degrees_of_freedom=estimate.degrees_of_freedom,
        examples=len(seen.values),
        unit=figure.unit,
        higher_is_better=figure.higher_is_better,
        method=_METHODS[figure.kind],
    )


def _estimate(seen: _Observed) -> Estimate:
    figure = seen.figure
    if figure.kind == "ratio":
        return ratio(seen.values, seen.weights, span=figure.span)
    if figure.kind == "log-ratio":
        return log_ratio(seen.values, seen.weights)
    if figure.kind == "mean":
        return item_mean(seen.values, span=figure.span)
    if figure.kind == "binary":
        return _proportion(seen)
    score, span = _corpus_score(seen)
    return corpus_estimate(seen.values, score, span=span)


def _proportion(seen: _Observed) -> Estimate:
    items = len(seen.values)
    right = _count_right(seen)
    low, high = clopper_pearson(right, items)
    return Estimate(
        value=right / items,
        standard_error=proportion_error(right, items),
        degrees_of_freedom=items - 1,
        low=low,
        high=high,
    )


def _count_right(seen: _Observed) -> int:
    if not np.isin(seen.values, (0.0, 1.0)).all():
        raise StatisticsError("a score of a figure that counts items is neither 0 nor 1.")
    return int(seen.values.sum())


def _corpus_score(seen: _Observed) -> tuple[CorpusScore, float]:
    name = seen.metric.rsplit(".", 1)[-1]
    if name not in CORPUS_SCORES or seen.figure.span is None:
        raise EvidenceError(
            f"{seen.metric}: no corpus formula with a bounded range is known for {name}; "
            f"known: {', '.join(CORPUS_SCORES)}."
        )
    return CORPUS_SCORES[name], seen.figure.span


def _difference(base: _Observed, adapter: _Observed) -> PairedDifference:
    try:
        if base.figure.kind == "binary":
            return _binary_difference(base, adapter)
        estimate = _paired_estimate(base, adapter)
    except StatisticsError as error:
        raise EvidenceError(f"{base.metric}, adapter minus base: {error}") from error
    method = _METHODS[base.figure.kind]
    span = base.figure.span
    widest = math.inf if span is None else span
    return PairedDifference(
        metric=base.metric,
        difference=estimate.value,
        standard_error=estimate.standard_error,
        low=max(estimate.low, -widest),
        high=min(estimate.high, widest),
        degrees_of_freedom=estimate.degrees_of_freedom,
        examples=len(base.values),
        # The difference of two perplexities is on their own scale, by the delta method.
        method="clustered-ratio" if method == "log-ratio" else method,
        p_value=t_test(estimate.value, estimate.standard_error, estimate.degrees_of_freedom),
    )


def _paired_estimate(base: _Observed, adapter: _Observed) -> Estimate:
    figure = base.figure
    if figure.kind == "ratio":
        return paired_ratio(base.values, adapter.values, base.weights, span=figure.span)
    if figure.kind == "log-ratio":
        return paired_log_ratio(base.values, adapter.values, base.weights)
    if figure.kind == "mean":
        return paired_item_mean(base.values, adapter.values, span=figure.span)
    score, span = _corpus_score(base)
    return paired_corpus_difference(base.values, adapter.values, score, span=span)


def _binary_difference(base: _Observed, adapter: _Observed) -> PairedDifference:
    items = len(base.values)
    gained = int(((base.values == 0.0) & (adapter.values == 1.0)).sum())
    lost = int(((base.values == 1.0) & (adapter.values == 0.0)).sum())
    low, high = tango_interval(gained, lost, items)
    return PairedDifference(
        metric=base.metric,
        difference=(gained - lost) / items,
        standard_error=discordance_error(gained, lost, items),
        low=low,
        high=high,
        degrees_of_freedom=items - 1,
        examples=items,
        method="binary-items",
        p_value=exact_mcnemar(gained, lost),
        gained=gained,
        lost=lost,
    )


def _require_comparable(base: _Results, adapter: _Results) -> None:
    """Raise `EvidenceError` naming the first thing in which base and adapter differ."""
    _require_same_names("held-out partitions", base.losses, adapter.losses)
    _require_same_names("generation tasks", base.tasks, adapter.tasks)
    for partition, before in base.losses.items():
        after = adapter.losses[partition]
        _require_same_ids(partition, before.example_ids, after.example_ids)
        for column in ("tokens", "bytes"):
            first, second = getattr(before, column), getattr(after, column)
            _require_same_counts(partition, column, before.example_ids, first, second)
    for task, scored in base.tasks.items():
        _require_same_ids(task, scored.example_ids, adapter.tasks[task].example_ids)
        _require_same_conditions(task, scored, adapter.tasks[task])


def _require_same_names(what: str, base: Mapping[str, Any], adapter: Mapping[str, Any]) -> None:
    if base.keys() != adapter.keys():
        raise EvidenceError(
            f"base and adapter were evaluated on other {what}: {', '.join(sorted(base))} and "
            f"{', '.join(sorted(adapter))}; evaluate both by the same recipe."
        )


def _require_same_ids(what: str, base: Sequence[str], adapter: Sequence[str]) -> None:
    for place, (first, second) in enumerate(zip_longest(base, adapter)):
        if first != second:
            raise EvidenceError(
                f"{what}: base and adapter differ at example {place}: {first or 'none'} and "
                f"{second or 'none'}; evaluate both on the same examples."
            )


def _require_same_counts(
    what: str, column: str, ids: Sequence[str], base: Vector, adapter: Vector
) -> None:
    differing = np.flatnonzero(base != adapter)
    if len(differing):
        place = int(differing[0])
        raise EvidenceError(
            f"{what}: example {ids[place]} has {base[place]:.0f} supervised {column} for the base "
            f"and {adapter[place]:.0f} for the adapter; both must be scored on the same tokens."
        )


def _require_same_conditions(task: str, base: TaskScores, adapter: TaskScores) -> None:
    first = {**base.conditions, "figures": base.figures}
    second = {**adapter.conditions, "figures": adapter.figures}
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            raise EvidenceError(
                f"{task}: base and adapter differ in {name}: {first.get(name)} and "
                f"{second.get(name)}; evaluate both in the same way."
            )
