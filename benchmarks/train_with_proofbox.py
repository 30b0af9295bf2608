"""Trains a task of ``training.py`` with proofbox: the training stage of ``proofbox run``.

    python benchmarks/train_with_proofbox.py task.json report.json

On a GPU the model is made or loaded here and handed to what that stage calls.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_task import Task, make_model, read_rows, read_task, run_clocked, step_tokens

from runner.progress import Progress

COLUMNS = ("input_ids", "labels")

if TYPE_CHECKING:
    from runner.training.train_adapter import TrainedAdapter


def train_stage(task: Task) -> TrainedAdapter:
    """The stages of a run up to the trained adapter, without the base's evaluation."""
    from runner import stages
    from runner.plan import make_plan
    from runner.run_folder import held

    plan = make_plan(Path(task.recipe), runs=Path(task.work, "runs"), device=task.device)
    progress = Progress()
    with held(plan.folder):
        stages.start(plan, restart=True, progress=progress)
        return stages.train(plan, stages.prepare(plan, progress), progress)


def train_shape(task: Task) -> TrainedAdapter:
    """Train a model that was made here: what the stage does once it has loaded one."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer

    from runner.base_model.loaded_model import LoadedModel
    from runner.recipe_reading.recipe_file import read_recipe
    from runner.run_folder import RunFolder
    from runner.training.train_adapter import train_adapter

    tokenizer = AutoTokenizer.from_pretrained(task.tokenizer, pad_token="<unk>")
    folder = RunFolder(Path(task.work, "run"))
    tokenizer.save_pretrained(folder.tokenizer)
    # In their first order: the schedule shuffles them into that of the file.
    given = sorted(read_rows(task), key=lambda row: row["index"])
    rows = Dataset.from_list([{name: row[name] for name in COLUMNS} for row in given])
    loaded = LoadedModel(
        model=make_model(task),
        tokenizer=tokenizer,
        device=task.device,
        dtype=getattr(torch, task.dtype),
    )
    recipe = read_recipe(Path(task.recipe))
    return train_adapter(recipe, loaded, rows, folder, progress=Progress())


def main() -> None:
    """Train, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("report", type=Path)
    options = parser.parse_args()
    task = read_task(options.task)

    def work() -> dict[str, Any]:
        trained = (train_shape if task.on_gpu else train_stage)(task)
        return {
            "decisions": trained.decisions,
            "recorded_tokens_per_second": trained.tokens_per_second,
        }

    run_clocked(task, options.report, work, lambda: step_tokens(task))


if __name__ == "__main__":
    main()
