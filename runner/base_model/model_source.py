"""Which base model a recipe means, before any weight is loaded: place, revision, digest, size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.base_model.checkpoint_settings import bits_of, method_of
from runner.base_model.gptq_checkpoint import checkpoint_settings
from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError

# What decides a model's outputs. Other files (README, .gitattributes) may change freely.
MODEL_FILES = (
    "*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.py", "*.txt", "*.tiktoken",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A base model that was found.

    ``place`` is what transformers' ``from_pretrained`` is given: a folder, or a Hub id with
    ``revision`` resolved to a commit. ``name`` is the recipe's own word for it. ``parameters`` is 0
    where only loading the weights can tell. ``quantization`` is the method that its weights are
    quantized with, and ``quantization_settings`` are its own, as it stores them.
    """

    name: str
    place: str
    revision: str | None
    digest: str
    architecture: str
    model_type: str
    parameters: int
    weight_bytes: int
    hidden_size: int
    layers: int
    vocabulary: int
    quantization: str | None
    quantization_bits: int | None
    quantization_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


def find_model(base: str, revision: str | None, *, folder: Path) -> ModelSource:
    """Find ``base`` as a folder relative to ``folder`` (the recipe's), else on the Hub.

    Raises:
        MachineError: no such folder or Hub model, or the Hub cannot be reached.
    """
    local = folder / base
    if local.is_dir():
        return local_model(base, local)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise MachineError(f"model.base: {base!r}: no such folder (looked for {local})")
    return _hub_model(base, revision)


def local_model(name: str, folder: Path, *, what: str = "model.base") -> ModelSource:
    """The model in ``folder``; messages begin with ``what`` it was given as.

    Raises:
        MachineError: a file is missing or damaged.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise MachineError(f"{what}: {name!r}: the folder {folder} has no config.json")
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern)}
    files = {path.name: file_digest(path) for path in sorted(found)}
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise MachineError(f"{what}: {name!r}: the folder {folder} has no .safetensors weights")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MachineError(f"{what}: {name!r}: {config_file} is damaged: {error}") from None
    return ModelSource(
        name=name,
        place=str(folder.resolve()),
        revision=None,
        digest=digest_of_json(files),
        parameters=sum(map(count_parameters, weights)),
        weight_bytes=sum(path.stat().st_size for path in weights),
        **_shape(config),
        **_quantization(checkpoint_settings(folder, config) or {}),
    )


def _hub_model(name: str, revision: str | None) -> ModelSource:
    place = hub_folder(name, revision, what="model.base")
    source = local_model(name, place)
    return ModelSource(
        **{f: getattr(source, f) for f in ModelSource.__slots__ if f not in {"revision", "digest"}},
        revision=place.name,
        digest=digest_of_json({"hub": name, "commit": place.name}),
    )


def hub_folder(name: str, revision: str | None, *, what: str) -> Path:
    """The snapshot of a Hub repository on this machine; the folder is named after its commit.

    Args:
        name: ``org/name``.
        revision: A branch, tag or commit; the main branch if None.
        what: What the user gave the name as; messages begin with it.

    Raises:
        MachineError: there is no such repository, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    # of whichever HTTP library this version of huggingface_hub stands on
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        HfApi().model_info(name, revision=revision, timeout=10)  # says no at once, without retries
        # By the recipe's own revision: then the cache also answers for it without a network.
        return Path(snapshot_download(name, revision=revision))
    except HFValidationError as error:
        raise MachineError(f"{what}: {name!r} is no folder and no Hub id: {error}") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, http_error, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            raise MachineError(
                f"{what}: {name!r}: the Hub answered {error.response.status_code}. Is the name "
                "right, and is a token set for a private or gated model?"
            ) from None
        return Path(_cached_snapshot(name, revision, what))


def _cached_snapshot(name: str, revision: str | None, what: str) -> str:
    """The copy in the Hub's local cache, for work without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return snapshot_download(name, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        raise MachineError(
            f"{what}: {name!r} is no local folder, is not in the Hub's cache on this machine, "
            "and the Hub cannot be reached from here (offline, or HF_HUB_OFFLINE is set). Download "
            f"it where there is a network (`hf download {name}`), or give the path of a folder."
        ) from None


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    text = config.get("text_config", config)
    architectures = config.get("architectures") or [config.get("model_type", "unknown")]
    return {
        "architecture": architectures[0],
        "model_type": config.get("model_type", "unknown"),
        "hidden_size": int(text.get("hidden_size", 0)),
        "layers": int(text.get("num_hidden_layers", 0)),
        "vocabulary": int(text.get("vocab_size", 0)),
    }


def _quantization(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "quantization": method_of(settings),
        "quantization_bits": bits_of(settings),
        "quantization_settings": settings,
    }


def count_parameters(weights: Path) -> int:
    """Number of stored values in a safetensors file, from its header alone."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise MachineError(f"{weights}: damaged: it has no safetensors header") from None
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        size = 1
        for extent in tensor["shape"]:
            size *= extent
        total += size
    return total
