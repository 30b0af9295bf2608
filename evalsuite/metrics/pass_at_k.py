"""pass@k: whether at least one of k answers would be right, from n answers to each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evalsuite.catalogue import pass_at
from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.figures import PASS_AT_K
from evalsuite.metrics.item_metric import ItemMetric


class PassAtK(ItemMetric):
    """The unbiased estimate for each example, given with each of its answers."""

    description = (
        "Chance that one of k answers is right, estimated without bias from all n answers to a "
        "prompt. What is right, another metric of the task says (`of`)."
    )
    citation = "Chen et al. (2021). Evaluating large language models trained on code. arXiv."
    columns = ("example_id", "outcomes")
    numbers = ("outcomes",)

    def __init__(
        self,
        *,
        k: Sequence[int] = (1,),
        of: str = "tests_passed",
        **settings: Any,  # noqa: ANN401 - evaluate's own
    ) -> None:
        """Take every k that is asked for, and the figure that says which answers are right."""
        self._k, self._of = tuple(k), of
        self.figures = {pass_at(n): PASS_AT_K for n in self._k}
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """What is counted."""
        return f"unbiased, product form, of {self._of}"

    def needs(self) -> tuple[str, ...]:
        """The figure that says which answers are right."""
        return (self._of,)

    def inputs(
        self, examples: Sequence[Example], scores: Mapping[str, Sequence[float]]
    ) -> dict[str, Sequence[Any]]:
        """Which example each answer is to, and whether it is right."""
        return {"example_id": [e.example_id for e in examples], "outcomes": scores[self._of]}

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """The estimate for its example, at each answer.

        Raises:
            EvaluationError: An outcome is neither 0 nor 1, or an example has fewer than k answers.
        """
        ids = columns["example_id"]
        answers: dict[str, list[float]] = {}
        for example, outcome in zip(ids, columns["outcomes"], strict=True):
            if outcome not in (0.0, 1.0):
                raise EvaluationError(f"pass_at_k: {self._of} is {outcome}, not 0 or 1.")
            answers.setdefault(example, []).append(outcome)
        return {pass_at(k): _estimates(ids, answers, k) for k in self._k}


def _estimates(ids: Sequence[str], answers: Mapping[str, Sequence[float]], k: int) -> list[float]:
    """pass@k of the example of each answer (n,)."""
    for example, outcomes in answers.items():
        if len(outcomes) < k:
            raise EvaluationError(
                f"pass@{k}: example {example} has {len(outcomes)} answers. Ask for {k} or more."
            )
    estimates = {e: pass_at_k(len(all_), int(sum(all_)), k) for e, all_ in answers.items()}
    return [estimates[example] for example in ids]


def pass_at_k(answers: int, right: int, k: int) -> float:
    """1 - C(n-c, k)/C(n, k) as a product, which does not overflow (Chen et al. 2021, figure 3)."""
    if answers - right < k:
        return 1.0
    factors = 1.0 - k / np.arange(answers - right + 1, answers + 1)
    return float(1.0 - np.prod(factors))
