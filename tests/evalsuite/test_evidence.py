from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite import proportions, statistics
from evalsuite.errors import EvidenceError
from evalsuite.evidence import gather_evidence
from evalsuite.figures import GENERATION
from evalsuite.generation import Answer
from evalsuite.loss import ExampleLoss
from evalsuite.records import Evidence, Identity
from evalsuite.results import read_loss, read_task, write_loss, write_task

from .conftest import make_example

RNG = np.random.default_rng(21)
TOKENS = RNG.integers(3, 90, 30)
NLL = {"base": TOKENS * RNG.uniform(1.0, 3.0, 30), "adapter": TOKENS * RNG.uniform(0.3, 1.5, 30)}
RIGHT = {"base": [1.0, 0.0, 1.0, 0.0, 0.0], "adapter": [1.0, 1.0, 0.0, 1.0, 1.0]}
OVERLAP = {"base": [0.1, 0.2, 0.3, 0.4, 0.5], "adapter": [0.2, 0.3, 0.3, 0.6, 0.9]}


def losses(subject: str, clusters: int | None = None) -> list[ExampleLoss]:
    return [
        ExampleLoss(
            example_id=f"e{i}", row=i, nll=float(NLL[subject][i]), tokens=int(TOKENS[i]),
            bytes=int(TOKENS[i]) * 4, correct=int(TOKENS[i]) // 2,
            cluster="" if clusters is None else f"document {i % clusters}",
        )
        for i in range(30)
    ]  # fmt: skip


def write_answers(path: Path, subject: str, **changes: Any) -> None:
    examples = [make_example(i, [1, 5, 6], 1) for i in range(5)]
    answers = [Answer(text="a", token_ids=(5, 2), finished=True)] * 5
    cluster = changes.pop("clusters", ("",) * 5)
    examples = [replace(one, cluster=name) for one, name in zip(examples, cluster, strict=True)]
    arguments: dict[str, Any] = {
        "figures": {name: GENERATION[name] for name in ("exact_match", "rougeL", "chrf")},
        "scores": {
            "exact_match": RIGHT[subject], "rougeL": OVERLAP[subject], "chrf": OVERLAP[subject],
        },
        "statistics": {"chrf": [[9.0, 9.0, 9.0 * x] * 6 for x in OVERLAP[subject]]},
        "conditions": {"decoding": {"max_new_tokens": 4}, "metrics": {"rouge": "v1"}},
    }  # fmt: skip
    write_task(path, examples, answers, **{**arguments, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in ("base", "adapter"):
        write_loss(tmp_path / subject / "loss.parquet", {"test": losses(subject)})
        write_answers(tmp_path / subject / "answers.parquet", subject)
    return tmp_path


@pytest.fixture
def gather(folder: Path, identity: Identity) -> Callable[..., Evidence]:
    def gather_now(**changes: Any) -> Evidence:
        arguments: dict[str, Any] = {
            "folder": folder, "base": True, "identity": identity, "base_digest": "b",
            "adapter_digest": "a",
        }  # fmt: skip
        return gather_evidence(**{**arguments, **changes})

    return gather_now


def test_every_figure_of_both_subjects(gather: Callable[..., Evidence]) -> None:
    evidence = gather()
    names = {
        "test.loss", "test.perplexity", "test.bits_per_byte", "test.token_accuracy",
        "answers.exact_match", "answers.rougeL", "answers.chrf",
    }  # fmt: skip
    assert {d.metric for d in evidence.differences} == names
    for subject in ("base", "adapter"):
        assert {m.metric for m in evidence.measurements if m.subject == subject} == names


def test_loss_figures(gather: Callable[..., Evidence]) -> None:
    evidence = gather()
    loss = NLL["adapter"].sum() / TOKENS.sum()

    def value(name: str) -> float:
        found = evidence.measurement(f"test.{name}", "adapter")
        assert found is not None
        return found.value

    assert value("loss") == pytest.approx(loss)
    assert value("perplexity") == pytest.approx(math.exp(loss))
    assert value("bits_per_byte") == pytest.approx(
        NLL["adapter"].sum() / math.log(2) / (4 * TOKENS).sum()
    )
    assert value("token_accuracy") == pytest.approx((TOKENS // 2).sum() / TOKENS.sum())
    found = evidence.difference("test.loss")
    expected = statistics.paired_ratio(NLL["base"], NLL["adapter"], TOKENS)
    assert found is not None
    assert (found.difference, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert found.p_value is not None and found.p_value < 1e-6


def test_binary_items(gather: Callable[..., Evidence]) -> None:
    evidence = gather()
    found, measured = (
        evidence.difference("answers.exact_match"),
        evidence.measurement("answers.exact_match", "base"),
    )
    assert found is not None and measured is not None
    assert (found.gained, found.lost, found.examples) == (3, 1, 5)
    assert (found.low, found.high) == proportions.tango_interval(3, 1, 5)
    assert found.p_value == proportions.exact_mcnemar(3, 1)
    assert (measured.low, measured.high) == proportions.clopper_pearson(2, 5)


def test_item_means_and_corpus_figures(gather: Callable[..., Evidence]) -> None:
    evidence = gather()
    rouge, chrf = evidence.difference("answers.rougeL"), evidence.difference("answers.chrf")
    assert rouge is not None and chrf is not None
    assert rouge.difference == pytest.approx(0.16)
    assert rouge.method == "item-mean"
    assert chrf.method == "bootstrap"
    assert chrf.difference == pytest.approx(100 * 0.16)


def test_dependent_examples_are_weighed_by_cluster(
    folder: Path, gather: Callable[..., Evidence]
) -> None:
    for subject in ("base", "adapter"):
        write_loss(folder / subject / "loss.parquet", {"test": losses(subject, clusters=6)})
        write_answers(
            folder / subject / "answers.parquet", subject, clusters=("a", "a", "b", "", "")
        )
    evidence = gather()
    clusters = np.arange(30) % 6
    loss, value = evidence.difference("test.loss"), evidence.measurement("test.loss", "adapter")
    assert loss is not None and value is not None
    expected = statistics.paired_ratio(NLL["base"], NLL["adapter"], TOKENS, clusters=clusters)
    assert (loss.standard_error, loss.degrees_of_freedom) == pytest.approx(
        (expected.standard_error, 5)
    )
    assert (loss.clusters, loss.examples, value.clusters) == (6, 30, 6)
    # Items that are right or wrong are not independent either: neither McNemar nor Tango then.
    right = evidence.difference("answers.exact_match")
    assert right is not None
    mean = statistics.paired_item_mean(
        RIGHT["base"], RIGHT["adapter"], span=1.0, clusters=np.array([0, 0, 1, 2, 3])
    )
    assert (right.method, right.gained, right.clusters) == ("item-mean", None, 4)
    assert right.standard_error == pytest.approx(mean.standard_error)
    chrf = evidence.difference("answers.chrf")
    assert chrf is not None
    assert (chrf.method, chrf.degrees_of_freedom) == ("bootstrap", 3)


def test_the_adapter_alone(gather: Callable[..., Evidence]) -> None:
    evidence = gather(base=False)
    assert evidence.differences == ()
    assert {m.subject for m in evidence.measurements} == {"adapter"}


def test_the_base_alone(gather: Callable[..., Evidence]) -> None:
    evidence = gather(adapter_digest=None)
    assert evidence.differences == ()
    assert {m.subject for m in evidence.measurements} == {"base"}


def test_other_ids_name_the_first_difference(folder: Path, gather: Callable[..., Evidence]) -> None:
    other = losses("adapter")
    other[7] = replace(other[7], example_id="stranger")
    write_loss(folder / "adapter" / "loss.parquet", {"test": other})
    with pytest.raises(EvidenceError, match=r"test: .* differ at example 7: e7 and stranger"):
        gather()


def test_an_example_less(folder: Path, gather: Callable[..., Evidence]) -> None:
    write_loss(folder / "adapter" / "loss.parquet", {"test": losses("adapter")[:-1]})
    with pytest.raises(EvidenceError, match="differ at example 29: e29 and none"):
        gather()


@pytest.mark.parametrize("column", ["tokens", "bytes"])
def test_other_tokens_of_the_same_example(
    folder: Path, gather: Callable[..., Evidence], column: str
) -> None:
    other = losses("adapter")
    other[3] = replace(other[3], **{column: 7})
    write_loss(folder / "adapter" / "loss.parquet", {"test": other})
    with pytest.raises(EvidenceError, match=f"example e3 has .* supervised {column}"):
        gather()


def test_other_partitions_or_tasks(folder: Path, gather: Callable[..., Evidence]) -> None:
    (folder / "adapter" / "answers.parquet").rename(folder / "adapter" / "others.parquet")
    with pytest.raises(EvidenceError, match="other generation tasks: answers and others"):
        gather()
    write_loss(folder / "adapter" / "loss.parquet", {"validation": losses("adapter")})
    with pytest.raises(EvidenceError, match="other held-out partitions: test and validation"):
        gather()


def test_other_conditions(folder: Path, gather: Callable[..., Evidence]) -> None:
    conditions = {"decoding": {"max_new_tokens": 8}, "metrics": {"rouge": "v1"}}
    write_answers(folder / "adapter" / "answers.parquet", "adapter", conditions=conditions)
    with pytest.raises(EvidenceError, match="answers: base and adapter differ in decoding"):
        gather()


def test_a_score_that_is_not_finite(folder: Path, gather: Callable[..., Evidence]) -> None:
    other = losses("adapter")
    other[3] = replace(other[3], nll=math.nan)
    write_loss(folder / "adapter" / "loss.parquet", {"test": other})
    with pytest.raises(EvidenceError, match=r"test\.loss of the adapter: value 3 is nan"):
        gather()


def test_a_binary_score_of_one_half(folder: Path, gather: Callable[..., Evidence]) -> None:
    scores = {"exact_match": [0.5] * 5, "rougeL": OVERLAP["base"], "chrf": OVERLAP["base"]}
    write_answers(folder / "base" / "answers.parquet", "base", scores=scores)
    with pytest.raises(EvidenceError, match=r"answers\.exact_match of the base: .* neither 0 nor"):
        gather()


def test_missing_results(folder: Path, gather: Callable[..., Evidence]) -> None:
    (folder / "adapter").rename(folder / "elsewhere")
    with pytest.raises(EvidenceError, match="adapter: is missing; evaluate the adapter first"):
        gather()


@pytest.mark.parametrize("name", ["loss.parquet", "answers.parquet"])
def test_damaged_results(folder: Path, gather: Callable[..., Evidence], name: str) -> None:
    (folder / "base" / name).write_bytes(b"PAR1 cut off")
    with pytest.raises(EvidenceError, match=f"{name}: cannot be read as per-example results"):
        gather()


def test_a_parquet_file_of_someone_else(folder: Path, gather: Callable[..., Evidence]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), folder / "base" / "loss.parquet")
    with pytest.raises(EvidenceError, match="was not written by proofbox"):
        gather()


def test_what_is_written_is_read(folder: Path) -> None:
    stored = read_loss(folder / "base" / "loss.parquet")["test"]
    assert stored.nll.tolist() == NLL["base"].tolist()
    task = read_task(folder / "base" / "answers.parquet")
    assert task.scores["exact_match"].tolist() == RIGHT["base"]
    assert task.figures["chrf"] == GENERATION["chrf"]
    assert task.statistics["chrf"].shape == (5, 18)


def test_a_single_example_is_no_evidence_of_anything(
    tmp_path: Path, gather: Callable[..., Evidence]
) -> None:
    for subject in ("base", "adapter"):
        write_loss(tmp_path / "one" / subject / "loss.parquet", {"test": losses(subject)[:1]})
    found = gather(folder=tmp_path / "one").difference("test.loss")
    assert found is not None
    assert (found.low, found.high, found.p_value) == (-math.inf, math.inf, 1.0)


def test_no_heavy_import_on_the_way_to_evidence() -> None:
    import subprocess
    import sys

    program = (
        "import sys\n"
        "import evalsuite.evidence, evalsuite.gates, evalsuite.power, evalsuite.record_files\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'pandas', 'peft', 'sacrebleu'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
