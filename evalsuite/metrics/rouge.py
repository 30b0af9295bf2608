"""ROUGE: overlap of n-grams and of the longest common subsequence (Lin 2004)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_FIGURES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(ItemMetric):
    """F measures of ROUGE-1, -2, -L and -Lsum by Google's rouge-score."""

    description = "ROUGE F measures of answers against references (rouge-score, no stemming)."
    citation = "Lin (2004). ROUGE: a package for automatic evaluation of summaries. ACL workshop."
    figures: ClassVar[Mapping[str, Figure]] = {name: GENERATION[name] for name in _FIGURES}

    @property
    def signature(self) -> str:
        """Library, version and options."""
        return f"rouge-score {version('rouge-score')}, no stemmer, default tokenizer"

    @cached_property
    def _scorer(self) -> RougeScorer:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(_FIGURES), use_stemmer=False)

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """F measure, 0 to 1, of every item."""
        pairs = zip(references, predictions, strict=True)
        scored = [self._scorer.score(reference, answer) for reference, answer in pairs]
        return {name: [item[name].fmeasure for item in scored] for name in _FIGURES}
