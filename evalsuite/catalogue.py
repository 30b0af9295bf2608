"""The names of everything the eval suite can measure. It imports nothing: `validate` is fast."""

from __future__ import annotations

from collections.abc import Iterable

# metric as a recipe names it -> "module:attribute" of the evaluate.Metric subclass.
# Third parties add to it with the entry-point group "proofbox.metrics".
METRICS: dict[str, str] = {
    "exact_match": "evalsuite.metrics.exact_match:ExactMatch",
    "token_f1": "evalsuite.metrics.token_f1:TokenF1",
    "rouge": "evalsuite.metrics.rouge:Rouge",
    "bleu": "evalsuite.metrics.bleu:Bleu",
    "chrf": "evalsuite.metrics.chrf:Chrf",
    "ter": "evalsuite.metrics.ter:Ter",
    "json_valid": "evalsuite.metrics.json_valid:JsonValid",
    "json_schema": "evalsuite.metrics.json_schema:JsonSchema",
    "python_syntax": "evalsuite.metrics.python_syntax:PythonSyntax",
    "tests_passed": "evalsuite.metrics.tests_passed:TestsPassed",
    "pass_at_k": "evalsuite.metrics.pass_at_k:PassAtK",
}

# metric as a recipe names it -> the figures it yields, as a gate names them after the task's name.
FIGURES: dict[str, tuple[str, ...]] = {
    "exact_match": ("exact_match",),
    "token_f1": ("token_f1",),
    "rouge": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "ter": ("ter",),
    "json_valid": ("json_valid",),
    "json_schema": ("json_schema",),
    "python_syntax": ("python_syntax",),
    "tests_passed": ("tests_passed",),
    "pass_at_k": ("pass@1",),
}

# metric -> the options it takes, beside `as`.
METRIC_OPTIONS: dict[str, tuple[str, ...]] = {
    "exact_match": ("ignore",),
    "token_f1": (),
    "rouge": ("stemmer",),
    "bleu": ("tokenize", "lowercase"),
    "chrf": ("word_order", "lowercase"),
    "ter": ("case_sensitive",),
    "json_valid": (),
    "json_schema": ("schema",),
    "python_syntax": (),
    "tests_passed": (),
    "pass_at_k": ("k", "of"),
}

# A metric of the `evaluate` library is named by this and its name on the Hub, or by this and the
# path of its folder, which begins with a dot or a slash.
HUB = "hub:"
HUB_OPTIONS: tuple[str, ...] = ("figure", "smaller_is_better", "revision", "options")
# Of a metric of an installed package, or of a Python file.
OTHER_OPTIONS: tuple[str, ...] = ("options",)

# figures of a metric that are 0 or 1 for each answer: those that pass_at_k can be made from.
RIGHT_OR_WRONG: tuple[str, ...] = (
    "exact_match", "json_valid", "json_schema", "python_syntax", "tests_passed",
)  # fmt: skip

# metrics that run an answer's code: the recipe must name where (evaluation.code_execution).
# pass_at_k counts what tests_passed found, which is therefore among its task's metrics.
EXECUTING_METRICS: tuple[str, ...] = ("tests_passed",)

# backend of evaluation.code_execution -> "module:attribute" of its Backend, the safest first.
SANDBOXES: dict[str, str] = {
    "bubblewrap": "evalsuite.sandbox.bubblewrap:Bubblewrap",
    "podman": "evalsuite.sandbox.podman:Podman",
    "docker": "evalsuite.sandbox.docker:Docker",
    "subprocess": "evalsuite.sandbox.limits_only:LimitsOnly",
}

# What is stored of an answer beside its figures.
ANSWER_COLUMNS: tuple[str, ...] = (
    "example_id", "answer_number", "row", "cluster", "prompt", "reference", "answer", "finished",
    "unfinished_thinking", "new_tokens", "token_ids", "extracted", "extraction_found",
    "extracted_reference",
)  # fmt: skip

# After a figure's name: the column with what it is computed from for the whole corpus.
STATISTICS = "_statistics"


def is_column(name: str) -> bool:
    """Whether a column of stored answers has this name, or may have it: then no figure can."""
    return name in ANSWER_COLUMNS or name.endswith(STATISTICS)


# figures of a partition named under `evaluation.loss`, as a gate names them after its name.
LOSS_FIGURES: tuple[str, ...] = ("loss", "perplexity", "bits_per_byte", "token_accuracy")

# figures of a set under `evaluation.held_out` with divergence: true, besides the loss's.
DIVERGENCE_FIGURES: tuple[str, ...] = ("kl",)

# figures of a benchmark of kind multiple_choice.
CHOICE_FIGURES: tuple[str, ...] = ("accuracy", "accuracy_per_byte")

# prefixes of figures where a smaller value is better; of all others a larger one is.
SMALLER_IS_BETTER: tuple[str, ...] = ("loss", "perplexity", "bits_per_byte", "kl", "ter")

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


def pass_at(k: int) -> str:
    """Name of the figure of ``pass_at_k`` for ``k`` answers: ``pass@10``."""
    return f"pass@{k}"


def names_of_figures(figures: Iterable[str], renamed: str | None) -> dict[str, str]:
    """A metric's own figures -> what they are called under ``as: renamed``.

    A metric's only figure takes that name; several get it as a prefix: ``short_rouge1``.
    """
    own = tuple(figures)
    if renamed is None:
        return {figure: figure for figure in own}
    if len(own) == 1:
        return {own[0]: renamed}
    return {figure: f"{renamed}_{figure}" for figure in own}
