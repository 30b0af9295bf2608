"""Token F1: how many words answer and reference share, as SQuAD counts it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.normalization import normalized

_SQUAD = ("case", "punctuation", "articles", "whitespace")


class TokenF1(ItemMetric):
    """Harmonic mean of the shares of words that answer and reference have in common."""

    description = (
        "Token F1 of SQuAD 2.0: words in common after lower-casing, without punctuation and "
        "articles; 1 where both texts have no word, 0 where one has none."
    )
    citation = "Rajpurkar et al. (2018). Know What You Don't Know (SQuAD 2.0). ACL."
    figures: Mapping[str, Figure] = {"token_f1": GENERATION["token_f1"]}

    @property
    def signature(self) -> str:
        """The normalization."""
        return f"SQuAD 2.0, Unicode NFC {unicodedata.unidata_version}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """F1, 0 to 1, of every item."""
        del columns
        return {"token_f1": [token_f1(p, r) for p, r in zip(predictions, references, strict=True)]}


def token_f1(answer: str, reference: str) -> float:
    """F1 of the words of two texts, as the official script of SQuAD 2.0 has it (`compute_f1`)."""
    found, wanted = normalized(answer, _SQUAD).split(), normalized(reference, _SQUAD).split()
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
