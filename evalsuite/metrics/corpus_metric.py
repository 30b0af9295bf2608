"""Metrics of sacrebleu, whose figure is that of a whole corpus and not a mean of its items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.corpus_scores import Matrix, Vector
from evalsuite.metrics.item_metric import ItemMetric

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacrebleuMetric


class CorpusMetric(ItemMetric):
    """A figure computed from counts that are summed over all items first.

    `statistics` gives every item's counts, for the paired bootstrap or the ratio estimator;
    `scores` gives every item's own figure, for the reader.
    """

    library = "sacrebleu"
    _counted: tuple[tuple[tuple[str, ...], tuple[str, ...]], list[list[float]]] | None = None

    @abstractmethod
    def sacrebleu_metric(self) -> SacrebleuMetric:
        """Sacrebleu's metric with the options of this one."""

    @abstractmethod
    def item_scores(self, statistics: Matrix) -> Vector:
        """The figure of each item by itself (n,), from its statistics (n, K)."""

    @cached_property
    def _metric(self) -> SacrebleuMetric:
        return self.sacrebleu_metric()

    @property
    def _figure(self) -> str:
        return next(iter(self.figures))

    @property
    def signature(self) -> str:
        """The signature that sacrebleu itself gives."""
        # sacrebleu counts the references while it scores; one pair is enough to tell it.
        score = self._metric.corpus_score([""], [[""]])
        return f"{score.name}|{self._metric.get_signature()}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """Each item's figure by itself."""
        del columns
        counts = self._counts(tuple(predictions), tuple(references))
        if not counts:
            return {self._figure: []}
        return {self._figure: self.item_scores(np.asarray(counts, dtype=np.float64)).tolist()}

    def statistics(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[list[float]]]:
        """Sacrebleu's counts of every item (n, K)."""
        return {self._figure: self._counts(tuple(predictions), tuple(references))}

    def _counts(
        self, predictions: tuple[str, ...], references: tuple[str, ...]
    ) -> list[list[float]]:
        """Counts of every item; those of the last call are kept: edits take long to count."""
        texts = (predictions, references)
        if self._counted is None or self._counted[0] != texts:
            # The same method that sacrebleu's own paired bootstrap calls (sacrebleu.significance).
            # The references are one stream of n, not n lists of one.
            counts = self._metric._extract_corpus_statistics(list(predictions), [list(references)])
            self._counted = (texts, [list(map(float, row)) for row in counts])
        return self._counted[1]
