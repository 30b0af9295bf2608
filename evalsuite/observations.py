"""Figures of stored results as the numbers that statistics take, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from evalsuite.bootstrap import CorpusScore, corpus_estimate, paired_corpus_difference
from evalsuite.corpus_scores import CORPUS_SCORES
from evalsuite.errors import EvidenceError, StatisticsError
from evalsuite.figures import LOSS, Figure, FigureKind
from evalsuite.proportions import (
    clopper_pearson,
    discordance_error,
    exact_mcnemar,
    proportion_error,
    tango_interval,
)
from evalsuite.records import Measured, Measurement, Method, PairedDifference, Reference
from evalsuite.results import Matrix, PartitionLoss, TaskScores, Vector
from evalsuite.statistics import (
    Clusters,
    Estimate,
    cluster_numbers,
    item_mean,
    log_ratio,
    paired_item_mean,
    paired_log_ratio,
    paired_ratio,
    ratio,
    t_test,
)
from evalsuite.stored_results import StoredResults

_METHODS: Mapping[FigureKind, Method] = {
    "ratio": "clustered-ratio",
    "log-ratio": "log-ratio",
    "mean": "item-mean",
    "binary": "binary-items",
    "corpus": "bootstrap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One figure of one subject: per-example numbers in the form its kind asks for.

    ``values`` are the numerators of a ratio (n,), per-item scores (n,), or the sufficient
    statistics of a corpus figure (n, K); ``weights`` are the denominators of a ratio (n,);
    ``clusters`` says which examples depend on each other.
    """

    metric: str
    figure: Figure
    values: Vector | Matrix
    weights: Vector
    clusters: Clusters

    @property
    def kind(self) -> FigureKind:
        """How it is summarised. Right or wrong items that come in clusters are averaged."""
        clustered = self.figure.kind == "binary" and self.clusters is not None
        return "mean" if clustered else self.figure.kind

    @property
    def cluster_count(self) -> int | None:
        """How many clusters the examples come in; None where each is one of its own."""
        return None if self.clusters is None else len(np.unique(self.clusters))


def observations(results: StoredResults) -> Iterator[Observed]:
    """Every figure that was stored, loss first, in a fixed order."""
    for name, stored in results.groups():
        if isinstance(stored, PartitionLoss):
            yield from _of_losses(name, stored)
        else:
            yield from _of_scores(name, stored)


def _of_losses(partition: str, stored: PartitionLoss) -> Iterator[Observed]:
    clusters = cluster_numbers(stored.clusters)
    for name, figure in LOSS.items():
        if name == "kl" and stored.kl is None:
            continue
        values, weights = _loss_ratio(name, stored)
        yield Observed(
            metric=f"{partition}.{name}",
            figure=figure,
            values=values,
            weights=weights,
            clusters=clusters,
        )


def _loss_ratio(name: str, stored: PartitionLoss) -> tuple[Vector, Vector]:
    """Numerators and denominators of a figure of held-out loss."""
    if name == "bits_per_byte":
        return stored.nll / math.log(2.0), stored.bytes
    if name == "token_accuracy":
        return stored.correct, stored.tokens
    if name == "kl" and stored.kl is not None:
        return stored.kl, stored.tokens
    return stored.nll, stored.tokens


def _of_scores(task: str, scored: TaskScores) -> Iterator[Observed]:
    clusters = cluster_numbers(scored.clusters)
    for name, figure in scored.figures.items():
        values, weights = _task_values(name, figure, scored)
        yield Observed(
            metric=f"{task}.{name}",
            figure=figure,
            values=values,
            weights=weights,
            clusters=clusters,
        )


def _task_values(name: str, figure: Figure, scored: TaskScores) -> tuple[Vector | Matrix, Vector]:
    """Values and weights of a task's figure; a ratio is that of its two statistics, times 100."""
    if figure.kind == "ratio":
        statistics = scored.statistics[name]
        return 100.0 * statistics[:, 0], statistics[:, 1]
    values = scored.statistics[name] if figure.kind == "corpus" else scored.scores[name]
    return values, np.ones(len(scored.example_ids))


def measurement(seen: Observed, subject: Measured) -> Measurement:
    """One figure of one subject.

    Raises:
        EvidenceError: No honest interval can be made of its numbers.
    """
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
        clusters=seen.cluster_count,
        unit=figure.unit,
        higher_is_better=figure.higher_is_better,
        method=_METHODS[seen.kind],
    )


def _estimate(seen: Observed) -> Estimate:
    span, clusters = seen.figure.span, seen.clusters
    match seen.kind:
        case "ratio":
            return ratio(seen.values, seen.weights, span=span, clusters=clusters)
        case "log-ratio":
            return log_ratio(seen.values, seen.weights, clusters=clusters)
        case "mean":
            _require_right_or_wrong(seen)
            return item_mean(seen.values, span=span, clusters=clusters)
        case "binary":
            return _proportion(seen)
        case "corpus":
            score, width = _corpus_score(seen)
            return corpus_estimate(seen.values, score, span=width, clusters=clusters)


def _proportion(seen: Observed) -> Estimate:
    _require_right_or_wrong(seen)
    items, right = len(seen.values), int(seen.values.sum())
    low, high = clopper_pearson(right, items)
    return Estimate(
        value=right / items,
        standard_error=proportion_error(right, items),
        degrees_of_freedom=items - 1,
        low=low,
        high=high,
    )


def _require_right_or_wrong(seen: Observed) -> None:
    if seen.figure.kind == "binary" and not np.isin(seen.values, (0.0, 1.0)).all():
        raise StatisticsError("a score of a figure that counts items is neither 0 nor 1.")


def _corpus_score(seen: Observed) -> tuple[CorpusScore, float]:
    formula = seen.figure.formula
    if formula not in CORPUS_SCORES or seen.figure.span is None:
        raise EvidenceError(
            f"{seen.metric}: no corpus formula with a bounded range is known by the name "
            f"{formula}; known: {', '.join(CORPUS_SCORES)}."
        )
    return CORPUS_SCORES[formula], seen.figure.span


def difference(before: Observed, after: Observed, *, against: Reference) -> PairedDifference:
    """``after`` minus ``before`` on the same examples.

    Raises:
        EvidenceError: No honest interval can be made of their numbers.
    """
    try:
        if before.kind == "binary":
            return _binary_difference(before, after, against)
        estimate = _paired_estimate(before, after)
    except StatisticsError as error:
        raise EvidenceError(f"{before.metric}, adapter minus {against}: {error}") from error
    span = before.figure.span
    widest = math.inf if span is None else span
    # The difference of two perplexities is on their own scale, by the delta method.
    method = "clustered-ratio" if before.kind == "log-ratio" else _METHODS[before.kind]
    return PairedDifference(
        metric=before.metric,
        against=against,
        difference=estimate.value,
        standard_error=estimate.standard_error,
        low=max(estimate.low, -widest),
        high=min(estimate.high, widest),
        degrees_of_freedom=estimate.degrees_of_freedom,
        examples=len(before.values),
        clusters=before.cluster_count,
        method=method,
        p_value=t_test(estimate.value, estimate.standard_error, estimate.degrees_of_freedom),
    )


def _paired_estimate(before: Observed, after: Observed) -> Estimate:
    span, clusters = before.figure.span, before.clusters
    first, second = before.values, after.values
    match before.kind:
        case "ratio" if np.array_equal(before.weights, after.weights):
            return paired_ratio(first, second, before.weights, span=span, clusters=clusters)
        case "log-ratio":
            return paired_log_ratio(first, second, before.weights, clusters=clusters)
        case "corpus":
            score, width = _corpus_score(before)
            return paired_corpus_difference(first, second, score, span=width, clusters=clusters)
        case "ratio":
            raise StatisticsError("the two are not measured on the same tokens.")
    return paired_item_mean(first, second, span=span, clusters=clusters)


def _binary_difference(before: Observed, after: Observed, against: Reference) -> PairedDifference:
    for seen in (before, after):
        _require_right_or_wrong(seen)
    items = len(before.values)
    gained = int(((before.values == 0.0) & (after.values == 1.0)).sum())
    lost = int(((before.values == 1.0) & (after.values == 0.0)).sum())
    low, high = tango_interval(gained, lost, items)
    return PairedDifference(
        metric=before.metric,
        against=against,
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
