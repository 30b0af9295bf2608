"""A model's logits where tokens are supervised, for a batch of examples: padded or packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.examples import IGNORED_LABEL, Example
from evalsuite.packed_attention import attending, packed_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """A batch of B examples as tokens (R, T): a padded row each, or all in one row.

    There are K supervised tokens: the logits that predict them are at ``rows`` and ``columns``
    (K,), ``targets`` (K,) are their ids and ``owners`` (K,) the places of their examples.
    ``lengths`` (B,) is given where the examples are packed, ``attention`` (R, T) where they are
    padded.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    attention: torch.Tensor | None = None
    lengths: tuple[int, ...] | None = None


def packed_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped longest first, so that a group's lengths add up to at most ``budget``.

    A length beyond the budget is a group of its own.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if not batches or lengths[index] > room:
            batches.append([])
            room = budget
        batches[-1].append(index)
        room -= lengths[index]
    return batches


def pad_examples(examples: Sequence[Example], pad_token_id: int) -> LaidOut:
    """One row for each example, filled up on the right."""
    import torch

    width = max(len(example.input_ids) for example in examples)
    tokens = torch.full((len(examples), width), pad_token_id, dtype=torch.long)
    attention = torch.zeros((len(examples), width), dtype=torch.long)
    for place, example in enumerate(examples):
        tokens[place, : len(example.input_ids)] = torch.tensor(example.input_ids)
        attention[place, : len(example.input_ids)] = 1
    owners, columns, targets = _supervised(examples)
    return LaidOut(
        tokens=tokens,
        rows=owners,
        columns=columns,
        targets=targets,
        owners=owners,
        attention=attention,
    )


def pack_examples(examples: Sequence[Example]) -> LaidOut:
    """All examples in one row."""
    import torch

    lengths = torch.tensor([len(example.input_ids) for example in examples])
    owners, columns, targets = _supervised(examples)
    starts = lengths.cumsum(0) - lengths
    tokens = torch.tensor([token for example in examples for token in example.input_ids])
    return LaidOut(
        tokens=tokens.unsqueeze(0),
        rows=torch.zeros_like(owners),
        columns=columns + starts[owners],
        targets=targets,
        owners=owners,
        lengths=tuple(lengths.tolist()),
    )


def _supervised(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Owner, place of the logits in the example, and id of every supervised token: (K,) each.

    The logits at position t predict token t + 1.
    """
    import torch

    labels = [torch.tensor(example.labels[1:]) for example in examples]
    columns = [(part != IGNORED_LABEL).nonzero()[:, 0] for part in labels]
    counts = torch.tensor([len(part) for part in columns])
    owners = torch.arange(len(examples)).repeat_interleave(counts)
    targets = torch.cat([part[at] for part, at in zip(labels, columns, strict=True)])
    return owners, torch.cat(columns), targets


def supervised_logits(model: PreTrainedModel, batch: LaidOut) -> torch.Tensor:
    """Logits (K, V) that predict the supervised tokens.

    A hook keeps only those hidden states before the language-model head, so the head runs on K
    positions and not on all; whatever the model does to its logits afterwards (scaling,
    soft-capping) still happens in its own forward pass.

    Raises:
        EvaluationError: The model gives logits of another shape.
    """
    rows, columns = batch.rows.to(model.device), batch.columns.to(model.device)

    def select(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]  # (R, T, H)
        return (hidden[rows, columns].unsqueeze(0), *inputs[1:])  # (1, K, H)

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(select) if head is not None else None
    try:
        logits = _forward(model, batch)
    finally:
        if hook is not None:
            hook.remove()
    if logits.shape[:2] == (1, len(rows)) and head is not None:
        return logits[0]
    if logits.shape[:2] == batch.tokens.shape:  # a model without a head module of its own
        return logits[rows, columns]
    raise EvaluationError(
        f"the model returned logits of shape {tuple(logits.shape)}; expected "
        f"{tuple(batch.tokens.shape)} or {(1, len(rows))} positions."
    )


def _forward(model: PreTrainedModel, batch: LaidOut) -> torch.Tensor:
    given: dict[str, Any] = {"input_ids": batch.tokens.to(model.device), "use_cache": False}
    if batch.lengths is None:
        assert batch.attention is not None
        output = model(**given, attention_mask=batch.attention.to(model.device))
    else:
        with attending(model):
            output = model(**given, **packed_inputs(batch.lengths, model.device))
    logits: torch.Tensor = output.logits
    return logits
