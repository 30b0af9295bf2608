"""What the training benchmark trains: the quickstart's model on a CPU, Mistral-7B's shape on a GPU.

The settings are the notebook's that recipes/mistral-7b-gptq-code.yaml was made from, with dropout
and NEFTune off, so that every trainer must come to the same losses.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training_task import SHAPE_7B, Task

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parent / "recipes" / "quickstart"
SEED = 42
PROJECTIONS = ("q_proj", "v_proj")
ALL_LINEAR = (*PROJECTIONS, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Rows of the 7B's benchmark: mean 175 tokens, median 146, as those of 18,000 Python instructions.
MEDIAN, SPREAD, SHORTEST, LONGEST = 4.984, 0.602, 16, 934
PROMPT, VOCABULARY = 0.4, 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A training of ``steps`` steps with ``batch_size`` examples each, and its warming steps."""

    name: str
    batch_size: int
    steps: int
    warming_steps: int
    target_modules: tuple[str, ...] = PROJECTIONS
    log_every: int = 1


def notebook_recipe(setting: Setting) -> dict[str, Any]:
    """The quickstart's rows and model with the notebook's LoRA and training."""
    return {
        "version": 1,
        "name": "benchmark-" + setting.name.replace(", ", "-").replace(" ", "-"),
        "seed": SEED,
        "dataset": {
            "source": str(QUICKSTART / "functions.jsonl"),
            "format": "alpaca",
            "partition": {"by": "position", "train": 0.8, "validation": 0.1, "test": 0.1},
        },
        "template": {"chat": "tokenizer", "loss_on": "completion", "max_length": 256},
        "model": {"base": str(QUICKSTART / "model"), "dtype": "float32", "pad_token": "<unk>"},
        "lora": {
            "r": 32,
            "alpha": 16,
            "dropout": 0.0,
            "target_modules": list(setting.target_modules),
        },
        "training": {
            "max_steps": setting.steps,
            "batch_size": setting.batch_size,
            "learning_rate": 3e-4,
            "schedule": "cosine",
            "warmup_ratio": 0.05,
            "weight_decay": 1e-3,
            "max_grad_norm": 0.3,
            "log_every": setting.log_every,
            "checkpoint_every": setting.steps,  # after the last step: the clock has stopped
        },
        "evaluation": {"loss": ["test"]},
        "gates": [],
    }


def make_task(setting: Setting, recipe: Mapping[str, Any], folder: Path, *, device: str) -> Task:
    """The task of a recipe, which is written to ``folder``, without its rows."""
    folder.mkdir(parents=True)
    recipe_file = folder / "recipe.json"
    recipe_file.write_text(json.dumps(recipe), encoding="utf-8")
    training, lora = recipe["training"], recipe["lora"]
    on_gpu = device == "cuda"
    return Task(
        recipe=str(recipe_file),
        model=SHAPE_7B if on_gpu else str(folder / "model"),
        tokenizer=str(QUICKSTART / "model"),
        rows=str(folder / "rows.jsonl"),
        adapter=None if on_gpu else str(folder / "first-adapter"),
        work=str(folder),
        steps=setting.steps,
        warming_steps=setting.warming_steps,
        batch_size=setting.batch_size,
        learning_rate=training["learning_rate"],
        warmup_ratio=training["warmup_ratio"],
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_grad_norm"],
        rank=lora["r"],
        alpha=lora["alpha"],
        target_modules=tuple(lora["target_modules"]),
        seed=recipe["seed"],
        dtype=recipe["model"]["dtype"],
        device=device,
        log_every=setting.log_every,
    )


def quickstart_task(setting: Setting, folder: Path) -> Task:
    """The quickstart's model on a CPU: rows and first adapter are the recipe's own."""
    task = make_task(setting, notebook_recipe(setting), folder, device="cpu")
    path = folder / "task.json"
    task.save(path)
    done = subprocess.run(
        [sys.executable, str(HERE / "training_order.py"), str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"training_order.py failed:\n{done.stderr[-3000:]}")
    return task


def shape_task(setting: Setting, folder: Path) -> Task:
    """Mistral-7B's shape on a GPU, on rows of random tokens."""
    recipe = notebook_recipe(setting)
    recipe["model"]["dtype"] = "bfloat16"
    recipe["template"]["max_length"] = LONGEST
    # `auto` would not compile for so few steps: what a long run comes to is measured.
    recipe["hardware"] = {"device": "cuda", "compile": True}
    task = make_task(setting, recipe, folder, device="cuda")
    write_random_rows(task)
    task.save(folder / "task.json")
    return task


def write_random_rows(task: Task) -> None:
    """Rows of log-normal lengths, in the order in which proofbox's schedule will take them."""
    sys.path.insert(0, str(HERE.parent))
    from runner.training.step_schedule import make_schedule

    chosen = random.Random(SEED)
    rows = [_random_row(chosen, index) for index in range(task.steps * task.batch_size)]
    lengths = [len(row["input_ids"]) for row in rows]
    order = make_schedule(lengths, steps=task.steps, batch_size=task.batch_size, seed=task.seed)
    with Path(task.rows).open("w", encoding="utf-8") as file:
        for index in order:
            file.write(json.dumps(rows[index]) + "\n")


def _random_row(chosen: random.Random, index: int) -> dict[str, Any]:
    length = min(LONGEST, max(SHORTEST, round(chosen.lognormvariate(MEDIAN, SPREAD))))
    tokens = [chosen.randrange(10, VOCABULARY) for _ in range(length)]
    prompt = round(PROMPT * length)
    labels = [-100] * prompt + tokens[prompt:]
    return {"index": index, "input_ids": tokens, "labels": labels, "attention_mask": [1] * length}


def in_folder(task: Task, folder: Path) -> Task:
    """The same task with a work folder of its own, for one process."""
    folder.mkdir(parents=True)
    return replace(task, work=str(folder))
