"""A metric under another name, so that a task can have it twice with different options."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from evaluate import MetricInfo

from evalsuite.catalogue import names_of_figures
from evalsuite.examples import Example
from evalsuite.metrics.item_metric import ItemMetric


class RenamedMetric(ItemMetric):
    """``metric`` with its figures called as `as:` in a recipe says."""

    description = "A metric under another name."

    def __init__(self, metric: ItemMetric, renamed: str, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take over everything of ``metric`` but the names of its figures."""
        self._metric = metric
        self._names = names_of_figures(metric.figures, renamed)
        self.figures = {self._names[own]: figure for own, figure in metric.figures.items()}
        self.columns, self.numbers = metric.columns, metric.numbers
        self.code_execution = metric.code_execution
        super().__init__(**settings)

    def _info(self) -> MetricInfo:
        return copy.deepcopy(self._metric.info)

    @property
    def signature(self) -> str:
        """That of the metric itself."""
        return self._metric.signature

    def check(self, examples: Sequence[Example], references: Sequence[str]) -> None:
        """As the metric itself."""
        self._metric.check(examples, references)

    def needs(self) -> tuple[str, ...]:
        """As the metric itself."""
        return self._metric.needs()

    def inputs(
        self, examples: Sequence[Example], scores: Mapping[str, Sequence[float]]
    ) -> dict[str, Sequence[Any]]:
        """As the metric itself."""
        return self._metric.inputs(examples, scores)

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """The metric's scores under their new names."""
        found = self._metric.scores(predictions, references, **columns)
        return {self._names[own]: items for own, items in found.items()}

    def statistics(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[list[float]]]:
        """The metric's statistics under their new names."""
        found = self._metric.statistics(predictions, references)
        return {self._names[own]: rows for own, rows in found.items()}
