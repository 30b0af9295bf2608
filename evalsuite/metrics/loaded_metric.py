"""A metric of the `evaluate` library, from a folder or from the Hub, scored item by item."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import evaluate

from evalsuite.catalogue import HUB
from evalsuite.errors import EvaluationError
from evalsuite.figures import Figure
from evalsuite.metrics.item_metric import ItemMetric


class LoadedMetric(ItemMetric):
    """What ``evaluate.load`` gives, computed on each item alone and averaged.

    Fit for metrics that are means of their items; of a corpus metric (BLEU, F1 of classes) the mean
    of single items is another number than the metric of all of them.
    """

    description = "A metric of the evaluate library."
    library = "evaluate"

    def __init__(
        self,
        place: str,
        *,
        figure: str | None = None,
        smaller_is_better: bool = False,
        revision: str | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,  # noqa: ANN401 - evaluate's own
    ) -> None:
        """Load the metric.

        Args:
            place: Its name on the Hub, or the path of its folder or module.
            figure: Which key of its result counts.
            smaller_is_better: Whether less of it is better.
            revision: Branch, tag or commit of a metric on the Hub.
            options: Keyword arguments of its ``compute``.
            settings: Those of `evaluate.Metric`.

        Raises:
            EvaluationError: No figure is named, or the metric cannot be loaded.
        """
        if figure is None:
            raise EvaluationError(f"{HUB}{place}: name the key of its result that counts: figure.")
        self._place, self._figure, self._options = place, figure, dict(options or {})
        self._metric = _load(place, revision, settings.get("cache_dir"))
        self.figures = {
            figure: Figure(kind="mean", unit="", higher_is_better=not smaller_is_better)
        }
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """Library, version, the digest of the metric's own code, and options."""
        source = Path(inspect.getfile(type(self._metric))).read_bytes()
        options = json.dumps(self._options, sort_keys=True, ensure_ascii=False)
        return (
            f"evaluate {version('evaluate')}, {Path(self._place).name}, "
            f"sha256 {hashlib.sha256(source).hexdigest()}, {self._figure}, options {options}"
        )

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """The figure of each item alone.

        Raises:
            EvaluationError: The metric does not take one text against another, or does not give
                the figure as one number.
        """
        del columns
        pairs = zip(predictions, references, strict=True)
        return {self._figure: [self._score(answer, reference) for answer, reference in pairs]}

    def _score(self, answer: str, reference: str) -> float:
        try:
            found = self._metric.compute(
                predictions=[answer], references=[reference], **self._options
            )
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            raise EvaluationError(
                f"{HUB}{self._place} cannot score the answer {answer[:80]!r} by itself: {error}"
            ) from error
        if self._figure not in found:
            raise EvaluationError(
                f"{HUB}{self._place} gives {', '.join(map(str, found))}, and no {self._figure}. "
                "Correct `figure`."
            )
        return self._number(found[self._figure])

    def _number(self, value: Any) -> float:  # noqa: ANN401 - whatever the metric gives
        try:
            return float(value)
        except (TypeError, ValueError):
            raise EvaluationError(
                f"{HUB}{self._place}: {self._figure} is {type(value).__name__}, not one number."
            ) from None


def _load(place: str, revision: str | None, cache_dir: str | None) -> Any:  # noqa: ANN401 - untyped
    try:
        return evaluate.load(
            place, module_type="metric", revision=revision, cache_dir=cache_dir, keep_in_memory=True
        )
    except (OSError, ImportError, ValueError) as error:
        raise EvaluationError(f"{HUB}{place} cannot be loaded: {error}") from error
