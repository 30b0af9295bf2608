"""Short trainings on a quantized base by the runner's own engine, and on a plain one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from safetensors.numpy import save_file

from runner.base_model.loaded_model import LoadedModel
from runner.progress import Progress
from runner.run_folder import RunFolder
from runner.training.train_adapter import TrainedAdapter, train_adapter
from runner.training.training_rows import IGNORED, TrainingRow
from tests.quantization.classical_gptq import Scheme
from tests.quantization.conftest import Checkpoint
from tests.quantization.float64_mistral import reference_weights
from tests.quantization.loading import gptq_recipe

LORA = {"r": 4, "alpha": 8, "target_modules": "all-linear"}
# Plain gradient descent: it does not make much of what is nearly nothing, as Adam does.
STEPS = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.5, "optimizer": "sgd"}


def some_rows(count: int = 24) -> Dataset:
    """Rows of unequal lengths; the first tokens are a prompt."""
    drawn = np.random.default_rng(5)
    examples = []
    for _ in range(count):
        ids = drawn.integers(40, 60, size=drawn.integers(8, 40)).tolist()
        examples.append({"input_ids": ids, "labels": [IGNORED] * 4 + ids[4:]})
    return Dataset.from_list(examples)


def recipe_for(folder: Path, scheme: Scheme | None, **blocks: Any) -> Any:
    """A recipe over a checkpoint; without a scheme, over a plain model."""
    given = {"lora": LORA, "training": STEPS, **blocks}
    if scheme is None:
        given["quantization"] = {"method": "none"}
    return gptq_recipe(folder, scheme or Scheme(), **given)


def trained(
    recipe: Any,
    loaded: LoadedModel,
    folder: Path,
    inspect: Callable[[Any, Any], None] | None = None,
) -> tuple[TrainedAdapter, RunFolder]:
    """Train without a word; gives the record and the run folder."""
    run = RunFolder(folder)
    run.path.mkdir(exist_ok=True)
    silent = Progress(console=Console(quiet=True, force_terminal=False))
    rows = some_rows()
    return train_adapter(recipe, loaded, rows, run, progress=silent, inspect=inspect), run


def gradients(task: Any, trainer: Any) -> dict[str, torch.Tensor]:
    """The adapter's gradients on four rows, by the trainer's own engine, without dropout."""
    rows = [
        TrainingRow(input_ids=torch.tensor(row["input_ids"]), labels=torch.tensor(row["labels"]))
        for row in task.rows.select(range(4))
    ]
    task.model.eval()
    task.model.zero_grad()
    supervised = sum(int((row.labels[1:] != IGNORED).sum()) for row in rows)
    trainer.engine.gradients(rows, supervised=supervised)
    return {
        name: parameter.grad.detach().clone()
        for name, parameter in task.model.named_parameters()
        if parameter.grad is not None
    }


def dequantized(checkpoint: Checkpoint, folder: Path) -> Path:
    """The checkpoint as a plain model in float32, its integers multiplied out."""
    weights = reference_weights(checkpoint.folder, checkpoint.linears)
    folder.mkdir()
    for file in checkpoint.folder.iterdir():
        if file.suffix == ".json" and file.name not in ("config.json", "quantize_config.json"):
            (folder / file.name).write_bytes(file.read_bytes())
        if file.suffix == ".jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((checkpoint.folder / "config.json").read_text())
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config))
    stored = {name: np.ascontiguousarray(w.astype(np.float32)) for name, w in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def in_the_order_of(base: LoadedModel, other: Any) -> LoadedModel:
    """``base`` with its modules in the order of the model ``other``.

    Adapters are drawn in that order, and gptqmodel's layers are put in behind all others.
    """
    for name, module in other.named_modules():
        own = base.model.get_submodule(name)
        for child in module._modules:
            own._modules[child] = own._modules.pop(child)
    return base
