"""Proof that the adapter on disk is the one that was trained: the same logits, reloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import DataError
from runner.stored_json import write_json

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

PROBE_ROWS = 4
PROBE_TOKENS = 128
_SEARCHED_AT_ONCE = 1000  # rows
PROBE_POSITIONS = 8  # logits are kept for the last few positions only: a vocabulary is large
# Largest difference between two evaluations of the same weights, relative to the largest logit.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 4e-2}


def probe_logits(model: Any, rows: list[torch.Tensor]) -> list[torch.Tensor]:  # noqa: ANN401
    """Logits of the last positions of each row, float32 on the CPU; [positions, vocabulary]."""
    import torch

    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = []
    with torch.no_grad():
        for ids in rows:
            out = model(input_ids=ids[None].to(device), use_cache=False)
            logits.append(out.logits[0, -PROBE_POSITIONS:].float().cpu().contiguous())
    model.train(was_training)
    return logits


def probe_of(
    model: Any,  # noqa: ANN401 - an adapted model
    rows: Dataset,
    *,
    token_ids: Sequence[int] = (),
) -> dict[str, torch.Tensor]:
    """A few rows and the adapter's logits on them, as computed in memory.

    Of ``token_ids``, whose embeddings the adapter trains, all that occur early in a row are among
    them.
    """
    import torch

    ids = [torch.tensor(row, dtype=torch.long) for row in _chosen(rows, token_ids)]
    stored = {f"ids.{i}": row for i, row in enumerate(ids)}
    return stored | {f"logits.{i}": row for i, row in enumerate(probe_logits(model, ids))}


def _chosen(rows: Dataset, token_ids: Sequence[int]) -> list[list[int]]:
    first = rows.select(range(min(PROBE_ROWS, len(rows))))["input_ids"]
    chosen = [row[:PROBE_TOKENS] for row in first]
    for start in range(0, len(rows), _SEARCHED_AT_ONCE):
        missing = set(token_ids).difference(*chosen)
        if not missing:
            break
        for row in rows[start : start + _SEARCHED_AT_ONCE]["input_ids"]:
            if missing.intersection(row[:PROBE_TOKENS]):
                chosen.append(row[:PROBE_TOKENS])
                missing.difference_update(row[:PROBE_TOKENS])
    return chosen


def save_probe(probe: dict[str, torch.Tensor], path: Path) -> None:
    """Store what ``probe_of`` gave."""
    from safetensors.torch import save_file

    save_file(probe, str(path))


def check_reloaded(
    base_logits: list[torch.Tensor],
    adapter_logits: list[torch.Tensor],
    probe: Path,
    dtypes: tuple[str, str],
) -> float:
    """Compare the reloaded adapter with the one in memory and with the base model.

    ``dtypes`` are those of the base model here and in training; the coarser one sets the tolerance.

    Returns the largest relative difference to the logits in memory.

    Raises:
        DataError: the reloaded adapter differs from the trained one, or changes nothing.
    """
    from safetensors.torch import load_file

    stored = load_file(str(probe))
    memory = [stored[f"logits.{i}"] for i in range(len(adapter_logits))]
    worst = max(_difference(a, m) for a, m in zip(adapter_logits, memory, strict=True))
    tolerance = max(TOLERANCE[dtype] for dtype in dtypes)
    if not worst <= tolerance:
        raise DataError(
            "the adapter on disk is not the one that was trained: its logits differ by "
            f"{worst:.2g} of the largest (allowed: {tolerance:.2g}). It will not be judged."
        )
    changed = max(_difference(a, b) for a, b in zip(adapter_logits, base_logits, strict=True))
    if changed == 0.0:
        raise DataError(
            "the adapter on disk changes nothing: with it the base model gives exactly its own "
            "logits. Its weights may not have been loaded, or it was not trained."
        )
    return worst


def record_reload(path: Path, adapter_digest: str, difference: float, **more: int) -> None:
    """Write down that the adapter of this digest was read back and compared."""
    write_json(
        path, {"adapter_digest": adapter_digest, "largest_logit_difference": difference, **more}
    )


def probe_rows(probe: Path) -> list[torch.Tensor]:
    """The rows of a stored probe."""
    from safetensors.torch import load_file

    stored = load_file(str(probe))
    return [stored[f"ids.{i}"] for i in range(len(stored) // 2)]


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))
