"""Two results are compared only in what was measured alike, and the first difference is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.evidence import gather_evidence, paired_results
from evalsuite.example_identity import example_conditions
from evalsuite.gates import judge_gate
from evalsuite.records import Gate, Identity, PreviousRelease
from evalsuite.results import write_loss

from .conftest import make_example
from .test_evidence import losses, write_answers

NAMES = ("first", "second")
EXAMPLES = [make_example(i, [1, 5, 6 + i], 1) for i in range(5)]
CONDITIONS = {"decoding": {"max_new_tokens": 4}, **example_conditions(EXAMPLES, "t" * 64)}
RELEASE = PreviousRelease(
    run_id="0123456789ab", adapter_digest="z", base_digest="b", evidence_digest="e"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("base", "adapter", "release"):
        subject = "adapter" if name == "adapter" else "base"
        write_loss(tmp_path / name / "loss.parquet", {"test": losses(subject)})
        write_answers(tmp_path / name / "answers.parquet", subject, conditions=CONDITIONS)
    return tmp_path


def write_other(folder: Path, **changes: Any) -> None:
    conditions = {**CONDITIONS, **changes}
    write_answers(folder / "release" / "answers.parquet", "base", conditions=conditions)


def test_two_adapters_can_be_paired(folder: Path) -> None:
    found = paired_results(folder / "adapter", folder / "base", names=NAMES)
    differences = {one.metric: one for one in found.differences}
    assert differences["answers.exact_match"].gained == 1
    assert differences["test.loss"].difference > 0
    assert found.refused == ()


def other_example(change: Callable[[Any], Any]) -> dict[str, str | None]:
    examples = [*EXAMPLES[:-1], change(EXAMPLES[-1])]
    return example_conditions(examples, "t" * 64)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (other_example(lambda e: replace(e, answer="another")), "data digest"),
        (other_example(lambda e: replace(e, tests="assert f() == 2")), "data digest"),
        (other_example(lambda e: replace(e, prompt_ids=(1, 9))), "prompt tokens digest"),
        (other_example(lambda e: replace(e, input_ids=(1, 5, 96))), "supervised tokens digest"),
        (other_example(lambda e: replace(e, labels=(-100, -100, 10))), "supervised tokens digest"),
        ({"template_digest": "u" * 64}, "template digest"),
        ({"decoding": {"max_new_tokens": 8}}, "decoding"),
        ({"engine": "another"}, "engine"),
        # The first that differs is named, in the order of what comes from what.
        ({"decoding": {}, "template_digest": "u" * 64, "prompt_tokens_digest": "p"}, "template"),
    ],
)
def test_only_the_task_that_differs_is_refused(
    folder: Path, changes: dict[str, Any], named: str
) -> None:
    write_other(folder, **changes)
    found = paired_results(folder / "release", folder / "adapter", names=NAMES)
    (refusal,) = found.refused
    assert refusal.group == "answers"
    assert refusal.reason.startswith(f"first and second differ in {named}")
    assert {one.metric.partition(".")[0] for one in found.differences} == {"test"}


def test_what_only_one_was_evaluated_on_is_refused(folder: Path) -> None:
    (folder / "release" / "answers.parquet").unlink()
    write_loss(
        folder / "release" / "loss.parquet", {name: losses("base") for name in ("test", "extra")}
    )
    found = paired_results(folder / "release", folder / "adapter", names=NAMES)
    assert {one.group: one.reason for one in found.refused} == {
        "answers": "only the second was evaluated on it.",
        "extra": "only the first was evaluated on it.",
    }
    assert {one.metric for one in found.differences} >= {"test.loss", "test.perplexity"}


def test_other_examples_are_named_by_place(folder: Path) -> None:
    other = losses("base")
    other[7] = replace(other[7], example_id="stranger")
    write_loss(folder / "release" / "loss.parquet", {"test": other})
    found = paired_results(folder / "release", folder / "adapter", names=NAMES)
    assert found.refused[0].reason.startswith("first and second differ at example 7: stranger and")


def test_evidence_holds_the_last_release(folder: Path, identity: Identity) -> None:
    evidence = gather_evidence(
        folder=folder, base=True, identity=identity, base_digest="b", adapter_digest="a",
        release=RELEASE,
    )  # fmt: skip
    assert evidence.release == RELEASE
    against = {one.against for one in evidence.differences if one.metric == "test.loss"}
    assert against == {"base", "release"}
    before, now = (evidence.measurement("test.loss", who) for who in ("release", "adapter"))
    found = evidence.difference("test.loss", "release")
    assert before is not None and now is not None and found is not None
    assert found.difference == pytest.approx(now.value - before.value)
    gate = Gate(metric="test.loss", claim="superior", against="release")
    result = judge_gate(gate, evidence)
    assert result.verdict == "PASS"
    assert result.base == before.value
    assert "adapter minus the last release" in result.reason


def test_a_release_measured_otherwise_is_an_error_that_names_it(
    folder: Path, identity: Identity
) -> None:
    write_other(folder, decoding={"max_new_tokens": 8})
    evidence = gather_evidence(
        folder=folder, base=True, identity=identity, base_digest="b", adapter_digest="a",
        release=RELEASE,
    )  # fmt: skip
    gate = Gate(metric="answers.exact_match", claim="non_inferior", margin=0.9, against="release")
    found = judge_gate(gate, evidence)
    assert found.verdict == "ERROR"
    assert "last release and adapter differ in decoding" in found.reason
    # Against the base, and in what was measured alike, it is judged.
    assert judge_gate(replace(gate, against="base"), evidence).verdict != "ERROR"
    loss = Gate(metric="test.loss", claim="superior", against="release")
    assert judge_gate(loss, evidence).verdict == "PASS"


@pytest.mark.parametrize(
    ("first", "verdict"), [("inconclusive", "INCONCLUSIVE"), ("allow", "PASS")]
)
def test_a_first_release_has_the_burden_of_proof(
    folder: Path, identity: Identity, first: Any, verdict: str
) -> None:
    evidence = gather_evidence(
        folder=folder, base=True, identity=identity, base_digest="b", adapter_digest="a"
    )
    gate = Gate(metric="test.loss", claim="superior", against="release", first_release=first)
    found = judge_gate(gate, evidence)
    assert found.verdict == verdict
    assert "nothing of this recipe is released yet" in found.reason
    assert found.estimate is None
