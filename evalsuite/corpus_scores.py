"""Corpus figures as functions of summed per-item statistics, so that they can be resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import EvidenceError
from evalsuite.figures import Figure

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_BETA_SQUARED = 4.0
# Columns of BLEU's statistics before the counts of each order: lengths of answers and references.
_LENGTHS = 2


def chrf(totals: Matrix) -> Vector:
    """Corpus chrF (R,) in points of 100 from totals (R, 3·orders), as sacrebleu defines it.

    The columns are, for each character n-gram order and then for each word n-gram order (chrF++),
    the n-grams of the answers, of the references, and in common. Orders that one side lacks
    altogether are left out of the average (Popović 2015, 2017; sacrebleu's "effective order").
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


def bleu(totals: Matrix) -> Vector:
    """Corpus BLEU (R,) in points of 100 from totals (R, 2 + 2·orders), as sacrebleu defines it.

    The columns are the words of the answers and of the references, then by order the n-grams of the
    answers that the references have too, then by order all n-grams of the answers. An order without
    a match counts as half, a quarter, … of a match (Chen and Cherry 2014, method 3: "exp").
    """
    return _bleu(totals, effective_order=False)


def sentence_bleu(statistics: Matrix) -> Vector:
    """BLEU of single answers (n,), orders that an answer is too short for left out."""
    return _bleu(statistics, effective_order=True)


def _bleu(totals: Matrix, *, effective_order: bool) -> Vector:
    answers, references = totals[:, 0], totals[:, 1]
    orders = (totals.shape[1] - _LENGTHS) // 2
    matches, ngrams = totals[:, _LENGTHS : _LENGTHS + orders], totals[:, _LENGTHS + orders :]
    halvings = np.cumsum(matches == 0, axis=1)
    smoothed = np.where(matches == 0, 0.5**halvings, matches)
    present = ngrams > 0
    logarithms = np.log(smoothed / np.maximum(ngrams, 1.0))
    counted = present.sum(axis=1) if effective_order else np.full(len(totals), orders)
    mean = np.where(present, logarithms, 0.0).sum(axis=1) / np.maximum(counted, 1)
    whole = present.all(axis=1) | effective_order
    shortfall = np.minimum(0.0, 1.0 - references / np.maximum(answers, 1.0))
    scores = 100.0 * np.exp(mean + shortfall)
    return np.asarray(np.where(whole & (matches > 0).any(axis=1), scores, 0.0))


# name of a formula -> the formula, for figures of kind "corpus".
CORPUS_SCORES = {"bleu": bleu, "chrf": chrf}


def figure_values(
    figures: Mapping[str, Figure],
    scores: Mapping[str, Sequence[float]],
    statistics: Mapping[str, Sequence[Sequence[float]]],
) -> dict[str, float]:
    """Each figure of the whole task: the mean of items, a ratio of sums, or the corpus formula.

    Raises:
        EvidenceError: A corpus figure has no formula, or a ratio nothing to be divided by.
    """
    values: dict[str, float] = {}
    for name, figure in figures.items():
        if name not in statistics:
            values[name] = float(np.mean(scores[name]))
            continue
        totals = np.sum(np.asarray(statistics[name], dtype=np.float64), axis=0)
        values[name] = _of_totals(name, figure, totals)
    return values


def _of_totals(name: str, figure: Figure, totals: Vector) -> float:
    if figure.kind == "ratio":
        if totals[1] <= 0:
            raise EvidenceError(f"{name}: the references hold no words to be compared with.")
        return float(100.0 * totals[0] / totals[1])
    if figure.formula not in CORPUS_SCORES:
        raise EvidenceError(
            f"{name}: no corpus formula is known by the name {figure.formula}; "
            f"known: {', '.join(CORPUS_SCORES)}."
        )
    return float(CORPUS_SCORES[figure.formula](totals[None])[0])
