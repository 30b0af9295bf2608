"""Exact match: whether an answer is the reference, after a declared normalisation."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import ClassVar

from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric


class ExactMatch(ItemMetric):
    """1 where answer and reference are the same text, 0 elsewhere."""

    description = (
        "Share of answers equal to the reference, white space around them and Unicode aside."
    )
    figures: ClassVar[Mapping[str, Figure]] = {"exact_match": GENERATION["exact_match"]}

    @property
    def signature(self) -> str:
        """The normalisation."""
        return f"strip, Unicode NFC {unicodedata.unidata_version}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[str]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item."""
        pairs = zip(predictions, references, strict=True)
        return {"exact_match": [float(normalised(p) == normalised(r)) for p, r in pairs]}


def normalised(text: str) -> str:
    """``text`` in Unicode's composed form (NFC) without white space at its ends."""
    return unicodedata.normalize("NFC", text).strip()
