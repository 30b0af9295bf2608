"""One subject evaluated end to end with the tiny model of `tests/conftest.py`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.catalogue import FIGURES
from evalsuite.errors import EvaluationError, EvidenceError
from evalsuite.evaluation import evaluate_subject
from evalsuite.evidence import gather_evidence
from evalsuite.examples import Example
from evalsuite.gates import judge
from evalsuite.loss_evaluation import recorded_losses
from evalsuite.records import (
    CodeExecution,
    Decoding,
    EvaluationSpec,
    Extraction,
    Gate,
    GenerationTask,
    Identity,
    MetricSpec,
)


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture
def partition(tmp_path: Path, tokenizer: Any) -> Path:
    examples = []
    for number in range(12):
        prompt, answer = f"[INST] Add {number}. [/INST]", f"def f(x):\n    return x + {number}"
        before = [tokenizer.bos_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
        after = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
        examples.append(
            Example(
                example_id=f"e{number}", row=number, input_ids=(*before, *after),
                labels=(*(-100 for _ in before), *after), prompt_ids=tuple(before), prompt=prompt,
                answer=answer, supervised_bytes=len(answer), tests=f"assert f(1) == {number + 1}",
            )
        )  # fmt: skip
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist([asdict(example) for example in examples]), path)
    return path


@pytest.fixture
def spec(tokenizer: Any) -> EvaluationSpec:
    return EvaluationSpec(
        loss=("test",),
        generation=(
            GenerationTask(
                name="answers",
                data="test",
                decoding=Decoding(max_new_tokens=6),
                metrics=("exact_match", "rouge", "chrf", "python_syntax", "tests_passed"),
                limit=7,
            ),
        ),
        samples=(("Add 1.", (1, 40, 41)),),
        sample_decoding=Decoding(max_new_tokens=4),
        stop_token_ids=(tokenizer.eos_token_id,),
        pad_token_id=tokenizer.pad_token_id,
        seed=0,
        batch_tokens=400,
        code_execution=CodeExecution(backend="subprocess"),
    )


def run(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, folder: Path, **more: Any
) -> None:
    evaluate_subject(
        subject="base", model=model, tokenizer=tokenizer, partitions={"test": partition},
        spec=spec, folder=folder, **more,
    )  # fmt: skip


def test_everything_is_stored(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation" / "base"
    seen: list[tuple[str, int, int]] = []
    run(model, tokenizer, partition, spec, folder, on_progress=lambda *step: seen.append(step))
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.parquet", "loss.parquet", "samples.json", "summary.json",
    ]  # fmt: skip
    assert {label: done for label, done, _ in seen} == {"test loss": 12, "answers": 7, "samples": 1}
    assert all(done <= total for _, done, total in seen)

    answers = pq.read_table(folder / "answers.parquet").to_pylist()
    assert len(answers) == 7
    assert answers[3]["example_id"] == "e3"
    assert answers[3]["reference"] == "def f(x):\n    return x + 3"
    assert answers[3]["new_tokens"] == len(answers[3]["token_ids"]) <= 6
    assert {"rouge1", "rougeLsum", "chrf", "tests_passed"} <= answers[3].keys()

    samples = json.loads((folder / "samples.json").read_text())
    assert samples[0]["prompt"] == "Add 1." and isinstance(samples[0]["prediction"], str)

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["subject"] == "base"
    assert summary["loss"]["test"]["tokens_per_second"] > 0
    task = summary["generation"]["answers"]
    assert task["code_execution"].startswith("subprocess (unsafe: limits only), Python 3.")
    assert task["metrics"]["chrf"].startswith("chrF2|")
    assert task["new_tokens"] == sum(answer["new_tokens"] for answer in answers)
    assert task["new_tokens_per_second"] > 0
    assert set(task["figures"]) == {f for name in spec.generation[0].metrics for f in FIGURES[name]}

    recorded = recorded_losses(folder, "test")
    assert len(recorded) == 12
    mean = sum(recorded.values()) / summary["loss"]["test"]["supervised_tokens"]
    assert mean == pytest.approx(summary["loss"]["test"]["loss"])
    assert 0 < mean < 2 * math.log(300)
    with pytest.raises(EvidenceError, match="holds no losses of 'validation', only of test"):
        recorded_losses(folder, "validation")


def test_from_model_to_verdict(
    model: Any,
    tokenizer: Any,
    partition: Path,
    spec: EvaluationSpec,
    tmp_path: Path,
    identity: Identity,
) -> None:
    """An adapter that changes nothing passes no claim to be better, at any batch size."""
    run(model, tokenizer, partition, spec, tmp_path / "base")
    run(model, tokenizer, partition, replace(spec, batch_tokens=90), tmp_path / "adapter")
    evidence = gather_evidence(
        folder=tmp_path, base=True, identity=identity, base_digest="b", adapter_digest="a"
    )
    verdict = judge(
        [
            Gate(metric="test.loss", claim="superior", margin=0.001),
            Gate(metric="answers.tests_passed", claim="floor", at=0.5),
            Gate(metric="answers.exact_match", claim="non_inferior", margin=0.02),
            Gate(metric="answers.rouge3", claim="non_inferior", margin=0.02),
            Gate(metric="test.loss", claim="non_inferior", margin=0.001),
        ],
        evidence,
    )
    assert [g.verdict for g in verdict.gates] == ["FAIL", "FAIL", "INCONCLUSIVE", "ERROR", "PASS"]


def test_an_unprepared_partition(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="partition 'train' is not prepared; there are test"):
        run(model, tokenizer, partition, replace(spec, loss=("train",)), tmp_path / "base")


@pytest.mark.parametrize("name", ["loss", "a/b", "answers"])
def test_tasks_that_would_overwrite_results(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path, name: str
) -> None:
    twice = (*spec.generation, replace(spec.generation[0], name=name))
    with pytest.raises(EvaluationError, match=f"generation task '{name}'"):
        run(model, tokenizer, partition, replace(spec, generation=twice), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_an_interrupted_evaluation_has_no_summary(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    def stop(label: str, done: int, total: int) -> None:
        if label == "answers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, tokenizer, partition, spec, tmp_path / "base", on_progress=stop)
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["loss.parquet"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"extract_reference": Extraction(regex="####")}, "finds nothing in the reference"),
        ({"metrics": ("exact_match", "no_metric")}, "'no_metric' is not known"),
        ({"metrics": ("tests_passed",)}, "has no tests"),
        ({"metrics": (MetricSpec(name="tests_passed", renamed="right"),)}, "has no tests"),
        ({"metrics": ("rouge",)}, "the letters a to z alone"),
    ],
)
def test_what_cannot_be_scored_is_told_before_anything_is_answered(
    model: Any,
    tokenizer: Any,
    partition: Path,
    spec: EvaluationSpec,
    tmp_path: Path,
    changes: dict[str, Any],
    told: str,
) -> None:
    rows = [{**row, "tests": "", "answer": "сумма"} for row in pq.read_table(partition).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), partition)
    task = replace(spec.generation[0], **{"metrics": ("exact_match",), **changes})
    answered: list[str] = []
    with pytest.raises(EvaluationError, match=told):
        run(
            model, tokenizer, partition, replace(spec, loss=(), generation=(task,)), tmp_path,
            on_progress=lambda what, *_: answered.append(what),
        )  # fmt: skip
    assert not answered


def test_several_answers_are_stored_example_by_example(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    drawn = replace(
        spec.generation[0],
        decoding=Decoding(max_new_tokens=6, do_sample=True),
        metrics=("exact_match", "chrf"),
        answers_per_prompt=3,
        limit=4,
    )
    run(model, tokenizer, partition, replace(spec, generation=(drawn,)), tmp_path / "base")
    stored = pq.read_table(tmp_path / "base" / "answers.parquet").to_pylist()
    named = [(row["example_id"], row["answer_number"]) for row in stored]
    assert named == [(f"e{example}", number) for example in range(4) for number in range(3)]
    assert len({tuple(row["token_ids"]) for row in stored}) > 6, "they are drawn each for itself"
    summary = json.loads((tmp_path / "base" / "summary.json").read_text())["generation"]["answers"]
    assert (summary["examples"], summary["answers"]) == (4, 12)


def test_stop_strings_and_unfinished_thinking_are_told(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    task = replace(spec.generation[0], metrics=("exact_match",))
    run(model, tokenizer, partition, replace(spec, generation=(task,)), tmp_path / "free")
    free = pq.read_table(tmp_path / "free" / "answers.parquet").to_pylist()
    letter = free[0]["answer"][2]
    stopped = replace(task, stop=(letter,))
    thinking = replace(spec, generation=(stopped,), answer_marker="</never-written>")
    for folder, changed in (("stopped", replace(spec, generation=(stopped,))), ("cut", thinking)):
        run(model, tokenizer, partition, changed, tmp_path / folder)
    rows = pq.read_table(tmp_path / "stopped" / "answers.parquet").to_pylist()
    assert [row["answer"] for row in rows] == [r["answer"].partition(letter)[0] for r in free]
    assert rows[0]["finished"] and rows[0]["new_tokens"] < 6
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())["generation"]["answers"]
    rows = pq.read_table(tmp_path / "cut" / "answers.parquet").to_pylist()
    cut = [row["unfinished_thinking"] for row in rows]
    assert summary["unfinished_thinking"] == sum(cut) > 0
    assert {row["answer"] for row in rows if row["unfinished_thinking"]} == {""}


def test_an_interrupted_evaluation_goes_on_with_the_kept_answers(
    model: Any, tokenizer: Any, partition: Path, spec: EvaluationSpec, tmp_path: Path
) -> None:
    """Two prompts in a batch; the process dies when four answers are there."""
    small = replace(spec, generation_tokens=60)
    run(model, tokenizer, partition, small, tmp_path / "whole")
    partial = tmp_path / "partial"

    def die(label: str, done: int, total: int) -> None:
        if label == "answers" and done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, tokenizer, partition, small, tmp_path / "a", partial=partial, on_progress=die)
    before = (partial / "task-answers.jsonl").read_bytes()
    assert before.count(b"\n") == 4
    run(model, tokenizer, partition, small, tmp_path / "again", partial=partial)
    assert (partial / "task-answers.jsonl").read_bytes().startswith(before)
    for name in ("answers.parquet", "loss.parquet", "samples.json"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "again"))
        assert first == second
    summary = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert summary["generation"]["answers"]["kept_from_before"] == 4
