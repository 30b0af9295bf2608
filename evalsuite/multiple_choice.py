"""Multiple choice by log-likelihood: the likeliest choice is the model's answer.

A choice's log-likelihood is the sum over its tokens, given the prompt. The stop token after it is
not counted, as lm-evaluation-harness has it: it says how likely the answer is to end there, which
is another question, and one that harnesses for base models do not ask. ``accuracy`` takes the raw
sum, which favours short choices; ``accuracy_per_byte`` divides it by the UTF-8 bytes of the
choice's text (their ``acc`` and ``acc_bytes``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.bench import Bench
from evalsuite.catalogue import CHOICE_FIGURES
from evalsuite.errors import EvaluationError
from evalsuite.example_identity import example_conditions
from evalsuite.examples import IGNORED_LABEL, Example
from evalsuite.figures import SHARE
from evalsuite.loss import score_examples
from evalsuite.records import ChoiceTask
from evalsuite.results import write_items

_COLUMNS = ("row", "item", "example_id", "choice", "gold", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of an item, as the example that answers with it."""

    item: int
    item_id: str
    gold: bool
    text: str
    example: Example

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of its text, without what stands before it."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredItem:
    """An item with the log-likelihood in nats of each of its choices."""

    choices: tuple[Choice, ...]
    log_likelihoods: tuple[float, ...]

    @property
    def chosen(self) -> int:
        """The place of the likeliest choice; of several, of the first."""
        return int(np.argmax(self.log_likelihoods))

    @property
    def chosen_per_byte(self) -> int:
        """The place of the choice that is likeliest per byte."""
        bytes_ = [choice.bytes for choice in self.choices]
        return int(np.argmax(np.array(self.log_likelihoods) / np.array(bytes_)))

    @property
    def gold(self) -> int:
        """The place of the right choice."""
        return next(place for place, choice in enumerate(self.choices) if choice.gold)


def evaluate_choices(bench: Bench, task: ChoiceTask) -> dict[str, Any]:
    """Score and store one multiple choice benchmark; returns its summary.

    Raises:
        EvaluationError: Examples or choices are missing or damaged, or a loss is not finite.
    """
    items, left_out = read_items(bench.examples(task.data), task.choices)
    started = time.perf_counter()
    scored = score_items(bench, task.name, items)
    seconds = time.perf_counter() - started
    hits = {
        "accuracy": [float(item.chosen == item.gold) for item in scored],
        "accuracy_per_byte": [float(item.chosen_per_byte == item.gold) for item in scored],
    }
    examples = [choice.example for item in items for choice in item]
    write_items(
        bench.folder / f"{task.name}.parquet",
        {**_columns(scored), **hits},
        figures=dict.fromkeys(CHOICE_FIGURES, SHARE),
        conditions={
            "data": task.data,
            "benchmark": task.benchmark,
            "leaks_compared": task.leaks_compared,
            **example_conditions(examples, bench.spec.template_digests.get(task.data)),
        },
    )
    return {
        "examples": len(scored),
        "choices": len(examples),
        "left_out": left_out,
        "seconds": seconds,
        "figures": {name: float(np.mean(values)) for name, values in hits.items()},
    }


def read_items(examples: Sequence[Example], path: Path) -> tuple[list[tuple[Choice, ...]], int]:
    """The items that have all their choices among ``examples``, and how many have not.

    Raises:
        EvaluationError: The file at ``path`` is missing or damaged, or no item is whole.
    """
    by_row = {example.row: example for example in examples}
    whole: list[tuple[Choice, ...]] = []
    left_out = 0
    for _, rows in groupby(_read_choices(path), key=lambda row: row["item"]):
        listed = list(rows)
        if all(row["row"] in by_row for row in listed):
            whole.append(tuple(_choice(row, by_row[row["row"]]) for row in listed))
        else:
            left_out += 1
    if not whole:
        raise EvaluationError(f"{path.name}: no question has all its choices among the examples.")
    return whole, left_out


def _read_choices(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=list(_COLUMNS)).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: cannot be read as a list of choices: {error}") from error
    if not rows or rows[0].keys() != set(_COLUMNS):
        raise EvaluationError(f"{path}: is no list of choices; prepare the data again.")
    return rows


def _choice(row: dict[str, Any], example: Example) -> Choice:
    return Choice(
        item=row["item"],
        item_id=row["example_id"],
        gold=row["gold"],
        text=row["text"],
        example=example,
    )


def score_items(bench: Bench, label: str, items: Sequence[tuple[Choice, ...]]) -> list[ScoredItem]:
    """The log-likelihood of every choice of every item.

    Raises:
        EvaluationError: A choice has no token, or its loss is not finite.
    """
    examples = [without_stop(choice.example) for item in items for choice in item]
    losses = score_examples(
        bench.model,
        examples,
        pad_token_id=bench.spec.pad_token_id,
        batch_tokens=bench.spec.batch_tokens,
        on_progress=bench.counter(label, len(examples)),
    )
    likelihoods = iter([-loss.nll for loss in losses])
    return [
        ScoredItem(choices=item, log_likelihoods=tuple(next(likelihoods) for _ in item))
        for item in items
    ]


def without_stop(example: Example) -> Example:
    """The example with its last supervised token, which is the stop token, not supervised."""
    last = max(place for place, label in enumerate(example.labels) if label != IGNORED_LABEL)
    labels = (*example.labels[:last], IGNORED_LABEL, *example.labels[last + 1 :])
    return replace(example, labels=labels)


def _columns(scored: Sequence[ScoredItem]) -> dict[str, list[Any]]:
    def of_first(item: ScoredItem) -> Example:
        return item.choices[0].example

    return {
        "example_id": [item.choices[0].item_id for item in scored],
        "row": [item.choices[0].item for item in scored],
        "cluster": [of_first(item).cluster for item in scored],
        "prompt": [of_first(item).prompt for item in scored],
        "reference": [item.choices[item.gold].text for item in scored],
        "answer": [item.choices[item.chosen].text for item in scored],
        "choices": [[choice.text for choice in item.choices] for item in scored],
        "log_likelihoods": [list(item.log_likelihoods) for item in scored],
    }
