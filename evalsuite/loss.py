"""Held-out loss: the negative log-likelihood of every example's supervised tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalsuite.batches import halve_on_out_of_memory, length_sorted_batches
from evalsuite.errors import EvaluationError
from evalsuite.examples import IGNORED_LABEL, Example

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
    """

    example_id: str
    row: int
    nll: float
    tokens: int
    bytes: int
    correct: int


def score_examples(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    pad_token_id: int,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[ExampleLoss]:
    """Score every example apart from the others, in the order given.

    The result does not depend on batch size or order (beyond rounding: 1e-5 relative in float32),
    because nothing but per-example sums leaves a batch.

    Args:
        model: A causal language model of transformers, bare or wrapped by peft.
        examples: What to score; never packed together.
        pad_token_id: Fills shorter rows on the right, masked.
        batch_tokens: At most so many tokens in a batch, padding included.
        on_progress: Told after every batch how many examples are done.

    Raises:
        EvaluationError: An example has no supervised token, or its loss is not finite.
    """
    for example in examples:
        if not any(label != IGNORED_LABEL for label in example.labels[1:]):
            raise EvaluationError(
                f"example {example.example_id} (row {example.row}) has no supervised token; "
                "there is nothing to score."
            )
    results: dict[int, ExampleLoss] = {}

    def score(batch: Sequence[int]) -> list[ExampleLoss]:
        return _score_batch(model, [examples[index] for index in batch], pad_token_id)

    with inference(model):
        for batch in length_sorted_batches([len(e.input_ids) for e in examples], batch_tokens):
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
    model: PreTrainedModel, examples: Sequence[Example], pad_token_id: int
) -> list[ExampleLoss]:
    import torch

    width = max(len(example.input_ids) for example in examples)
    tokens = torch.full((len(examples), width), pad_token_id, dtype=torch.long)  # (B, T)
    labels = torch.full((len(examples), width), IGNORED_LABEL, dtype=torch.long)  # (B, T)
    attention = torch.zeros((len(examples), width), dtype=torch.long)  # (B, T)
    for place, example in enumerate(examples):
        length = len(example.input_ids)
        tokens[place, :length] = torch.tensor(example.input_ids)
        labels[place, :length] = torch.tensor(example.labels)
        attention[place, :length] = 1
    # The logits at position t predict token t + 1, so the labels move one to the left.
    predicts = labels[:, 1:] != IGNORED_LABEL  # (B, T - 1)
    targets = labels[:, 1:][predicts]  # (K,)
    logits = _supervised_logits(model, tokens, attention, predicts)  # (K, V)
    nll, correct = _token_scores(logits, targets.to(logits.device))
    owner = predicts.nonzero()[:, 0]  # (K,) the row each target belongs to
    sums = torch.zeros(len(examples), dtype=torch.float64).index_add_(0, owner, nll)
    hits = torch.zeros(len(examples), dtype=torch.long).index_add_(0, owner, correct)
    counts = predicts.sum(dim=1)
    rows = zip(examples, sums.tolist(), counts.tolist(), hits.tolist(), strict=True)
    return [_example_loss(*row) for row in rows]


def _example_loss(example: Example, nll: float, tokens: int, correct: int) -> ExampleLoss:
    if not math.isfinite(nll):
        raise EvaluationError(
            f"the loss of example {example.example_id} (row {example.row}) is {nll}; the model's "
            "output is not finite. Check its weights and dtype."
        )
    return ExampleLoss(
        example_id=example.example_id,
        row=example.row,
        nll=nll,
        tokens=tokens,
        bytes=example.supervised_bytes,
        correct=correct,
    )


def _supervised_logits(
    model: PreTrainedModel, tokens: torch.Tensor, attention: torch.Tensor, predicts: torch.Tensor
) -> torch.Tensor:
    """Logits (K, V) at the K positions where ``predicts`` (B, T - 1) is true.

    A hook keeps only those hidden states before the language-model head, so the head runs on K
    positions and not on B·T; whatever the model does to its logits afterwards (scaling,
    soft-capping) still happens in its own forward pass.
    """
    device = model.device
    selected = predicts.to(device)
    wanted = int(predicts.sum())

    def select(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]  # (B, T, H)
        return (hidden[:, :-1][selected.to(hidden.device)].unsqueeze(0), *inputs[1:])  # (1, K, H)

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(select) if head is not None else None
    try:
        output = model(
            input_ids=tokens.to(device), attention_mask=attention.to(device), use_cache=False
        )
    finally:
        if hook is not None:
            hook.remove()
    logits: torch.Tensor = output.logits
    if logits.shape[:2] == tokens.shape:  # a model without a head module of its own
        return logits[:, :-1][selected.to(logits.device)]
    if logits.shape[:2] != (1, wanted):
        raise EvaluationError(
            f"the model returned logits of shape {tuple(logits.shape)}; expected "
            f"{tuple(tokens.shape)} or {(1, wanted)} positions."
        )
    return logits[0]


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
