"""BLEU: n-gram precision of a whole corpus with a penalty for brevity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalsuite.corpus_scores import Matrix, Vector, sentence_bleu
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.corpus_metric import CorpusMetric

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


class Bleu(CorpusMetric):
    """Corpus BLEU as sacrebleu counts it."""

    description = "Corpus BLEU of answers against references, 0 to 100 (orders 1 to 4)."
    citation = (
        "Papineni et al. (2002). BLEU. ACL; Post (2018). A call for clarity in reporting BLEU "
        "scores. WMT."
    )
    figures: Mapping[str, Figure] = {"bleu": GENERATION["bleu"]}

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False, **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take the name of sacrebleu's tokenizer, and whether case is left out of account."""
        self._tokenize, self._lowercase = tokenize, lowercase
        super().__init__(**settings)

    def sacrebleu_metric(self) -> BLEU:
        """Sacrebleu's BLEU; answers are detokenized text, whatever they look like (``force``)."""
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self._tokenize, lowercase=self._lowercase, force=True)

    def item_scores(self, statistics: Matrix) -> Vector:
        """BLEU of each answer by itself, 0 to 100, by the orders that it is long enough for."""
        return sentence_bleu(statistics)
