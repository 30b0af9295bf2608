"""Corpus figures as functions of summed per-item statistics, so that they can be resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_BETA_SQUARED = 4.0


def chrf(totals: Matrix) -> Vector:
    """Corpus chrF (R,) in points of 100 from totals (R, 3·orders), as sacrebleu defines it.

    The columns are, for each character n-gram order, the n-grams of the answers, of the
    references, and in common. Orders that one side lacks altogether are left out of the average
    (Popović 2015; sacrebleu's "effective order").
    """
    counts = totals.reshape(len(totals), -1, 3)
    answers, references, common = counts[..., 0], counts[..., 1], counts[..., 2]
    present = (answers > 0) & (references > 0)
    precisions = np.where(present, common / np.maximum(answers, 1.0), 0.0)
    recalls = np.where(present, common / np.maximum(references, 1.0), 0.0)
    orders = np.maximum(present.sum(axis=1), 1)
    precision, recall = precisions.sum(axis=1) / orders, recalls.sum(axis=1) / orders
    weight = _BETA_SQUARED * precision + recall
    scores = (1.0 + _BETA_SQUARED) * precision * recall / np.where(weight > 0, weight, 1.0)
    return np.asarray(100.0 * scores)


# figure of kind "corpus" -> its formula.
CORPUS_SCORES = {"chrf": chrf}


def figure_values(
    scores: Mapping[str, Sequence[float]], statistics: Mapping[str, Sequence[Sequence[float]]]
) -> dict[str, float]:
    """Each figure of the whole task: the mean of items, or the corpus formula."""
    values = {name: float(np.mean(items)) for name, items in scores.items()}
    for name, rows in statistics.items():
        totals = np.sum(np.asarray(rows, dtype=np.float64), axis=0)
        values[name] = float(CORPUS_SCORES[name](totals[None])[0])
    return values
