"""The adapter's files: written in one step, free of this machine's paths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.digests import digest_of_json, file_digest
from runner.stored_json import sync_folder, write_json

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# In the weights' own header, so that it goes where they go: digest of the base model's weights.
BASE_WEIGHTS = "proofbox_base_weights"
_HEADER = 8  # bytes that say how long it is, and what it is padded to


def save_adapter(
    model: PeftModel,
    target: Path,
    *,
    base: str,
    base_weights: str | None = None,
    initial: Mapping[str, torch.Tensor] | None = None,
) -> str:
    """Save the adapter in one step and return its digest.

    Args:
        model: The base model with the adapter.
        target: The adapter's folder.
        base: Written as the base model's name, instead of a path of this machine.
        base_weights: Digest of the base model's weights, which the adapter is bound to.
        initial: The adapter before training where its start changed the base weights (PiSSA): then
            the difference is saved, as a plain LoRA on the untouched base model.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(str(temporary), save_embedding_layers=False)
    (temporary / "README.md").unlink(missing_ok=True)
    if initial is not None:
        _subtract(temporary, initial)
    if base_weights is not None:
        _bind(temporary / WEIGHTS, base_weights)
    config = json.loads((temporary / CONFIG).read_text(encoding="utf-8"))
    write_json(temporary / CONFIG, {**_sorted(config), "base_model_name_or_path": base})
    (temporary / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    sync_folder(target.parent)
    return folder_digest(target)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of every file: weights and configuration count alike."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of_json({p.relative_to(folder).as_posix(): file_digest(p) for p in files})


def _bind(weights: Path, base_weights: str) -> None:
    """Write the base model's digest into the header of a safetensors file.

    safetensors itself writes a header's own values in another order each time.
    """
    content = weights.read_bytes()
    header = _header(weights)
    end = _HEADER + int.from_bytes(content[:_HEADER], "little")
    header["__metadata__"] = {**header.get("__metadata__", {}), BASE_WEIGHTS: base_weights}
    written = json.dumps(header, separators=(",", ":")).encode()
    written += b" " * (-len(written) % _HEADER)
    weights.write_bytes(len(written).to_bytes(_HEADER, "little") + written + content[end:])


def bound_to(weights: Path) -> str | None:
    """Digest of the base model's weights that an adapter's file names; None where it names none.

    Raises:
        ValueError: the file has no safetensors header.
    """
    named: str | None = _header(weights).get("__metadata__", {}).get(BASE_WEIGHTS)
    return named


def _header(weights: Path) -> dict[str, Any]:
    with weights.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(_HEADER), "little")))
    return header


def initial_matrices(model: PeftModel) -> dict[str, torch.Tensor]:
    """A PiSSA adapter as it starts, on the CPU, for ``save_adapter`` to subtract."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {n: t.detach().cpu().clone() for n, t in state.items() if _is_factor(n)}


def _subtract(folder: Path, initial: Mapping[str, torch.Tensor]) -> None:
    """Make a saved PiSSA adapter a plain one of twice the rank: B·A - B0·A0 = [B, -B0]·[A; A0].

    (PEFT's own conversion would leave out biases, whole modules and trained tokens.)
    """
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(folder / WEIGHTS))
    for name, start in initial.items():
        start = start.to(tensors[name].dtype)  # noqa: PLW2901 - the same matrix, as it is stored
        pair = [tensors[name], start] if ".lora_A." in name else [tensors[name], -start]
        tensors[name] = torch.cat(pair, dim=0 if ".lora_A." in name else 1).contiguous()
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # Rank and scale double together: their quotient, which multiplies, stays.
    config |= {key: 2 * config[key] for key in ("r", "lora_alpha")}
    for key in ("rank_pattern", "alpha_pattern"):
        config[key] = {name: 2 * value for name, value in config[key].items()}
    write_json(folder / CONFIG, {**config, "init_lora_weights": True})


def _is_factor(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _sorted(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose lists of names, which PEFT keeps as sets, are in order."""
    return {
        key: sorted(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value)
        else value
        for key, value in config.items()
    }
