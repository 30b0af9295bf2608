"""Noise on the embeddings while training (NEFTune, Jain et al. 2023, arXiv 2310.05914)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class EmbeddingNoise:
    """Uniform noise of ±alpha / sqrt(L·d) on embeddings (R, T, d) of examples of L tokens.

    transformers takes the batch's width for L: noise would then depend on which examples are
    computed together, and all but vanish where many lie end to end.
    """

    def __init__(self, model: PreTrainedModel, alpha: float) -> None:
        """Add noise to what the input embeddings of ``model`` give, in training mode."""
        self.alpha = alpha
        self.lengths: torch.Tensor | None = None
        model.get_input_embeddings().register_forward_hook(self._add)

    def _add(self, module: torch.nn.Module, _: Any, embedded: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - torch's own signature
        if not module.training or self.lengths is None:
            return embedded
        bound = self.alpha / math.sqrt(embedded.shape[-1]) * self.lengths.rsqrt()
        noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
        return embedded + (noise * bound.unsqueeze(-1)).to(embedded.dtype)
