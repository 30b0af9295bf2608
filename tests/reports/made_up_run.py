"""A finished run that no model was needed for: every record of a run folder, made up."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.evidence import gather_evidence
from evalsuite.examples import Example
from evalsuite.figures import GENERATION
from evalsuite.gates import judge
from evalsuite.generation import Answer
from evalsuite.loss import ExampleLoss
from evalsuite.record_files import write_evidence, write_verdict
from evalsuite.records import Gate, Identity
from evalsuite.results import write_loss, write_task

HOSTILE = (
    "</script><script>alert(1)</script>",
    '<img src="https://example.org/x.png" onerror="alert(1)">',
    "\x1b[31mred\x1b[0m \x07 and \x00 nothing",
    "safe\u202etxt.exe\u2066 \u200bhidden",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 20_000,
    "<style>body{display:none}</style>" + "a\u0301\u0301\u0301" * 50,
    "half a character \ufffd",
)
VERBS = ("filters", "maps", "reduces", "sorts", "counts", "joins")
NOUNS = ("numbers", "words", "pairs", "prices", "names", "scores")
TASK = "test-functions"


@dataclass
class RunSpec:
    """What a made-up run is to show; ``gain`` is how far the adapter's loss falls (nats)."""

    run_id: str = "4be1c07a92d3"
    name: str = "quickstart"
    seed: int = 7
    examples: int = 240
    base_rate: float = 0.04
    adapter_rate: float = 0.82
    gain: float = 1.35
    learning_rate: float = 3e-4
    rank: int = 16
    answers: Sequence[str] = ()
    data_digest: str = "d" * 64
    examples_digest: str = "e" * 64
    base: bool = True
    tokens_seed: int = 1
    code_version: str = "1"
    max_new_tokens: int = 128
    recipe_seed: int = 42
    gates: tuple[Gate, ...] = (
        Gate(metric="test.loss", claim="superior", margin=0.05),
        Gate(metric=f"{TASK}.tests_passed", claim="floor", at=0.5),
        Gate(metric=f"{TASK}.rougeL", claim="non_inferior", margin=0.02),
    )
    decisions: tuple[str, ...] = (
        "optimizer paged_adamw_32bit needs CUDA; adamw is used instead",
        "model read from /home/alice/secret/models/tiny",
    )
    recipe: dict[str, Any] = field(default_factory=dict)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_run(folder: Path, spec: RunSpec) -> None:
    folder.mkdir(parents=True)
    recipe = recipe_of(spec)
    (folder / "recipe.yaml").write_text(recipe_text(spec), encoding="utf-8")
    dump(folder / "lock.json", lock_of(spec, recipe))
    dump(folder / "data.json", data_of(spec))
    write_listings(folder / "listings")
    dump(folder / "training.json", training_of(spec))
    dump(
        folder / "timings.json",
        {"train": 96.4, "prepare": 3.21, "evaluate base": 31.7, "evaluate adapter": 36.2,
         "report": 0.8},
    )  # fmt: skip
    write_evaluation(folder / "evaluation", spec)
    evidence = gather_evidence(
        folder=folder / "evaluation",
        base=spec.base,
        identity=Identity(
            data_digest=spec.data_digest,
            template_digest="t" * 64,
            examples_digest=spec.examples_digest,
            decoding_digest="c" * 64,
            code_version=spec.code_version,
        ),
        base_digest=digest("base"),
        adapter_digest=digest(spec.run_id),
    )
    write_evidence(evidence, folder / "evidence.json")
    write_verdict(judge(spec.gates, evidence), folder / "verdict.json")


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1), encoding="utf-8")


def recipe_of(spec: RunSpec) -> dict[str, Any]:
    return {
        "version": 1,
        "name": spec.name,
        "description": "LoRA on the embedded model for small Python functions",
        "seed": spec.recipe_seed,
        "dataset": {"source": ["/home/alice/data/functions.jsonl"], "split": "train"},
        "model": {"base": "/home/alice/secret/models/tiny", "dtype": "auto"},
        "lora": {"r": spec.rank, "alpha": 32.0, "target_modules": ["q_proj", "v_proj"]},
        "training": {"max_steps": 300, "learning_rate": spec.learning_rate, "batch_size": 16},
        **spec.recipe,
    }


def recipe_text(spec: RunSpec) -> str:
    return f"""\
# LoRA on the embedded model: finishes in minutes on a laptop's CPU.
version: 1
name: {spec.name}
description: LoRA on the embedded model for small Python functions
seed: 42

dataset:
  source: [/home/alice/data/functions.jsonl]
  partition: {{by: hash, train: 0.84, validation: 0.08, test: 0.08}}

model:
  base: /home/alice/secret/models/tiny

lora:
  r: {spec.rank}
  alpha: 32
  target_modules: [q_proj, v_proj]

training:
  max_steps: 300
  batch_size: 16
  learning_rate: {spec.learning_rate}
  schedule: cosine

evaluation:
  loss: [validation, test]
  generation:
    - name: {TASK}
      metrics: [tests_passed, python_syntax, exact_match, rouge, chrf]
  samples:
    - Write a function that adds two numbers. Do not print(</pre>).
"""


def lock_of(spec: RunSpec, recipe: dict[str, Any]) -> dict[str, Any]:
    return {
        "proofbox": "0.1.0",
        "recipe": recipe,
        "recipe_digest": digest(json.dumps(recipe, sort_keys=True)),
        "run_id": spec.run_id,
        "code_digest": digest("code"),
        "data": {
            "digest": spec.data_digest,
            "files": [{"name": "functions.jsonl", "sha256": digest("f"), "bytes": 1_482_113}],
            "revision": None,
        },
        "model": {
            "name": "quickstart/model",
            "digest": digest("base"),
            "revision": None,
            "parameters": 3_702_016,
            "architecture": "MistralForCausalLM",
        },
        "versions": {
            "proofbox": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2",
            "trl": "1.16.0", "datasets": "5.2.0", "evaluate": "0.4.6", "sacrebleu": "2.6.0",
        },
        "hardware": {
            "device": "cpu", "cpu_count": 2, "threads": 2, "platform": "Linux x86_64",
            "python": "3.11.2",
        },
        "seed": spec.recipe_seed,
        "decisions": [],
    }  # fmt: skip


def data_of(spec: RunSpec) -> dict[str, Any]:
    chance = random.Random(11)
    partitions = {}
    for name, rows in (("train", 2520), ("validation", spec.examples), ("test", spec.examples)):
        lengths = [min(256, int(chance.lognormvariate(4.6, 0.32))) for _ in range(rows)]
        edges = list(range(0, 273, 16))
        counts = [sum(low <= n < low + 16 for n in lengths) for low in edges[:-1]]
        partitions[name] = {
            "rows": rows,
            "tokens": sum(lengths),
            "supervised_tokens": int(sum(lengths) * 0.58),
            "digest": digest(name),
            "longest": max(lengths),
            "lengths": {"edges": edges, "counts": counts},
        }
    texts = [("<s>", False), ("[INST]", False)]
    texts += [(word, False) for word in ("Write", "a", "function", "that", "adds", "two", "ints.")]
    texts += [("[/INST]", False)]
    texts += [(part, True) for part in ("def", " add", "(a,", " b):", "\n   ", " return", " a + b")]
    return {
        "partitions": partitions,
        "source_rows": 2520 + 2 * spec.examples + 2,
        "rows_kept": 2520 + 2 * spec.examples,
        "format": "alpaca",
        "format_detected": True,
        "rules": [
            rule("unusable_row", "is a conversation that ends with an answer", "drop", 904),
            rule("no_supervised_token", "some token is supervised", "error"),
            rule("stop_token", "the stop token is supervised", "error"),
            rule("empty_answer", "the answer has a visible character", "warn"),
            rule("too_long", "is at most 256 tokens long", "drop", 17),
        ],
        "leaks": {
            "counts": [],
            "compared": {"train": 2520, "validation": spec.examples, "test": spec.examples},
            "dropped": 0,
            "listed": 0,
            "leaked": {},
            "unsettled": {},
        },
        "shares": {
            "edges": list(range(0, 101, 5)),
            "counts": [0] * 9 + [700, 1500, 2520 + 2 * spec.examples - 2200] + [0] * 8,
        },
        "notes": ["rows with an answer whose outer white space the chat template trims: 4"],
        "template_digest": "t" * 64,
        "stop_token": "</s>",
        "stop_token_ids": [2],
        "bos_token": "<s>",
        "example": {
            "tokens": [
                *({"text": f" {t}" if i > 2 and not s and t[0] != "[" else t, "supervised": s}
                  for i, (t, s) in enumerate(texts)),
                {"text": "</s>", "supervised": True},
            ]
        },
    }  # fmt: skip


def rule(name: str, text: str, policy: str, *rows: int) -> dict[str, Any]:
    return {
        "rule": name,
        "text": text,
        "policy": policy,
        "rows_checked": 3000,
        "violations": len(rows),
        "dropped": len(rows) if policy == "drop" else 0,
        "first_rows": list(rows),
    }


def write_listings(folder: Path) -> None:
    """The rows that ``data.json`` counts as broken, one by one."""
    folder.mkdir()
    write_problems(
        folder,
        [
            problem(17, "train", "too_long", "dropped", detail="2,310 tokens", tokens=2310),
            problem(904, "train", "unusable_row", "dropped", detail="no answer"),
        ],
    )


def problem(row: int, partition: str, rule: str, outcome: str, **values: Any) -> dict[str, Any]:
    return {
        "row": row,
        "place": f"functions.jsonl:{row + 1}",
        "partition": partition,
        "rule": rule,
        "outcome": outcome,
        "detail": "",
        "tokens": 0,
        "text": json.dumps({"instruction": f"row {row}", "output": ""}),
        **values,
    }


def write_problems(folder: Path, problems: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"row": pa.int64(), "tokens": pa.int64()}
    names = ("row", "place", "partition", "rule", "outcome", "detail", "tokens", "text")
    columns = {n: pa.array([p[n] for p in problems], kinds.get(n, pa.string())) for n in names}
    parquet.write_table(pa.table(columns), folder / "problems.parquet")


def training_of(spec: RunSpec) -> dict[str, Any]:
    chance = random.Random(spec.seed)
    end = 1.74 - spec.gain
    history = [
        {
            "step": step,
            "loss": end + spec.gain * 2.718 ** (-step / 45) + chance.gauss(0, 0.03),
            "learning_rate": spec.learning_rate * (1 - step / 310),
            "tokens_per_second": 5200 + chance.gauss(0, 120),
            "padding": 0.12,
            "supervised": 0.58,
            "peak_memory_bytes": 941_203_456,
        }
        for step in range(5, 301, 5)
    ]
    return {
        "steps": 300,
        "examples_per_step": 16,
        "epochs": 1.905,
        "history": history,
        "validation": [
            {"step": step, "loss": end + 0.03 + spec.gain * 2.718 ** (-step / 45)}
            for step in (50, 100, 150, 200, 250, 300)
        ],
        "seconds": 94.2,
        "tokens": 489_600,
        "tokens_per_second": 5197.5,
        "wall_seconds": 101.3,
        "padding": 0.12,
        "supervised": 0.58,
        "utilization": None,
        "micro_batch_tokens": 2048,
        "dtype": "float32",
        "peak_memory_bytes": 941_203_456,
        "trainable_parameters": 122_880,
        "total_parameters": 3_824_896,
        "adapter_digest": digest(spec.run_id),
        "target_modules": [
            f"model.layers.{layer}.self_attn.{name}"
            for layer in range(5)
            for name in ("q_proj", "v_proj")
        ],
        "resumed_from": [],
        "decisions": list(spec.decisions),
    }


def write_evaluation(folder: Path, spec: RunSpec) -> None:
    for subject in ("base", "adapter") if spec.base else ("adapter",):
        losses = {
            name: [loss_of(subject, name, i, spec) for i in range(spec.examples)]
            for name in ("validation", "test")
        }
        (folder / subject).mkdir(parents=True)
        write_loss(folder / subject / "loss.parquet", losses)
        write_answers(folder / subject / f"{TASK}.parquet", subject, spec)
        asked = "Write a function that adds two numbers. Do not print(</pre>)."
        answer = "def add(a, b):\n    return a + b" if subject == "adapter" else "def f f f f f"
        dump(folder / subject / "samples.json", [{"prompt": asked, "prediction": answer}])


def loss_of(subject: str, partition: str, index: int, spec: RunSpec) -> ExampleLoss:
    shared = random.Random(f"{partition} {index} {spec.tokens_seed}")
    own = random.Random(f"{subject} {partition} {index} {spec.seed}")
    tokens = shared.randint(18, 90)
    base = max(0.6, shared.gauss(1.74, 0.22))
    mean = base
    if subject == "adapter":
        mean = max(0.03, base - spec.gain + own.gauss(0, 0.12))
    return ExampleLoss(
        example_id=f"{partition}-{index:04d}",
        row=2520 + index + (spec.examples if partition == "test" else 0),
        nll=mean * tokens,
        tokens=tokens,
        bytes=tokens * 3,
        correct=round(tokens * 2.718 ** (-mean * 0.5)),
    )


def write_answers(path: Path, subject: str, spec: RunSpec) -> None:
    examples, answers = [], []
    scores: dict[str, list[float]] = {
        name: []
        for name in ("tests_passed", "python_syntax", "exact_match", "rouge1", "rougeL", "chrf")
    }
    statistics = []
    for index in range(spec.examples):
        shared = random.Random(f"task {index}")
        own = random.Random(f"{subject} {index} {spec.seed}")
        verb, noun = shared.choice(VERBS), shared.choice(NOUNS)
        reference = (
            f"def {verb}_{noun}(items, limit={shared.randint(2, 90)}):\n"
            f'    """{verb.capitalize()} the {noun}."""\n'
            f"    return [item for item in items if item % {shared.randint(2, 9)}]"
        )
        rate = spec.adapter_rate if subject == "adapter" else spec.base_rate
        passed = own.random() < rate
        text = reference if passed else f"def {verb} {noun}:\n    return return return"
        if subject == "adapter" and index < len(spec.answers):
            text, passed = spec.answers[index], False
        examples.append(
            Example(
                example_id=f"task-{index:04d}",
                row=2760 + index,
                input_ids=(1, 2),
                labels=(-100, 2),
                prompt_ids=(1,),
                prompt=f"<s>[INST] Write a function that {verb} {noun}, and say why: "
                f"case {index} of the set. [/INST]",
                answer=reference,
                supervised_bytes=len(reference),
                tests="",
            )
        )
        answers.append(
            Answer(
                text=text, token_ids=tuple(range(len(text) // 4)), finished=passed or index % 3 > 0
            )
        )
        close = 1.0 if passed else own.uniform(0.1, 0.6)
        exact = float(passed and own.random() < 0.6)
        row = (float(passed), float(passed or own.random() < 0.3), exact, close, close * 0.97,
               100 * close)  # fmt: skip
        for name, value in zip(scores, row, strict=True):
            scores[name].append(value)
        size = 60.0
        statistics.append([size, size, size * close] * 6)
    write_task(
        path,
        examples,
        answers,
        figures={name: GENERATION[name] for name in scores},
        scores=scores,
        statistics={"chrf": statistics},
        conditions={"decoding": {"max_new_tokens": spec.max_new_tokens}},
    )
