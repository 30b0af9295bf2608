"""The A/A check: how far figures move by themselves when the same model is evaluated twice.

Rounding depends on which examples share a batch. What the same examples come to in other batches
and in another order is the floor below which no difference can be told (in float32 about 1e-6 nats,
in bfloat16 far more, and some greedy answers take another turn). A gate finer than it is refused.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evalsuite.corpus_scores import CORPUS_SCORES
from evalsuite.observations import Observed, observations
from evalsuite.record_files import read_records, to_json, write_json
from evalsuite.records import InstrumentFloor
from evalsuite.results import Vector, read_answers
from evalsuite.stored_results import StoredResults, read_results

if TYPE_CHECKING:
    from evalsuite.bench import Bench

INSTRUMENT_FILE = "instrument.json"
# The second evaluation's batches hold this part of the first's tokens.
_SMALLER = 3
# A multiple choice item is so many examples at most; one that is cut off is left out.
_CHOICES = 16


def measure_instrument(bench: Bench) -> None:
    """Evaluate the first examples of everything again, otherwise batched; store what moved.

    Reads the first evaluation's results from ``bench.folder`` and writes ``instrument.json`` there.
    """
    from evalsuite.loss_evaluation import evaluate_losses
    from evalsuite.multiple_choice import evaluate_choices
    from evalsuite.task_evaluation import evaluate_task

    spec = bench.spec
    with tempfile.TemporaryDirectory(prefix="proofbox-again-") as scratch:
        again = _otherwise_batched(bench, Path(scratch))
        evaluate_losses(again)
        for task in again.spec.generation:
            evaluate_task(again, task)
        for choice in again.spec.choices:
            evaluate_choices(replace(again, most=_CHOICES * spec.instrument_examples), choice)
        generated = [task.name for task in again.spec.generation]
        floors = tuple(_floors(bench.folder, again.folder, generated))
    write_json(to_json(floors), bench.folder / INSTRUMENT_FILE)


def read_floors(folder: Path) -> tuple[InstrumentFloor, ...]:
    """What was stored in ``evaluation/<subject>``; empty where nothing was evaluated twice.

    Raises:
        EvidenceError: The file is damaged.
    """
    path = folder / INSTRUMENT_FILE
    if not path.is_file():
        return ()
    return read_records(InstrumentFloor, path)


def _otherwise_batched(bench: Bench, folder: Path) -> Bench:
    """The same bench with fewer examples, in reverse order and in smaller batches."""
    spec, report = bench.spec, bench.on_progress
    return replace(
        bench,
        folder=folder,
        partial=None,
        most=spec.instrument_examples,
        backwards=True,
        on_progress=None
        if report is None
        else lambda what, done, total: report(f"{what}, again", done, total),
        spec=replace(
            spec,
            batch_tokens=max(1, spec.batch_tokens // _SMALLER),
            generation_tokens=max(1, (spec.generation_tokens or spec.batch_tokens) // _SMALLER),
        ),
    )


def _floors(first: Path, again: Path, generated: Sequence[str]) -> Iterator[InstrumentFloor]:
    before, after = read_results(first), read_results(again)
    differing = {task: _differing_answers(first, again, task) for task in generated}
    seen_before = {seen.metric: seen for seen in observations(before)}
    for seen in observations(after):
        group, _, figure = seen.metric.rpartition(".")
        if figure == "kl":  # that of the base from itself is 0, however it is batched
            continue
        floor, largest = moved(_same_examples(seen_before[seen.metric], group, before, after), seen)
        yield InstrumentFloor(
            metric=seen.metric,
            floor=floor,
            largest=largest,
            examples=len(seen.values),
            differing=differing.get(group),
        )


def _same_examples(
    seen: Observed, group: str, before: StoredResults, after: StoredResults
) -> Observed:
    """The first evaluation's numbers of the examples that were evaluated again, in their order."""
    place = {name: at for at, name in enumerate(dict(before.groups())[group].example_ids)}
    places = [place[name] for name in dict(after.groups())[group].example_ids]
    return replace(seen, values=seen.values[places], weights=seen.weights[places], clusters=None)


def moved(first: Observed, again: Observed) -> tuple[float, float]:
    """By how much a figure, and a single example of it, differ at most between two evaluations.

    The figure could have moved by the sum of all examples' differences, had they one direction.
    """
    figure = first.figure
    if figure.kind == "corpus":
        return _moved_corpus(first, again)
    changes = np.abs(again.values - first.values)
    whole = float(first.weights.sum())
    floor = float(changes.sum()) / whole
    largest = float(np.max(changes / np.maximum(first.weights, 1.0)))
    if figure.kind == "log-ratio":
        perplexity = math.exp(float(first.values.sum()) / whole)
        return perplexity * math.expm1(floor), perplexity * math.expm1(largest)
    return floor, largest


def _moved_corpus(first: Observed, again: Observed) -> tuple[float, float]:
    """By the effect of each example's change on the corpus figure."""
    score = CORPUS_SCORES[str(first.figure.formula)]
    totals = first.values.sum(axis=0)
    effects: Vector = np.abs(score(totals - first.values + again.values) - score(totals[None]))
    return float(effects.sum()), float(effects.max())


def _differing_answers(first: Path, again: Path, task: str) -> int:
    """How many of the examples that were answered again got another text."""
    before = read_answers(first / f"{task}.parquet")
    after = read_answers(again / f"{task}.parquet")
    return sum(before[name] != texts for name, texts in after.items())
