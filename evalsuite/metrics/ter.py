"""TER: edits that turn an answer into its reference, for each word of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.corpus_scores import Matrix, Vector
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.corpus_metric import CorpusMetric

if TYPE_CHECKING:
    from sacrebleu.metrics.ter import TER


class Ter(CorpusMetric):
    """Translation edit rate as sacrebleu counts it: all edits over all words of the references."""

    description = (
        "Translation edit rate: insertions, deletions, substitutions and shifts of words, for 100 "
        "words of the references. Above 100 where answers are much too long."
    )
    citation = "Snover et al. (2006). A study of translation edit rate. AMTA."
    figures: Mapping[str, Figure] = {"ter": GENERATION["ter"]}

    def __init__(self, *, case_sensitive: bool = False, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take whether a word in another case is another word."""
        self._case_sensitive = case_sensitive
        super().__init__(**settings)

    def sacrebleu_metric(self) -> TER:
        """Sacrebleu's TER."""
        from sacrebleu.metrics.ter import TER

        return TER(case_sensitive=self._case_sensitive)

    def item_scores(self, statistics: Matrix) -> Vector:
        """Each item's edit rate; 100 for an answer where there should be none, as in sacrebleu."""
        edits, words = statistics[:, 0], statistics[:, 1]
        rates = edits / np.maximum(words, 1.0)
        return np.asarray(100.0 * np.where(words > 0, rates, edits > 0))
