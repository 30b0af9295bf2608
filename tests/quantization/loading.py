"""Checkpoints loaded as a run loads them, and compared with their integers multiplied out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runner.base_model.loaded_model import LoadedModel, load_tokenizer, load_weights
from runner.base_model.model_source import local_model
from runner.recipe import Recipe
from tests.quantization.classical_gptq import IntegerLinear, Scheme
from tests.quantization.float64_mistral import reference_logits, reference_weights

IDS = [1, *range(40, 76)]


def gptq_recipe(folder: Path, scheme: Scheme, **blocks: Any) -> Recipe:
    """A recipe over the checkpoint in ``folder``."""
    return Recipe.model_validate(
        {
            "version": 1,
            "name": "tiny",
            "dataset": {"source": "rows.jsonl"},
            "model": {"base": str(folder)},
            "quantization": quantization_block(scheme),
            "training": {"max_steps": 1},
            **blocks,
        }
    )


def quantization_block(scheme: Scheme) -> dict[str, Any]:
    """The recipe's block that agrees with a checkpoint."""
    return {
        "method": "gptq",
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "desc_act": scheme.desc_act,
        "sym": scheme.sym,
    }


def loaded(folder: Path, scheme: Scheme, **blocks: Any) -> LoadedModel:
    """The checkpoint as `proofbox run` loads it."""
    recipe = gptq_recipe(folder, scheme, **blocks)
    source = local_model(folder.name, folder)
    return load_weights(recipe, source, load_tokenizer(recipe, source), device="cpu")


def logits(model: Any, ids: list[int] = IDS) -> np.ndarray:
    """Logits [tokens, vocabulary] of one sequence."""
    import torch

    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([ids])).logits[0].double().numpy()
    return found


def expected_logits(folder: Path, linears: dict[str, IntegerLinear]) -> np.ndarray:
    """The same of the integers multiplied out in float64."""
    return reference_logits(folder, reference_weights(folder, linears), IDS)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
