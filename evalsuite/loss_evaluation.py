"""Held-out loss of one subject: every partition scored, stored and summed up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from evalsuite.bench import Bench
from evalsuite.errors import EvidenceError
from evalsuite.evidence import LOSS_FILE
from evalsuite.example_identity import example_conditions
from evalsuite.examples import Example
from evalsuite.loss import ExampleLoss, score_examples
from evalsuite.results import read_loss, write_loss


def evaluate_losses(bench: Bench) -> dict[str, dict[str, float]]:
    """Score every partition under ``evaluation.loss``; returns the summary of each."""
    losses: dict[str, list[ExampleLoss]] = {}
    conditions: dict[str, dict[str, str | None]] = {}
    summary: dict[str, dict[str, float]] = {}
    for partition in bench.spec.loss:
        examples = bench.examples(partition)
        started = time.perf_counter()
        losses[partition] = score_examples(
            bench.model,
            examples,
            pad_token_id=bench.spec.pad_token_id,
            batch_tokens=bench.spec.batch_tokens,
            on_progress=bench.counter(f"{partition} loss", len(examples)),
            divergence=partition in bench.spec.divergence,
        )
        template = bench.spec.template_digests.get(partition)
        conditions[partition] = example_conditions(examples, template)
        seconds = time.perf_counter() - started
        summary[partition] = _loss_summary(examples, losses[partition], seconds)
    if losses:
        write_loss(bench.folder / LOSS_FILE, losses, conditions)
    return summary


def _loss_summary(
    examples: Sequence[Example], losses: Sequence[ExampleLoss], seconds: float
) -> dict[str, float]:
    tokens = sum(len(example.input_ids) for example in examples)
    supervised = sum(loss.tokens for loss in losses)
    return {
        "examples": len(examples),
        "tokens": tokens,
        "supervised_tokens": supervised,
        "loss": sum(loss.nll for loss in losses) / supervised,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def recorded_losses(folder: Path, partition: str) -> dict[str, float]:
    """Stored negative log-likelihood in nats of each example of ``partition``, by example id.

    Args:
        folder: The subject's own, ``evaluation/<subject>``.
        partition: One of those under ``evaluation.loss``.

    Raises:
        EvidenceError: The losses are missing or damaged, or the partition is not among them.
    """
    losses = read_loss(folder / LOSS_FILE)
    if partition not in losses:
        raise EvidenceError(
            f"{folder / LOSS_FILE}: holds no losses of {partition!r}, only of "
            f"{', '.join(sorted(losses))}; evaluate the model again."
        )
    stored = losses[partition]
    return dict(zip(stored.example_ids, stored.nll.tolist(), strict=True))
