"""How a metric is called in a report, beside the name that a gate uses."""

from __future__ import annotations

from evalsuite.catalogue import DIVERGENCE_FIGURES, LOSS_FIGURES

_LABELS = {
    "loss": "Loss",
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "token_accuracy": "Next-token accuracy",
    "kl": "Divergence from the base (KL)",
    "accuracy": "Accuracy",
    "accuracy_per_byte": "Accuracy per byte",
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bleu": "BLEU",
    "chrf": "chrF",
    "ter": "Translation edit rate",
    "json_valid": "Valid JSON",
    "json_schema": "JSON as the schema asks",
    "python_syntax": "Valid Python",
    "tests_passed": "Tests passed",
}

# Figures by which an answer is called improved or regressed, the most telling first.
TELLING = (
    "tests_passed", "accuracy", "accuracy_per_byte", "exact_match", "token_f1", "json_schema",
    "json_valid", "python_syntax",
    "rougeL", "rouge1", "rouge2", "rougeLsum", "bleu", "chrf", "ter",
)  # fmt: skip


def group_of(metric: str) -> str:
    """The partition or task of ``metric``: ``test`` of ``test.loss``."""
    return metric.rpartition(".")[0]


def figure_of(metric: str) -> str:
    """The figure of ``metric``: ``loss`` of ``test.loss``."""
    return metric.rpartition(".")[2]


def is_loss(metric: str) -> bool:
    """Whether ``metric`` is a held-out loss figure, not one of generated answers."""
    return figure_of(metric) in (*LOSS_FIGURES, *DIVERGENCE_FIGURES)


def label_of(figure: str) -> str:
    """``tests_passed`` as ``Tests passed``; a third party's figure as it is named."""
    return _LABELS.get(figure, figure)


def telling_rank(figure: str) -> tuple[int, str]:
    """Sort key that puts the most telling figure first, unknown ones last by name."""
    return (TELLING.index(figure) if figure in TELLING else len(TELLING), figure)
