"""ROUGE: overlap of n-grams and of the longest common subsequence (Lin 2004)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.examples import Example
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_FIGURES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(ItemMetric):
    """F measures of ROUGE-1, -2, -L and -Lsum by Google's rouge-score."""

    description = (
        "ROUGE F measures of answers against references, by words of the letters a to z and of "
        "digits; no stemming unless `stemmer`."
    )
    citation = "Lin (2004). ROUGE: a package for automatic evaluation of summaries. ACL workshop."
    library = "rouge-score"
    figures: Mapping[str, Figure] = {name: GENERATION[name] for name in _FIGURES}

    def __init__(self, *, stemmer: bool = False, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take whether words are reduced to their stems (Porter) first."""
        self._stemmer = stemmer
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """Library, version and options."""
        stemmer = "Porter stemmer" if self._stemmer else "no stemmer"
        return f"rouge-score {version('rouge-score')}, {stemmer}, default tokenizer"

    def check(self, examples: Sequence[Example], references: Sequence[str]) -> None:
        """The references are written in letters that rouge-score reads, for the most part."""
        del examples
        letters = [letter for text in references for letter in text if letter.isalpha()]
        if 2 * sum(letter.isascii() for letter in letters) < len(letters):
            raise EvaluationError(
                "rouge counts the letters a to z alone, and most letters of these references are "
                "others: right and wrong answers would score the same. Use chrf."
            )

    @cached_property
    def _scorer(self) -> RougeScorer:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(_FIGURES), use_stemmer=self._stemmer)

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """F measure, 0 to 1, of every item."""
        del columns
        pairs = zip(references, predictions, strict=True)
        scored = [self._scorer.score(reference, answer) for reference, answer in pairs]
        return {name: [item[name].fmeasure for item in scored] for name in _FIGURES}
