"""Gradients of one optimizer step, computed in parts that fit in memory; the cut changes nothing.

Every part's loss is the sum over its supervised tokens, divided by those of the whole step: so the
gradients add up to those of the whole, however it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from evalsuite.packed_attention import attending, packed_inputs
from evalsuite.positions import by_side, positions_bound
from runner.training.last_layer import LearnedPlaces, narrow_last_layer
from runner.training.layer_compilation import Compilation
from runner.training.micro_batches import Cut, cut_padded, cut_step
from runner.training.neftune import EmbeddingNoise
from runner.training.supervised_loss import Supervised, give_loss
from runner.training.token_budget import TokenBudget
from runner.training.training_rows import IGNORED, TrainingRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evalsuite.attention_kernels import Kernel

Layout = Literal["packed", "padded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How the engine computes: see ``StepEngine``."""

    layout: Layout
    budget: TokenBudget
    pad_token_id: int
    kernel: Kernel = "auto"
    longest: int | None = None  # a bound on every example's tokens, for compiled layers
    noise: EmbeddingNoise | None = None
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward
    around: Callable[[bool], AbstractContextManager[Any]] = lambda _last: nullcontext()
    survives_memory: bool = True
    compilation: Compilation = field(default_factory=Compilation)
    announce: Callable[[str], None] = lambda _text: None


class StepEngine:
    """Computes the gradients of optimizer steps of ``model``, a causal model with an adapter.

    Args:
        model: What is called; it may wrap ``inner``.
        inner: The model of transformers inside.
        parts: ``layout`` of the examples, most tokens of a part, what a backward pass is, and what
            goes ``around`` each part (told whether it is the step's last). ``survives_memory``:
            whether a step that ran out of memory is repeated in smaller parts.
    """

    def __init__(self, model: Any, inner: PreTrainedModel, parts: Parts) -> None:  # noqa: ANN401 - any wrapper
        """Give ``inner`` a loss of its own; see the class."""
        give_loss(inner)
        compiled = parts.compilation.compiled
        self._compilation_reason = parts.compilation.reason
        self.learned = LearnedPlaces(None) if compiled else narrow_last_layer(inner)
        self.model = model
        self.inner = inner
        self.parts = parts
        self.budget = parts.budget
        self.bound = positions_bound(inner.config)
        self.computed_tokens = 0  # padding included; what memory did not take is not counted

    def gradients(
        self,
        rows: Sequence[TrainingRow],
        *,
        supervised: int,
        scale: float = 1.0,
        cut: Cut | None = None,
        draw: Callable[[], None] = lambda: None,
    ) -> torch.Tensor:
        """Add the gradients of ``scale`` · loss to ``.grad``; returns the loss, a scalar.

        The loss is that of ``rows`` divided by ``supervised``, the tokens that the whole step
        learns from. ``cut`` overrides the engine's own. Where memory runs out the gradients are
        set to zero, the budget is halved and all is computed again. ``draw`` seeds what dropout
        and noise draw, before each attempt.

        Raises:
            torch.OutOfMemoryError: even one example alone does not fit.
        """
        while True:
            chosen = cut or self.cut([len(row.input_ids) for row in rows])
            draw()
            before = self.computed_tokens
            try:
                return self.parts.compilation.computed(
                    partial(self._accumulate, rows, chosen, supervised, scale),
                    forget=self._forget,
                    announce=self.parts.announce,
                )
            except torch.OutOfMemoryError:
                if not self.parts.survives_memory or cut is not None or max(map(len, chosen)) == 1:
                    raise
            # Outside of the handler: the error would keep the failed part's tensors alive.
            self.computed_tokens = before
            self._shrink(rows, chosen)

    def cut(self, lengths: Sequence[int]) -> Cut:
        """How examples of these lengths, in tokens, are cut by the present budget."""
        cutting = cut_step if self.parts.layout == "packed" else cut_padded
        return by_side(cutting, lengths, self.budget.tokens, bound=self.bound)

    def changes(self) -> tuple[str, ...]:
        """What was decided otherwise while it was running, as sentences."""
        found = []
        if self.budget is not self.parts.budget:
            told = f"{self.budget.tokens:,} in the end: {self.budget.reason}"
            found.append(f"hardware.micro_batch_tokens: {told}")
        if self.parts.compilation.reason != self._compilation_reason:
            found.append(self.parts.compilation.reason)
        return tuple(found)

    def _accumulate(
        self, rows: Sequence[TrainingRow], cut: Cut, supervised: int, scale: float
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=self.inner.device)
        for number, group in enumerate(cut):
            # A rank with nothing left takes part without weight, where weights are exchanged.
            chosen, weight = ([rows[i] for i in group], 1.0) if group else ([rows[0]], 0.0)
            with self.parts.around(number == len(cut) - 1), self._attending():
                total += self._learn(chosen, weight / supervised, scale)
        return total

    def _attending(self) -> AbstractContextManager[None]:
        """The backward pass too: recomputed layers attend once more."""
        packed = self.parts.layout == "packed"
        return attending(self.inner, self.parts.kernel) if packed else nullcontext()

    def _learn(self, rows: Sequence[TrainingRow], weight: float, scale: float) -> torch.Tensor:
        """Forward and backward of one part; returns its share of the step's loss."""
        pack = self.parts.layout == "packed"
        inputs = self._packed(rows) if pack else self._padded(rows)
        self.computed_tokens += inputs["input_ids"].numel()
        if self.parts.noise is not None:
            self.parts.noise.lengths = self._lengths_of_tokens(rows)
        supervised = self._supervised(rows, inputs["input_ids"].shape[1])
        with self.learned.at(supervised.places):
            loss: torch.Tensor = self.model(**inputs, supervised=supervised) * weight
            self.parts.backward(loss * scale)
        return loss.detach()

    def _packed(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """All rows end to end: input_ids (1, T), and where they begin."""
        lengths = [len(row.input_ids) for row in rows]
        tokens = torch.cat([row.input_ids for row in rows]).unsqueeze(0).to(self.inner.device)
        places = packed_inputs(lengths, self.inner.device, longest=self.parts.longest)
        return {"input_ids": tokens, **places}

    def _padded(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """A row each, filled up on the right: input_ids and attention_mask (R, T)."""
        shape = (len(rows), max(len(row.input_ids) for row in rows))
        tokens = torch.full(shape, self.parts.pad_token_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for place, row in enumerate(rows):
            tokens[place, : len(row.input_ids)] = row.input_ids
            mask[place, : len(row.input_ids)] = 1
        device = self.inner.device
        return {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}

    def _supervised(self, rows: Sequence[TrainingRow], width: int) -> Supervised:
        """Places of a batch ``width`` tokens wide whose next token is learned."""
        places, targets, start = [], [], 0
        for row in rows:
            learned = (row.labels[1:] != IGNORED).nonzero()[:, 0]
            places.append(learned + start)
            targets.append(row.labels[learned + 1])
            start += len(row.input_ids) if self.parts.layout == "packed" else width
        device = self.inner.device
        return Supervised(
            places=torch.cat(places).to(device), targets=torch.cat(targets).to(device)
        )

    def _lengths_of_tokens(self, rows: Sequence[TrainingRow]) -> torch.Tensor:
        """The length of the example that each token is part of: (1, T) or (R, 1)."""
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        packed = self.parts.layout == "packed"
        shaped = lengths.repeat_interleave(lengths).unsqueeze(0) if packed else lengths.unsqueeze(1)
        return shaped.float().to(self.inner.device)

    def _forget(self) -> None:
        for parameter in self.inner.parameters():
            parameter.grad = None

    def _shrink(self, rows: Sequence[TrainingRow], cut: Cut) -> None:
        self._forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max(sum(len(rows[i].input_ids) for i in group) for group in cut)
        self.budget = self.budget.halve(largest)
        self.parts.announce(
            f"  out of memory with {largest:,} tokens at once: the step is repeated with "
            f"{self.budget.tokens:,} at once, and so are all that follow. The gradients are the "
            "same."
        )
