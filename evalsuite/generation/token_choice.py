"""How the next token of every row is chosen: as declared, each row for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.generation.seeded_noise import gumbel_noise
from evalsuite.records import Decoding

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class SeededNoise:
    """Adds each row's own noise, so that the largest score is a draw; ``width`` is the prompts'."""

    keys: torch.Tensor
    width: int

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) in float64 of the token after ``input_ids`` (B, T)."""
        noise = gumbel_noise(self.keys, input_ids.shape[1] - self.width, scores.shape[1])
        return scores.double() + noise


@dataclass(frozen=True, slots=True)
class RepetitionPenalty:
    """Makes tokens less likely that the row holds already (Keskar et al. 2019, arXiv 1909.05858).

    transformers' own counts the padding token too where a row is padded, so that what a row gets
    depends on the rows beside it. ``attention`` (B, W) is 0 where the prompts are padded.
    """

    penalty: float
    attention: torch.Tensor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) of the token after ``input_ids`` (B, T)."""
        import torch
        from transformers import RepetitionPenaltyLogitsProcessor

        width = self.attention.shape[1]
        last = input_ids[:, width - 1 : width]  # prompts are padded on the left
        prompts = torch.where(self.attention.bool(), input_ids[:, :width], last)
        own = torch.cat([prompts, input_ids[:, width:]], dim=1)
        penalised: torch.Tensor = RepetitionPenaltyLogitsProcessor(self.penalty)(own, scores)
        return penalised


def score_processors(decoding: Decoding, keys: torch.Tensor, attention: torch.Tensor) -> list[Any]:
    """What turns a model's logits into scores whose largest is the chosen token.

    Args:
        decoding: How tokens are chosen.
        keys: (B,) what decides the draws of each row.
        attention: (B, W) 0 where the prompts are padded.
    """
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    processors: list[Any] = []
    if decoding.repetition_penalty != 1.0:
        processors.append(RepetitionPenalty(decoding.repetition_penalty, attention))
    if not decoding.do_sample:
        return processors
    if decoding.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k:
        processors.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1.0:
        processors.append(TopPLogitsWarper(decoding.top_p))
    return [*processors, SeededNoise(keys, attention.shape[1])]
