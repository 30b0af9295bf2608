"""chrF: F-score of character n-grams over the whole corpus (Popović 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from evalsuite.corpus_scores import chrf
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


class Chrf(ItemMetric):
    """Corpus chrF as sacrebleu counts it.

    The corpus score is not a mean of items: the n-gram counts are summed first. `scores` gives
    every item's own chrF for the reader, `statistics` the counts for the paired bootstrap.
    """

    description = "Corpus chrF of answers against references (sacrebleu's defaults), 0 to 100."
    citation = "Popović (2015). chrF: character n-gram F-score for automatic MT evaluation. WMT."
    figures: ClassVar[Mapping[str, Figure]] = {"chrf": GENERATION["chrf"]}

    @cached_property
    def _metric(self) -> CHRF:
        from sacrebleu.metrics.chrf import CHRF

        return CHRF()

    @property
    def signature(self) -> str:
        """The signature that sacrebleu itself gives."""
        # sacrebleu counts the references while it scores; one pair is enough to tell it.
        self._metric.corpus_score([""], [[""]])
        return f"chrF2|{self._metric.get_signature()}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """Each item's chrF by itself, 0 to 100."""
        counts = self.statistics(predictions, references)["chrf"]
        return {"chrf": chrf(np.asarray(counts, dtype=np.float64)).tolist() if counts else []}

    def statistics(
        self, predictions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[list[float]]]:
        """Counts of answer, reference and common n-grams of every order and item (n, 18)."""
        # The same method that sacrebleu's own paired bootstrap calls (sacrebleu.significance).
        # The references are one stream of n, not n lists of one.
        counts = self._metric._extract_corpus_statistics(list(predictions), [list(references)])
        return {"chrf": [list(map(float, row)) for row in counts]}
