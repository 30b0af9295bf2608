"""Trains a task of ``training.py`` with LLaMA-Factory, by the function behind its command.

    python benchmarks/train_with_llamafactory.py task.json report.json [--checkpointing]

Runs in an environment of its own. The rows are stored as the tokenized dataset that its option
``tokenized_path`` reads, and its own shuffling is switched off by its own option.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training_task import Task, read_rows, read_task, run_clocked, step_tokens


def configuration(task: Task, rows: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What a file for ``llamafactory-cli train`` would hold."""
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": task.model,
        "adapter_name_or_path": task.adapter,
        "finetuning_type": "lora",
        "lora_rank": task.rank,
        "lora_alpha": task.alpha,
        "lora_dropout": 0.0,
        "lora_target": ",".join(task.target_modules),
        "template": "empty",
        "dataset": "tokenized",  # a name must be given, and is not looked at
        "tokenized_path": str(rows),
        "disable_shuffling": True,
        "flash_attn": "sdpa",
        "disable_gradient_checkpointing": not options.checkpointing,
        "output_dir": f"{task.work}/output",
        "per_device_train_batch_size": task.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": task.steps,
        "learning_rate": task.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": task.warmup_steps,
        "optim": "adamw_torch",
        "weight_decay": task.weight_decay,
        "max_grad_norm": task.max_grad_norm,
        "seed": task.seed,
        "logging_steps": task.log_every,
        "save_strategy": "no",
        "report_to": "none",
        "plot_loss": False,
        "use_cpu": not task.on_gpu,
        "bf16": task.on_gpu,
    }


def main() -> None:
    """Train, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--checkpointing", action="store_true", help="LLaMA-Factory's default")
    options = parser.parse_args()
    task = read_task(options.task)
    rows = Path(task.work, "tokenized")

    def work() -> None:
        import datasets
        from llamafactory.train.tuner import run_exp

        datasets.Dataset.from_list(read_rows(task)).save_to_disk(rows)
        run_exp(configuration(task, rows, options))

    run_clocked(task, options.report, work, lambda: step_tokens(task))


if __name__ == "__main__":
    main()
