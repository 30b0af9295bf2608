"""What ``proofbox eval`` judges: an adapter, or a whole model, that was trained elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runner.base_model.model_source import count_parameters, hub_folder, local_model
from runner.digests import digest_of_json, file_digest
from runner.errors import MachineError, UsageError
from runner.stored_json import read_json
from runner.training.adapter_files import WEIGHTS, bound_to

Kind = Literal["adapter", "model"]
ADAPTER_CONFIG = "adapter_config.json"
# What decides how an adapter changes its base model. Other files of the folder are left behind.
ADAPTER_FILES = (ADAPTER_CONFIG, WEIGHTS)
# Methods of PEFT that put virtual tokens before the prompt: there is no token to score them by.
PROMPT_LEARNING = (
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT",
    "ADAPTION_PROMPT",
)  # fmt: skip
# Keys of an adapter's configuration that a reader wants to know.
_TOLD = ("r", "lora_alpha", "lora_dropout", "target_modules", "bias", "use_rslora", "use_dora")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is judged, as found (``subject.json``).

    ``name`` is a Hub id, or the last part of a folder's path. ``digest`` covers every file that is
    judged; of an adapter it is the same as the digest of its folder in the run. ``settings`` are
    those of the adapter's own configuration. ``tokenizer_digest`` is that of the tokenizer that an
    adapter was judged with; None for a whole model, which is not packed. ``base_weights`` is the
    digest of the base model's weights that an adapter of proofbox is bound to.
    """

    kind: Kind
    name: str
    revision: str | None
    digest: str
    base_named: str | None
    method: str | None
    parameters: int
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    tokenizer_digest: str | None = None
    base_weights: str | None = None

    @property
    def adapter_digest(self) -> str:
        """The digest, by the name that evidence and verdict have for it."""
        return self.digest

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTarget:
    """A target and the folder of this machine that it lies in."""

    target: Target
    place: Path


def read_target(path: Path) -> Target:
    """A stored target.

    Raises:
        MachineError: the record is missing or damaged.
    """
    values = read_json(path)
    try:
        return Target(**{**values, "notes": tuple(values["notes"])})
    except (TypeError, KeyError) as error:
        raise MachineError(f"{path}: damaged ({error}). Run proofbox eval again.") from None


def find_target(given: str) -> FoundTarget:
    """Find an adapter or a model: a folder, else a name on the Hub.

    Raises:
        UsageError: the folder is of another kind; the message says what to name.
        MachineError: there is no such folder or Hub repository, or its files are unusable.
    """
    folder = Path(given).expanduser()
    revision = None
    if folder.is_dir():
        name = folder.resolve().name
    else:
        if given.startswith((".", "/", "~")) or given.count("/") != 1:
            raise UsageError(f"{given}: no such folder, and no name of a Hub repository (org/name)")
        folder, name = hub_folder(given, None, what="TARGET"), given
        revision = folder.name
    if (folder / ADAPTER_CONFIG).is_file():
        target = _adapter(name, folder)
    elif (folder / "config.json").is_file():
        target = _model(name, folder)
    else:
        raise UsageError(_neither(given, folder))
    return FoundTarget(target=replace(target, revision=revision), place=folder.resolve())


def _neither(given: str, folder: Path) -> str:
    if (folder / "adapter" / ADAPTER_CONFIG).is_file():
        return (
            f"{given}: this is a run folder, which `proofbox gate` judges. Its adapter is "
            f"{folder / 'adapter'}"
        )
    return (
        f"{given}: neither an adapter (it has no {ADAPTER_CONFIG}) nor a model (no config.json). "
        "Name the folder that save_pretrained wrote."
    )


def _adapter(name: str, folder: Path) -> Target:
    config = _config(folder / ADAPTER_CONFIG)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise MachineError(
            f"{folder}: has no {WEIGHTS}. Weights in another format can run code when they are "
            "read; save the adapter again with safe_serialization=True."
        )
    method = str(config.get("peft_type", ""))
    if method in PROMPT_LEARNING:
        raise MachineError(
            f"{folder}: an adapter of type {method} puts virtual tokens before the prompt, and is "
            "not evaluated by this version. LoRA and its relatives are."
        )
    named = config.get("base_model_name_or_path")
    return Target(
        kind="adapter",
        name=name,
        revision=None,
        digest=digest_of_json({file: file_digest(folder / file) for file in ADAPTER_FILES}),
        base_named=_without_machine(str(named)) if named else None,
        method=method or None,
        parameters=count_parameters(weights),
        settings={key: _sorted(config[key]) for key in _TOLD if key in config},
        notes=_notes(str(named) if named else ""),
        base_weights=bound_to(weights),
    )


def _notes(named: str) -> tuple[str, ...]:
    if not Path(named).is_absolute():
        return ()
    return (
        f"{ADAPTER_CONFIG} names the base model by a path of the machine it was trained on; a "
        "release of this adapter carries that path",
    )


def _model(name: str, folder: Path) -> Target:
    source = local_model(name, folder, what="TARGET")
    return Target(
        kind="model",
        name=name,
        revision=None,
        digest=source.digest,
        base_named=None,
        method=None,
        parameters=source.parameters,
        settings={"architecture": source.architecture},
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MachineError(f"{path}: damaged: {error}") from None
    if not isinstance(config, dict):
        raise MachineError(f"{path}: damaged: it holds no object")
    return config


def _sorted(value: object) -> object:
    """PEFT stores sets of module names in any order."""
    return sorted(value) if isinstance(value, list) and _all_texts(value) else value


def _all_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _without_machine(name: str) -> str:
    """Of an absolute path the last part: the rest is about some machine."""
    return Path(name).name if Path(name).is_absolute() else name


def told_differences(target: Target, base: str) -> tuple[str, ...]:
    """What a reader must know where the adapter names another base model than the recipe."""
    if target.kind == "model" or target.base_named in (base, None):
        return ()
    if target.base_named == _without_machine(base):
        return ()
    return (
        f"the adapter's own configuration names the base model {target.base_named!r}; it is judged "
        f"on the recipe's, {_without_machine(base)!r}",
    )
