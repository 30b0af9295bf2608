"""Held-out loss: the negative log-likelihood of every example's supervised tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from evalsuite.batches import halve_on_out_of_memory, length_sorted_batches
from evalsuite.errors import EvaluationError
from evalsuite.examples import IGNORED_LABEL, Example
from evalsuite.packed_attention import why_not_packed
from evalsuite.positions import by_side, check_positions, positions_bound
from evalsuite.supervised_logits import (
    LaidOut,
    pack_examples,
    packed_batches,
    pad_examples,
    supervised_logits,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Logits are turned to float32 this many positions at a time, to bound the memory it takes.
_POSITIONS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleLoss:
    """What one example adds to the held-out loss.

    ``nll`` is the sum over its supervised tokens in nats; ``correct`` counts those tokens that
    were the model's most likely one; ``bytes`` are the UTF-8 bytes of the supervised text.
    ``length`` is that of the whole example in tokens. ``kl`` is the sum over its supervised tokens
    of the Kullback-Leibler divergence of the model from its base in nats, None where it was not
    measured.
    """

    example_id: str
    row: int
    nll: float
    tokens: int
    bytes: int
    correct: int
    length: int = 0
    slice: str = ""
    cluster: str = ""
    kl: float | None = None


def score_examples(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    pad_token_id: int,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None = None,
    pack: bool | None = None,
    divergence: bool = False,
) -> list[ExampleLoss]:
    """Score every example apart from the others, in the order given.

    The result does not depend on batch size or order (beyond rounding: 1e-5 relative in float32),
    because nothing but per-example sums leaves a batch, and no example attends to another.

    Args:
        model: A causal language model of transformers, bare or wrapped by peft.
        examples: What to score.
        pad_token_id: Fills shorter rows on the right, masked.
        batch_tokens: At most so many tokens in a batch, padding included.
        on_progress: Told after every batch how many examples are done.
        pack: Whether the examples of a batch lie end to end without padding. None: on CUDA, where
            the model can do that (`why_not_packed`).
        divergence: Whether the adapter's divergence from its base is measured as well: a second
            pass with the adapter switched off. A bare model is its own base.

    Raises:
        EvaluationError: An example has no supervised token, or its loss is not finite; or the
            adapter cannot be switched off as a whole.
    """
    if divergence:
        _require_switch(model)
    for example in examples:
        if not any(label != IGNORED_LABEL for label in example.labels[1:]):
            raise EvaluationError(
                f"example {example.example_id} (row {example.row}) has no supervised token; "
                "there is nothing to score."
            )
    if not examples:  # a device's share of very few
        return []
    lengths = [len(example.input_ids) for example in examples]
    check_positions(model.config, max(lengths))
    if pack is None and model.device.type == "cuda":
        with inference(model):
            pack = why_not_packed(model, max(lengths)) is None
    grouping = packed_batches if pack else length_sorted_batches
    batches = by_side(grouping, lengths, batch_tokens, bound=positions_bound(model.config))
    results: dict[int, ExampleLoss] = {}

    def score(batch: Sequence[int]) -> list[ExampleLoss]:
        chosen = [examples[index] for index in batch]
        laid_out = pack_examples(chosen) if pack else pad_examples(chosen, pad_token_id)
        return _score_batch(model, chosen, laid_out, divergence=divergence)

    with inference(model):
        for batch in batches:
            results.update(zip(batch, halve_on_out_of_memory(batch, score), strict=True))
            if on_progress is not None:
                on_progress(len(results))
    return [results[index] for index in range(len(examples))]


@contextmanager
def inference(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of every module is as before afterwards."""
    import torch

    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def _score_batch(
    model: PreTrainedModel, examples: Sequence[Example], batch: LaidOut, *, divergence: bool
) -> list[ExampleLoss]:
    logits = supervised_logits(model, batch)  # (K, V)
    nll, correct = _token_scores(logits, batch.targets.to(logits.device))
    kl = _divergences(model, batch, logits) if divergence else None
    sums = [_by_example(part, batch.owners, len(examples)) for part in (nll, correct.double())]
    counts = batch.owners.bincount(minlength=len(examples)).tolist()
    kls = [None] * len(examples) if kl is None else _by_example(kl, batch.owners, len(examples))
    rows = zip(examples, sums[0], counts, sums[1], kls, strict=True)
    return [_example_loss(*row) for row in rows]


def _by_example(values: torch.Tensor, owners: torch.Tensor, examples: int) -> list[float]:
    """Sums of the values (K,) of each example."""
    import torch

    sums = torch.zeros(examples, dtype=torch.float64).index_add_(0, owners, values)
    return cast("list[float]", sums.tolist())


def _example_loss(
    example: Example, nll: float, tokens: int, correct: float, kl: float | None
) -> ExampleLoss:
    for what, value in (("loss", nll), ("divergence from the base", kl)):
        if value is not None and not math.isfinite(value):
            raise EvaluationError(
                f"the {what} of example {example.example_id} (row {example.row}) is {value}; the "
                "model's output is not finite. Check its weights and dtype."
            )
    return ExampleLoss(
        example_id=example.example_id,
        row=example.row,
        nll=nll,
        tokens=tokens,
        bytes=example.supervised_bytes,
        correct=round(correct),
        length=len(example.input_ids),
        slice=example.slice,
        cluster=example.cluster,
        kl=kl,
    )


def _require_switch(model: PreTrainedModel) -> None:
    """Biases that PEFT trains take the place of the base's, and stay when an adapter is off."""
    configs = getattr(model, "peft_config", {})
    kinds = [str(getattr(config, "bias", "none")) for config in configs.values()]
    trained = next((kind for kind in kinds if kind != "none"), None)
    if trained is not None:
        raise EvaluationError(
            "kl is measured by switching the adapter off, and the biases that it has trained "
            f"(bias: {trained}) cannot be switched off. Judge it without divergence."
        )


def _divergences(model: PreTrainedModel, batch: LaidOut, logits: torch.Tensor) -> torch.Tensor:
    """KL(base ‖ adapter) in nats at each of the K positions (float64), on the CPU.

    ``logits`` (K, V) are the adapter's. Of a bare model, which is the base, it is 0.
    """
    import torch

    if not hasattr(model, "disable_adapter"):
        return torch.zeros(len(logits), dtype=torch.float64)
    with cast("Any", model).disable_adapter():
        base = supervised_logits(model, batch)
    found = []
    parts = zip(base.split(_POSITIONS_AT_ONCE), logits.split(_POSITIONS_AT_ONCE), strict=True)
    for of_base, of_adapter in parts:
        before = torch.log_softmax(of_base.float(), dim=-1)
        after = torch.log_softmax(of_adapter.float(), dim=-1)
        found.append((before.exp() * (before - after)).sum(dim=-1).double().cpu())
    # Rounding may leave a divergence of nothing a little below 0.
    return torch.cat(found).clamp_min(0.0)


def _token_scores(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihoods (float64) and argmax hits (0 or 1) of K targets, on the CPU."""
    import torch

    nll, correct = [], []
    parts = zip(logits.split(_POSITIONS_AT_ONCE), targets.split(_POSITIONS_AT_ONCE), strict=True)
    for part, target in parts:
        log_likelihood = torch.log_softmax(part.float(), dim=-1)
        nll.append(-log_likelihood.gather(-1, target[:, None])[:, 0].cpu())
        correct.append((part.argmax(dim=-1) == target).long().cpu())
    return torch.cat(nll).double(), torch.cat(correct)
