"""Proof that the checkpoint on disk is what GPTQ decided on: reloaded, it gives the same logits.

A checkpoint of the old format saved as the new one, or the other way round, loads without a word
and answers something else (docs/decisions/0022).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base_model.loaded_model import load_model
from runner.base_model.model_source import local_model
from runner.errors import DefectError
from runner.quantizing.quantizing_job import QuantizingJob, ReloadCheck
from runner.recipe import Quantization, Recipe
from runner.training.adapter_probe import PROBE_ROWS, PROBE_TOKENS, probe_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Largest relative distance of two rows' logits. Scales are stored as float16, which GPTQ computed
# with more digits: in float32 about 1e-3 is seen. A wrong zero point gives 0.5 and more.
ALLOWED = {"float32": 1e-2, "float16": 3e-2, "bfloat16": 8e-2}


def check_checkpoint(
    job: QuantizingJob, weights: Mapping[str, torch.Tensor], folder: Path
) -> ReloadCheck:
    """Compare logits of the checkpoint in ``folder`` with those of the base holding ``weights``.

    Raises:
        DefectError: they differ by more than rounding.
    """
    import torch

    rows = [torch.tensor(ids[:PROBE_TOKENS]) for ids in job.token_ids[:PROBE_ROWS]]
    plain = job.recipe.model_copy(update={"quantization": Quantization()})
    base = _load(plain, job.base, job.device)
    full = probe_logits(base, rows)
    for name, weight in weights.items():
        held = base.get_parameter(f"{name}.weight")
        held.data = weight.to(device=held.device, dtype=held.dtype)
    decided = probe_logits(base, rows)
    del base
    reloaded = probe_logits(_load(job.recipe, str(folder), job.device), rows)
    check = ReloadCheck(
        rows=len(rows),
        difference=_distance(reloaded, decided),
        allowed=ALLOWED[job.dtype],
        from_full_precision=_distance(decided, full),
    )
    if not check.difference <= check.allowed:  # NaN is no proof either
        raise DefectError(
            "the quantized checkpoint, read back from disk, does not give the logits of the "
            f"weights that it was made of: they differ by {check.difference:.2%}, allowed are "
            f"{check.allowed:.0%}. It is not used."
        )
    return check


def _load(recipe: Recipe, place: str, device: str) -> PreTrainedModel:
    return load_model(recipe, local_model(recipe.model.base, Path(place)), device=device).model


def _distance(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Largest ‖found - wanted‖ / ‖wanted‖ of all rows; NaN where one is not a number."""
    import torch

    parts = [(f - w).norm() / w.norm() for f, w in zip(found, wanted, strict=True)]
    return float(torch.stack(parts).max())
