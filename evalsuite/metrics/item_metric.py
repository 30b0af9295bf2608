"""The base of every metric: an `evaluate.Metric` that also says how each item scored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import datasets
import evaluate

from evalsuite.corpus_scores import figure_values
from evalsuite.figures import Figure


class ItemMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """Scores predictions against references, as a whole and item by item.

    `compute` and `evaluate.combine` give the figures of the whole; `scores` gives those of every
    item, which gates need because base and adapter are compared item by item.
    """

    description: ClassVar[str]
    citation: ClassVar[str] = ""
    figures: ClassVar[Mapping[str, Figure]]
    # Columns of the examples that are needed beyond predictions and references.
    columns: ClassVar[tuple[str, ...]] = ()
    # How answers are executed, where a metric does that; part of the evidence.
    code_execution: ClassVar[str | None] = None

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that a score depends on: library, version, options."""

    @abstractmethod
    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """Each figure's score of every item (n,)."""

    def statistics(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[list[float]]]:
        """Sufficient statistics of every item (n, K) for each figure of kind ``corpus``."""
        del predictions, references
        return {}

    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "references", *self.columns)
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=f"Strings of equal number: {', '.join(names)}.",
            features=datasets.Features({name: datasets.Value("string") for name in names}),
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, float]:
        return figure_values(
            self.scores(predictions, references, **columns),
            self.statistics(predictions, references),
        )
