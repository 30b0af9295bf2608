"""Prepares rows as TRL's ``SFTTrainer`` does, until the trainer is there and could train.

    python benchmarks/prepare_with_trl.py rows.jsonl model-folder report.json [--processes 2]

Runs in an environment of its own (see ``data_preparation.py``). The rows are read by ``datasets``,
made conversational prompts and completions, as TRL's documentation shows for such columns, and
given to an ``SFTTrainer`` with a loss on the completion alone. The report says what the first of
these steps took of the whole, and where the tokens are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


def conversational(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    """A row's prompt and completion as lists of messages."""
    user = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
    return {
        "prompt": [{"role": "user", "content": user}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }


def main() -> None:
    """Prepare the rows, and say what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    import datasets
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    started = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=str(options.rows), split="train")
    read = time.perf_counter()
    rows = rows.map(
        conversational, remove_columns=rows.column_names, num_proc=options.processes
    )  # fmt: skip
    made = time.perf_counter()
    trainer = SFTTrainer(
        model=str(options.model),
        args=SFTConfig(
            output_dir=str(options.report.parent / "trl-output"),
            completion_only_loss=True,
            max_length=2048,
            dataset_num_proc=options.processes,
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(options.model),
    )
    prepared = trainer.train_dataset
    assert isinstance(prepared, datasets.Dataset)
    report = {
        "seconds": {
            "read": round(read - started, 2),
            "made conversational": round(made - read, 2),
            "SFTTrainer": round(time.perf_counter() - made, 2),
        },
        "rows": len(prepared),
        "files": [file["filename"] for file in prepared.cache_files],
    }
    options.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
