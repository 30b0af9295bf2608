"""The base of every metric: an `evaluate.Metric` that also says how each item scored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import datasets
import evaluate

from evalsuite.corpus_scores import figure_values
from evalsuite.examples import Example
from evalsuite.figures import Figure


class ItemMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """Scores predictions against references, as a whole and item by item.

    `compute` and `evaluate.combine` give the figures of the whole; `scores` gives those of every
    item, which gates need because base and adapter are compared item by item. A metric's options
    are keyword arguments of its constructor.
    """

    description: ClassVar[str]
    citation: ClassVar[str] = ""
    # What computes it: a kept library, or this package.
    library: ClassVar[str] = "proofbox"
    figures: Mapping[str, Figure]
    # Inputs beyond predictions and references; attributes of an example, unless `inputs` differs.
    columns: tuple[str, ...] = ()
    # Those of them that are numbers.
    numbers: tuple[str, ...] = ()
    # How answers are executed, where a metric does that; part of the evidence.
    code_execution: str | None = None

    @property
    @abstractmethod
    def signature(self) -> str:
        """Everything that a score depends on: library, version, options."""

    @abstractmethod
    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """Each figure's score of every item (n,)."""

    def statistics(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[list[float]]]:
        """Sufficient statistics of every item (n, K) for each figure of kind ``corpus``.

        Of a figure of kind ``ratio`` they are its numerator and its denominator (n, 2).
        """
        del predictions, references
        return {}

    def check(self, examples: Sequence[Example], references: Sequence[str]) -> None:
        """Refuse what cannot be scored, whatever is answered; asked before answers are generated.

        Args:
            examples: Those that will be answered (n,).
            references: Their references (n,), extracted where the task declares it.

        Raises:
            EvaluationError: An example lacks what this metric needs.
        """
        del examples, references

    def needs(self) -> tuple[str, ...]:
        """Figures of other metrics that must have been scored before this one."""
        return ()

    def inputs(
        self, examples: Sequence[Example], scores: Mapping[str, Sequence[float]]
    ) -> dict[str, Sequence[Any]]:
        """``columns`` of the example of each answer, given the ``scores`` that this one needs."""
        del scores
        return {name: [getattr(example, name) for example in examples] for name in self.columns}

    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "references", *self.columns)
        kinds = {name: "float64" if name in self.numbers else "string" for name in names}
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=f"Columns of equal length: {', '.join(names)}.",
            features=datasets.Features({name: datasets.Value(kinds[name]) for name in names}),
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, float]:
        return figure_values(
            self.figures,
            self.scores(predictions, references, **columns),
            self.statistics(predictions, references),
        )
