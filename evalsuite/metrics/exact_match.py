"""Exact match: whether an answer is the reference, after a declared normalization."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import EvaluationError
from evalsuite.figures import GENERATION, Figure
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.normalization import IGNORABLE, normalized


class ExactMatch(ItemMetric):
    """1 where answer and reference are the same text, 0 elsewhere."""

    description = (
        "Share of answers equal to the reference, but for white space around them, Unicode's "
        "composition, and what `ignore` names."
    )
    citation = "Rajpurkar et al. (2016). SQuAD. EMNLP (for the normalization that `ignore` allows)."
    figures: Mapping[str, Figure] = {"exact_match": GENERATION["exact_match"]}

    def __init__(self, *, ignore: Sequence[str] = (), **settings: Any) -> None:  # noqa: ANN401 - evaluate's own
        """Take what is left out of account, of `normalization.IGNORABLE`."""
        unknown = sorted({*ignore} - {*IGNORABLE})
        if unknown:
            raise EvaluationError(
                f"exact_match cannot ignore {unknown[0]!r}; it can ignore {', '.join(IGNORABLE)}."
            )
        self._ignore = tuple(name for name in IGNORABLE if name in ignore)
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        """The normalization."""
        ignored = f", without {', '.join(self._ignore)}" if self._ignore else ""
        return f"strip, Unicode NFC {unicodedata.unidata_version}{ignored}"

    def scores(
        self, predictions: Sequence[str], references: Sequence[str], **columns: Sequence[Any]
    ) -> dict[str, list[float]]:
        """1.0 or 0.0 for every item."""
        del columns
        pairs = zip(predictions, references, strict=True)
        same = [normalized(p, self._ignore) == normalized(r, self._ignore) for p, r in pairs]
        return {"exact_match": list(map(float, same))}
