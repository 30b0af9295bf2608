"""chrF: F score of character n-grams (Popović 2015), and of words too (chrF++, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalsuite.corpus_scores import Matrix, Vector, chrf
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.corpus_metric import CorpusMetric

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


class Chrf(CorpusMetric):
    """Corpus chrF as sacrebleu counts it; with ``word_order`` 2 it is chrF++."""

    description = "Corpus chrF of answers against references, 0 to 100; word_order: 2 is chrF++."
    citation = (
        "Popović (2015). chrF: character n-gram F-score for automatic MT evaluation. WMT; "
        "Popović (2017). chrF++: words helping character n-grams. WMT."
    )
    figures: Mapping[str, Figure] = {"chrf": GENERATION["chrf"]}

    def __init__(self, *, word_order: int = 0, lowercase: bool = False, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take the longest n-gram of words that counts, and whether case is left out of account."""
        self._word_order, self._lowercase = word_order, lowercase
        super().__init__(**settings)

    def sacrebleu_metric(self) -> CHRF:
        """Sacrebleu's chrF."""
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(word_order=self._word_order, lowercase=self._lowercase)

    def item_scores(self, statistics: Matrix) -> Vector:
        """Each item's chrF by itself, 0 to 100."""
        return chrf(statistics)
