"""Trains a task of ``training.py`` with axolotl, by the function behind ``axolotl train``.

    python benchmarks/train_with_axolotl.py task.json report.json [--checkpointing]

Runs in an environment of its own. The rows are a dataset that is tokenized already, which axolotl
takes as it is, and its own options keep them in their order.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training_task import Task, read_task, run_clocked, step_tokens


def configuration(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """What a file for ``axolotl train`` would hold."""
    return {
        "base_model": task.model,
        "tokenizer_type": "AutoTokenizer",
        "special_tokens": {"pad_token": "<unk>"},
        "datasets": [{"path": task.rows, "ds_type": "json", "type": None}],
        "dataset_prepared_path": f"{task.work}/prepared",
        "dataset_num_proc": 1,
        "shuffle_merged_datasets": False,
        "curriculum_sampling": True,
        "val_set_size": 0,
        "sequence_len": 2048,
        "sample_packing": False,
        "adapter": "lora",
        "lora_model_dir": task.adapter,
        "lora_r": task.rank,
        "lora_alpha": task.alpha,
        "lora_dropout": 0.0,
        "lora_target_modules": list(task.target_modules),
        "attn_implementation": "sdpa",
        "gradient_checkpointing": options.checkpointing,
        "output_dir": f"{task.work}/output",
        "micro_batch_size": task.batch_size,
        "gradient_accumulation_steps": 1,
        "max_steps": task.steps,
        "learning_rate": task.learning_rate,
        "lr_scheduler": "cosine",
        "warmup_steps": task.warmup_steps,
        "optimizer": "adamw_torch",
        "weight_decay": task.weight_decay,
        "max_grad_norm": task.max_grad_norm,
        "seed": task.seed,
        "logging_steps": task.log_every,
        "save_strategy": "no",
        "bf16": task.on_gpu,
        "fp16": False,
        "tf32": False,
    }


def main() -> None:
    """Train, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--checkpointing", action="store_true", help="less memory, slower")
    options = parser.parse_args()
    task = read_task(options.task)
    file = Path(task.work, "axolotl.yml")
    file.write_text(json.dumps(configuration(task, options)), encoding="utf-8")  # JSON is YAML

    def work() -> None:
        from axolotl.cli.train import do_cli

        do_cli(str(file))

    run_clocked(task, options.report, work, lambda: step_tokens(task))


if __name__ == "__main__":
    main()
