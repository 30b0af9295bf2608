"""Trains a task of ``training.py`` with TRL's ``SFTTrainer``, untouched.

    python benchmarks/train_with_trl.py task.json report.json [--checkpointing] [--grouped]
        [--packed LENGTH] [--micro 4] [--liger]

Runs in an environment of its own. The rows are token ids and labels already, which TRL takes as
they are; ``--packed`` is its packing ``bfd`` to that many tokens, whose steps hold as many tokens
on average as the recipe's, not the same rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from training_task import Task, make_model, read_rows, read_task, run_clocked


def make_trainer(task: Task, options: argparse.Namespace) -> Any:  # noqa: ANN401 - TRL's own
    """A trainer for the task, as TRL's documentation would have it."""
    import datasets
    from peft import LoraConfig, PeftModel
    from transformers import AutoTokenizer, set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    columns = ["input_ids", "labels"]
    rows = datasets.Dataset.from_list([{c: row[c] for c in columns} for row in read_rows(task)])
    model = make_model(task)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=task.rank,
        lora_alpha=cast(int, task.alpha),  # PEFT takes fractions too
        lora_dropout=0.0,
        target_modules=list(task.target_modules),
    )
    set_seed(task.seed)  # as proofbox before it makes an adapter
    if task.adapter is not None:
        model = PeftModel.from_pretrained(model, task.adapter, is_trainable=True)
    return SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(task, options)),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(task.tokenizer, pad_token="<unk>"),
        peft_config=config if task.adapter is None else None,
    )


def arguments(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """TRL's own names for what the task and the command line say."""
    micro = options.micro or task.batch_size
    packing = {"packing": True, "packing_strategy": "bfd", "max_length": options.packed}
    return {
        "output_dir": f"{task.work}/output",
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": options.accumulate or task.batch_size // micro,
        "max_steps": -1 if options.packed else task.steps,
        "num_train_epochs": 1,
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
        "use_cpu": not task.on_gpu,
        "bf16": task.on_gpu,
        "use_liger_kernel": options.liger,
        "gradient_checkpointing": options.checkpointing,
        "train_sampling_strategy": "group_by_length" if options.grouped else "sequential",
        **(packing if options.packed else {"max_length": None}),
    }


def main() -> None:
    """Train, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--checkpointing", action="store_true", help="TRL's default")
    parser.add_argument("--grouped", action="store_true", help="batches of rows of like length")
    parser.add_argument("--packed", type=int, help="tokens of a packed row")
    parser.add_argument("--micro", type=int, help="rows of a batch")
    parser.add_argument("--accumulate", type=int, help="batches of a step")
    parser.add_argument("--liger", action="store_true", help="Liger's kernels")
    options = parser.parse_args()
    task = read_task(options.task)
    run_clocked(task, options.report, lambda: train(task, options))


def train(task: Task, options: argparse.Namespace) -> None:
    """Train the task."""
    make_trainer(task, options).train()


if __name__ == "__main__":
    main()
