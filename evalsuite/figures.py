"""What kind of number each figure is: how it is averaged, its unit, its range, its better side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalsuite.catalogue import CHOICE_FIGURES

FigureKind = Literal["ratio", "log-ratio", "mean", "binary", "corpus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How one figure is summarised and read.

    ``kind`` picks the statistics: ``ratio`` and ``log-ratio`` are ratio estimators over tokens or
    bytes, ``mean`` averages per-item scores, ``binary`` counts items that are right (0 or 1), and
    ``corpus`` is the function ``formula`` (of corpus_scores.py) of summed per-item statistics. A
    ``ratio`` of a generation task is that of its two statistics, times 100. ``lowest`` and
    ``highest`` bound the value where it has bounds.
    """

    kind: FigureKind
    unit: str
    higher_is_better: bool
    lowest: float | None = None
    highest: float | None = None
    formula: str | None = None

    @property
    def span(self) -> float | None:
        """Width of the range, or None where the figure is unbounded."""
        if self.lowest is None or self.highest is None:
            return None
        return self.highest - self.lowest


SHARE = Figure(kind="binary", unit="share of items", higher_is_better=True, lowest=0.0, highest=1.0)
OVERLAP = Figure(kind="mean", unit="F1", higher_is_better=True, lowest=0.0, highest=1.0)
# Estimated for each example from several answers.
PASS_AT_K = Figure(
    kind="mean", unit="share of items", higher_is_better=True, lowest=0.0, highest=1.0
)

# figures of a held-out partition, in the order of catalogue.LOSS_FIGURES and DIVERGENCE_FIGURES.
LOSS: dict[str, Figure] = {
    "loss": Figure(kind="ratio", unit="nats per token", higher_is_better=False, lowest=0.0),
    "perplexity": Figure(kind="log-ratio", unit="", higher_is_better=False, lowest=1.0),
    "bits_per_byte": Figure(kind="ratio", unit="bits per byte", higher_is_better=False, lowest=0.0),
    "token_accuracy": Figure(
        kind="ratio", unit="share of tokens", higher_is_better=True, lowest=0.0, highest=1.0
    ),
    "kl": Figure(kind="ratio", unit="nats per token", higher_is_better=False, lowest=0.0),
}

# figures of the metrics in catalogue.METRICS.
GENERATION: dict[str, Figure] = {
    "exact_match": SHARE,
    "token_f1": OVERLAP,
    "rouge1": OVERLAP,
    "rouge2": OVERLAP,
    "rougeL": OVERLAP,
    "rougeLsum": OVERLAP,
    "bleu": Figure(
        kind="corpus",
        unit="points of 100",
        higher_is_better=True,
        lowest=0.0,
        highest=100.0,
        formula="bleu",
    ),
    "chrf": Figure(
        kind="corpus",
        unit="points of 100",
        higher_is_better=True,
        lowest=0.0,
        highest=100.0,
        formula="chrf",
    ),
    "ter": Figure(kind="ratio", unit="edits per 100 words", higher_is_better=False, lowest=0.0),
    "json_valid": SHARE,
    "json_schema": SHARE,
    "python_syntax": SHARE,
    "tests_passed": SHARE,
    "pass@1": PASS_AT_K,
}


def figure_named(name: str) -> Figure | None:
    """What kind of number the figure ``name`` is; None for those of plug-ins and renamed ones."""
    if name.startswith("pass@"):
        return PASS_AT_K
    if name in CHOICE_FIGURES:
        return SHARE
    return LOSS.get(name) or GENERATION.get(name)
