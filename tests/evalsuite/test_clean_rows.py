from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite import statistics
from evalsuite.catalogue import is_clean, on_all_rows, on_clean_rows
from evalsuite.clean_rows import read_leaked
from evalsuite.errors import EvidenceError
from evalsuite.evidence import gather_evidence
from evalsuite.gates import judge, judge_gate
from evalsuite.record_files import read_evidence, write_evidence
from evalsuite.records import Evidence, Gate, Identity, LeakedExamples
from evalsuite.results import write_loss

from .test_evidence import NLL, OVERLAP, RIGHT, TOKENS, losses, write_answers

LEAKED = {"test": {"e0": "exact", "e7": "near", "e29": "unsettled"}}
CLEAN = np.setdiff1d(np.arange(30), [0, 7, 29])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in ("base", "adapter"):
        write_loss(
            tmp_path / subject / "loss.parquet",
            {"test": losses(subject), "validation": losses(subject)},
        )
        conditions = {"data": "test", "decoding": {"max_new_tokens": 4}}
        write_answers(tmp_path / subject / "answers.parquet", subject, conditions=conditions)
    return tmp_path


@pytest.fixture
def gather(folder: Path, identity: Identity) -> Callable[..., Evidence]:
    def gather_now(leaked: Any, **changes: Any) -> Evidence:
        arguments: dict[str, Any] = {
            "folder": folder, "base": True, "identity": identity, "base_digest": "b",
            "adapter_digest": "a", "leaked": leaked,
        }  # fmt: skip
        return gather_evidence(**{**arguments, **changes})

    return gather_now


def example_ids(numbers: Any) -> dict[str, str]:
    return {f"e{number}": "exact" for number in numbers}


def task_ids(numbers: Any) -> dict[str, str]:
    return {f"example-{number:03d}": "exact" for number in numbers}


def test_names() -> None:
    assert on_clean_rows("test.loss") == "test.clean.loss"
    assert on_all_rows("test.clean.loss") == "test.loss"
    assert on_all_rows("clean.loss") == "clean.loss"  # a task may have this name
    assert [is_clean(m) for m in ("test.clean.loss", "test.loss", "clean.loss", "loss")] == [
        True, False, False, False,
    ]  # fmt: skip


def test_loss_on_the_clean_rows(gather: Callable[..., Evidence]) -> None:
    evidence = gather(LEAKED)
    found, measured = (
        evidence.difference("test.clean.loss"),
        evidence.measurement("test.clean.loss", "adapter"),
    )
    expected = statistics.paired_ratio(NLL["base"][CLEAN], NLL["adapter"][CLEAN], TOKENS[CLEAN])
    assert found is not None and measured is not None
    assert (found.difference, found.low, found.high, found.examples) == pytest.approx(
        (expected.value, expected.low, expected.high, 27)
    )
    assert measured.value == pytest.approx(NLL["adapter"][CLEAN].sum() / TOKENS[CLEAN].sum())
    whole = evidence.measurement("test.loss", "adapter")
    assert whole is not None and whole.examples == 30 and whole.value != measured.value
    names = {m.metric for m in evidence.measurements if is_clean(m.metric)}
    assert names == {
        "test.clean.loss", "test.clean.perplexity", "test.clean.bits_per_byte",
        "test.clean.token_accuracy",
    }  # fmt: skip
    assert evidence.leaked == (
        LeakedExamples(group="answers", examples=5, leaked=0),
        LeakedExamples(group="test", examples=30, leaked=3),
        LeakedExamples(group="validation", examples=30, leaked=0),
    )


def test_benchmarks_on_the_clean_rows(folder: Path, gather: Callable[..., Evidence]) -> None:
    for path in folder.glob("*/loss.parquet"):
        path.unlink()  # the made-up answers have ids of their own
    evidence = gather({"test": task_ids([0, 3])})
    binary = evidence.difference("answers.clean.exact_match")
    assert binary is not None
    kept = [1, 2, 4]
    gained = sum(RIGHT["base"][i] < RIGHT["adapter"][i] for i in kept)
    lost = sum(RIGHT["base"][i] > RIGHT["adapter"][i] for i in kept)
    assert (binary.gained, binary.lost, binary.examples) == (gained, lost, 3)
    mean = evidence.measurement("answers.clean.rougeL", "adapter")
    assert mean is not None
    assert mean.value == pytest.approx(np.mean([OVERLAP["adapter"][i] for i in kept]))
    corpus = evidence.difference("answers.clean.chrf")
    assert corpus is not None and corpus.method == "bootstrap" and corpus.examples == 3


def test_where_nothing_leaks_the_clean_rows_are_all_rows(gather: Callable[..., Evidence]) -> None:
    evidence = gather({})
    assert not any(is_clean(m.metric) for m in evidence.measurements)
    assert evidence.measurement("test.clean.loss", "base") == evidence.measurement(
        "test.loss", "base"
    )
    assert evidence.difference("answers.clean.rougeL") == evidence.difference("answers.rougeL")
    gate = Gate(metric="test.clean.loss", claim="superior")
    assert judge_gate(gate, evidence).verdict == "PASS"
    assert judge_gate(gate, evidence).examples == 30


def test_a_gate_on_the_clean_rows(gather: Callable[..., Evidence]) -> None:
    result = judge_gate(Gate(metric="test.clean.loss", claim="superior"), gather(LEAKED))
    assert (result.verdict, result.examples) == ("PASS", 27)


def test_a_gate_on_the_clean_rows_is_not_passed_by_leaked_ones(
    folder: Path, gather: Callable[..., Evidence]
) -> None:
    """An adapter that is only better on rows that it has learned by heart."""
    improved = [
        replace(loss, nll=loss.nll * (0.1 if loss.row < 20 else 1.3)) for loss in losses("base")
    ]
    write_loss(folder / "adapter" / "loss.parquet", {"test": improved, "validation": improved})
    evidence = gather({"test": example_ids(range(20))})
    gates = [Gate(metric=metric, claim="superior") for metric in ("test.loss", "test.clean.loss")]
    assert [result.verdict for result in judge(gates, evidence).gates] == ["PASS", "FAIL"]


def test_a_gate_without_a_clean_row_is_an_error(gather: Callable[..., Evidence]) -> None:
    evidence = gather({"test": example_ids(range(30))})
    assert not any(is_clean(m.metric) for m in evidence.measurements)
    for claim in ("superior", "ceiling"):
        gate = Gate(metric="test.clean.loss", claim=claim, at=9.0)
        result = judge_gate(gate, evidence)
        assert result.verdict == "ERROR"
        assert result.reason == (
            "test.clean.loss cannot be measured: all 30 examples of test leak."
        )
    assert judge_gate(Gate(metric="test.loss", claim="superior"), evidence).verdict == "PASS"


def test_a_single_clean_row_decides_nothing(gather: Callable[..., Evidence]) -> None:
    evidence = gather({"test": example_ids(range(29))})
    gate = Gate(metric="test.clean.loss", claim="superior")
    assert judge_gate(gate, evidence).verdict == "INCONCLUSIVE"


def test_where_leaks_were_not_looked_for_there_are_no_clean_rows(
    gather: Callable[..., Evidence],
) -> None:
    evidence = gather(None)
    assert evidence.leaked == ()
    result = judge_gate(Gate(metric="test.clean.loss", claim="superior"), evidence)
    assert result.verdict == "ERROR"
    assert "is missing from the evidence" in result.reason


def test_leaked_examples_must_have_been_evaluated(gather: Callable[..., Evidence]) -> None:
    with pytest.raises(EvidenceError, match="test: example other is listed as leaked but was not"):
        gather({"test": {"other": "exact"}})


def test_a_task_that_does_not_say_its_partition_is_refused(
    folder: Path, gather: Callable[..., Evidence]
) -> None:
    for subject in ("base", "adapter"):
        write_answers(folder / subject / "answers.parquet", subject, conditions={})
    with pytest.raises(EvidenceError, match="answers: does not say its partition"):
        gather(LEAKED)


def test_evidence_comes_back_from_its_file(gather: Callable[..., Evidence], tmp_path: Path) -> None:
    evidence = gather(LEAKED)
    write_evidence(evidence, tmp_path / "evidence.json")
    assert read_evidence(tmp_path / "evidence.json") == evidence


def write_list(path: Path, **columns: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_the_list_of_leaked_rows(tmp_path: Path) -> None:
    path = write_list(
        tmp_path / "leaked.parquet",
        partition=["test", "validation", "test"],
        example_id=["a", "b", "c"],
        row=[5, 6, 7],
        kind=["exact", "near", "unsettled"],
    )
    assert read_leaked(path) == {
        "test": {"a": "exact", "c": "unsettled"},
        "validation": {"b": "near"},
    }


def test_a_missing_or_damaged_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be read as the list of leaks"):
        read_leaked(tmp_path / "leaked.parquet")
    (tmp_path / "leaked.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(EvidenceError, match="cannot be read as the list of leaks"):
        read_leaked(tmp_path / "leaked.parquet")
    path = write_list(tmp_path / "leaked.parquet", partition=["test"], example_id=["a"])
    with pytest.raises(EvidenceError, match="column kind is missing"):
        read_leaked(path)
