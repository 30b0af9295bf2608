"""The adapter's files: written in one step, free of this machine's paths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.digests import digest_of_json, file_digest
from runner.stored_json import sync_folder, write_json

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"


def save_adapter(model: PeftModel, target: Path, *, base: str, initial: Path | None = None) -> str:
    """Save the adapter in one step and return its digest.

    ``base`` is written as the base model's name, instead of a path of this machine. ``initial`` is
    the adapter before training where its start changed the base weights (PiSSA): then the
    difference is saved, as a plain LoRA on the untouched base model.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(
        str(temporary),
        path_initial_model_for_weight_conversion=str(initial) if initial else None,
    )
    (temporary / "README.md").unlink(missing_ok=True)
    config_file = temporary / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    write_json(config_file, {**config, "base_model_name_or_path": base})
    (temporary / WEIGHTS).chmod(0o644)  # safetensors writes for its owner alone
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    sync_folder(target.parent)
    return folder_digest(target)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of every file: weights and configuration count alike."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of_json({p.relative_to(folder).as_posix(): file_digest(p) for p in files})


def save_initial(model: PeftModel, target: Path) -> Path:
    """Save a PiSSA adapter as it starts, for ``save_adapter`` to subtract."""
    shutil.rmtree(target, ignore_errors=True)
    config: Any = model.peft_config["default"]
    kept = config.init_lora_weights
    config.init_lora_weights = True  # as PEFT documents for the conversion of PiSSA
    model.save_pretrained(str(target))
    config.init_lora_weights = kept
    return target
