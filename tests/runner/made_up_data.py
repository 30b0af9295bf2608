"""Prepared data that no rows were prepared for: files, listings and the record, made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from runner.data.labels.labelled_rows import UNSUPERVISED
from runner.data.leaks.leak_report import PAIRS_FILE, LeakCount, LeakReport
from runner.data.prepared_data import (
    PROBLEMS_FILE,
    Histogram,
    PreparedData,
    PreparedPartition,
    RuleOutcome,
)

PROBLEM = {
    "row": 0, "place": "", "partition": "train", "rule": "too_long", "outcome": "dropped",
    "detail": "", "tokens": 0, "text": "{}",
}  # fmt: skip
LENGTHS = Histogram(edges=(0, 50, 100), counts=(1, 0))


def example(
    tokenizer: PreTrainedTokenizerBase, row: int, question: str, answer: str
) -> dict[str, Any]:
    """One row of a partition file; nothing of the product made it."""
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(f" {answer}</s>", add_special_tokens=False)["input_ids"]
    return {
        "row": row,
        "input_ids": prompt_ids + answer_ids,
        "labels": [UNSUPERVISED] * len(prompt_ids) + answer_ids,
        "prompt_ids": prompt_ids,
    }


def rule(name: str, policy: str = "drop", *rows: int, **values: Any) -> RuleOutcome:
    fields = {
        "text": f"text of {name}", "rows_checked": 50, "violations": len(rows),
        "dropped": len(rows) if policy in {"drop", "error"} else 0, "first_rows": rows[:5],
        **values,
    }  # fmt: skip
    return RuleOutcome(rule=name, policy=policy, **fields)


def leak(pairs: int, policy: str = "drop_from_train", **values: Any) -> LeakCount:
    fields = {
        "kind": "exact", "by": "prompt", "first": "train", "second": "test", "pairs": pairs,
        "first_rows": pairs, "second_rows": 1, "policy": policy, **values,
    }  # fmt: skip
    return LeakCount(**fields)


def write_prepared(
    folder: Path,
    partitions: dict[str, Sequence[dict[str, Any]]],
    *,
    problems: Sequence[dict[str, Any]] = (),
    pairs: Sequence[dict[str, Any]] = (),
    **values: Any,
) -> PreparedData:
    """Write the files into ``folder``, and give the record of them with ``values``."""
    for name, rows in partitions.items():
        parquet.write_table(pa.Table.from_pylist(list(rows)), folder / f"{name}.parquet")
    _write(folder / PROBLEMS_FILE, [{**PROBLEM, **problem} for problem in problems], PROBLEM)
    sides = {f"{s}_{k}": v for s in ("first", "second") for k, v in
             (("partition", "train"), ("row", 0), ("example_id", "e"), ("text", "t"))}  # fmt: skip
    pair = {"kind": "exact", "by": "prompt", "similarity": 1.0, **sides}
    _write(folder / PAIRS_FILE, [{**pair, **given} for given in pairs], pair)
    kept = sum(map(len, partitions.values()))
    fields = {
        "source_rows": 50, "rows_kept": kept, "format": "alpaca", "format_detected": True,
        "rules": (rule("stop_token", "error"), rule("too_long")),
        "leaks": LeakReport(compared={}, leaked={}, listed=len(pairs)),
        "notes": (), **values,
    }  # fmt: skip
    return PreparedData(
        folder=str(folder), key="k", partitions={n: _part(n, r) for n, r in partitions.items()},
        shares=Histogram(edges=tuple(range(0, 101, 5)), counts=(0,) * 10 + (kept,) + (0,) * 9),
        data_digest="d" * 64, template_digest="t" * 64, chat_template="", stop_token="</s>",
        stop_token_ids=(2,), bos_token="<s>", thinking=None, answer_marker="", example=(), **fields,
    )  # fmt: skip


def _write(path: Path, rows: Sequence[dict[str, Any]], columns: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([*rows, columns])
    parquet.write_table(table.slice(0, len(rows)), path)


def _part(name: str, rows: Sequence[dict[str, Any]]) -> PreparedPartition:
    tokens = sum(len(row["input_ids"]) for row in rows)
    return PreparedPartition(
        file=f"{name}.parquet", sha256="s", rows=len(rows), tokens=tokens,
        supervised_tokens=tokens // 2, digest="m" * 64, longest=tokens, lengths=LENGTHS,
    )  # fmt: skip
