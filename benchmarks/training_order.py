"""What a recipe's training gets, written down for other trainers: rows, model, first adapter.

    python benchmarks/training_order.py task.json

Writes what the task names: the rows, in the order in which the recipe's steps take them, the base
model in the recipe's dtype (LLaMA-Factory computes in that of the files, whatever it is told), and
the adapter as the recipe's training begins with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training_task import read_task


def rows_by_step(recipe_file: Path, runs: Path) -> Iterator[dict[str, Any]]:
    """Token ids and labels of the training's examples, one step's after the other's."""
    from datasets import Dataset

    from runner import stages
    from runner.plan import make_plan
    from runner.progress import Progress
    from runner.run_folder import held
    from runner.training.step_schedule import make_schedule

    plan = make_plan(recipe_file, runs=runs, device=None)
    progress = Progress()
    with held(plan.folder):
        stages.start(plan, restart=False, progress=progress)
        data = stages.prepare(plan, progress)
    rows = Dataset.from_parquet(str(data.path("train")))
    lengths = [len(ids) for ids in rows["input_ids"]]
    training = plan.recipe.training
    schedule = make_schedule(
        lengths,
        steps=training.max_steps or 0,
        batch_size=training.batch_size,
        seed=plan.recipe.seed,
    )
    for index in schedule:
        row = rows[index]
        yield {
            "input_ids": row["input_ids"],
            "labels": row["labels"],
            "attention_mask": [1] * len(row["input_ids"]),
        }


def save_model_and_adapter(recipe_file: Path, model: str, adapter: str) -> None:
    """Store the base model, and the adapter as the recipe's training begins with it."""
    from runner.base_model.loaded_model import load_model
    from runner.plan import make_plan
    from runner.training.lora import attach_adapter

    plan = make_plan(recipe_file, runs=Path(adapter), device=None)
    loaded = load_model(plan.recipe, plan.model, device=plan.device)
    loaded.model.save_pretrained(model)
    loaded.tokenizer.save_pretrained(model)
    attach_adapter(loaded.model, plan.recipe.lora, seed=plan.recipe.seed).save_pretrained(adapter)


def main() -> None:
    """Write the rows, the model and the adapter where the task says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    task = read_task(parser.parse_args().task)
    recipe_file = Path(task.recipe)
    with Path(task.rows).open("w", encoding="utf-8") as file:
        for row in rows_by_step(recipe_file, Path(task.work, "runs")):
            file.write(json.dumps(row) + "\n")
    if task.adapter is not None:
        save_model_and_adapter(recipe_file, task.model, task.adapter)


if __name__ == "__main__":
    main()
