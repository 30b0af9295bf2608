"""The names of everything the eval suite can measure. It imports nothing: `validate` is fast."""

from __future__ import annotations

# metric as a recipe names it -> "module:attribute" of the evaluate.Metric subclass.
# Third parties add to it with the entry-point group "proofbox.metrics".
METRICS: dict[str, str] = {
    "exact_match": "evalsuite.metrics.exact_match:ExactMatch",
    "rouge": "evalsuite.metrics.rouge:Rouge",
    "chrf": "evalsuite.metrics.chrf:Chrf",
    "python_syntax": "evalsuite.metrics.python_syntax:PythonSyntax",
    "tests_passed": "evalsuite.metrics.tests_passed:TestsPassed",
}

# metric as a recipe names it -> the figures it yields, as a gate names them after the task's name.
FIGURES: dict[str, tuple[str, ...]] = {
    "exact_match": ("exact_match",),
    "rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "chrf": ("chrf",),
    "python_syntax": ("python_syntax",),
    "tests_passed": ("tests_passed",),
}

# figures of a partition named under `evaluation.loss`, as a gate names them after its name.
LOSS_FIGURES: tuple[str, ...] = ("loss", "perplexity", "bits_per_byte", "token_accuracy")

# prefixes of figures where a smaller value is better; of all others a larger one is.
SMALLER_IS_BETTER: tuple[str, ...] = ("loss", "perplexity", "bits_per_byte")

# between the name of a partition or task and a figure: that figure on the rows that do not leak.
CLEAN = "clean"


def is_clean(metric: str) -> bool:
    """Whether ``metric`` is measured on the clean rows alone: ``test.clean.loss``."""
    return metric.rpartition(".")[0].endswith(f".{CLEAN}")


def on_all_rows(metric: str) -> str:
    """``test.clean.loss`` as ``test.loss``; another metric as it is."""
    group, _, figure = metric.rpartition(".")
    return f"{group.removesuffix(f'.{CLEAN}')}.{figure}" if is_clean(metric) else metric


def on_clean_rows(metric: str) -> str:
    """``test.loss`` as ``test.clean.loss``."""
    group, _, figure = metric.rpartition(".")
    return f"{group}.{CLEAN}.{figure}"
