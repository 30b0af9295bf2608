"""The A/A check: what the same model differs by when it is evaluated again in other batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.corpus_scores import chrf
from evalsuite.errors import EvidenceError
from evalsuite.evaluation import evaluate_subject
from evalsuite.evidence import gather_evidence
from evalsuite.figures import GENERATION, LOSS
from evalsuite.instrument import INSTRUMENT_FILE, moved, read_floors
from evalsuite.observations import Observed
from evalsuite.records import Decoding, EvaluationSpec, GenerationTask, Identity, InstrumentFloor

from .conftest import make_example

COUNT = 24


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = np.random.default_rng(3)
    examples = []
    for number in range(COUNT):
        tokens = [1, *chosen.integers(3, 200, int(chosen.integers(6, 50))).tolist()]
        examples.append(make_example(number, tokens, len(tokens) // 2))
    path = tmp_path_factory.mktemp("partition") / "test.parquet"
    pq.write_table(pa.Table.from_pylist([asdict(example) for example in examples]), path)
    return path


@pytest.fixture
def evaluate(
    model: Any, tokenizer: Any, partition: Path, tmp_path: Path
) -> Callable[..., dict[str, InstrumentFloor]]:
    def evaluate_now(instrument_examples: int, **changes: Any) -> dict[str, InstrumentFloor]:
        spec = EvaluationSpec(
            loss=("test",),
            generation=(
                GenerationTask(
                    name="answers", data="test", decoding=Decoding(max_new_tokens=5), limit=9,
                    metrics=("exact_match", "rouge", "chrf"),
                ),
            ),
            samples=(), sample_decoding=Decoding(max_new_tokens=4), stop_token_ids=(2,),
            pad_token_id=0, seed=0, batch_tokens=400, instrument_examples=instrument_examples,
        )  # fmt: skip
        evaluate_subject(
            subject="base", model=model, tokenizer=tokenizer, partitions={"test": partition},
            spec=replace(spec, **changes), folder=tmp_path / "base",
        )  # fmt: skip
        return {found.metric: found for found in read_floors(tmp_path / "base")}

    return evaluate_now


def test_float32_is_fine(
    evaluate: Callable[..., dict[str, InstrumentFloor]], identity: Identity, tmp_path: Path
) -> None:
    floors = evaluate(10)
    assert set(floors) == {
        *(f"test.{name}" for name in LOSS if name != "kl"),
        *(f"answers.{name}" for name in ("exact_match", "chrf")),
        *(f"answers.{name}" for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
    }
    assert 0.0 < floors["test.loss"].floor < 1e-5
    assert floors["test.loss"].floor <= floors["test.loss"].largest < 1e-4
    assert floors["test.loss"].differing is None
    assert (floors["answers.chrf"].examples, floors["answers.chrf"].differing) == (9, 0)
    assert floors["answers.exact_match"].floor == 0.0
    evidence = gather_evidence(
        folder=tmp_path, base=True, identity=identity, base_digest="b", adapter_digest=None
    )
    assert evidence.floor("test.loss") == floors["test.loss"]
    assert evidence.floor("test.clean.loss") == floors["test.loss"]
    assert evidence.floor("test.nothing") is None


def test_tiny_sets_are_evaluated_twice_as_a_whole(
    evaluate: Callable[..., dict[str, InstrumentFloor]],
) -> None:
    assert evaluate(1000)["test.loss"].examples == COUNT


def test_nothing_is_evaluated_twice_where_nothing_is_asked(
    evaluate: Callable[..., dict[str, InstrumentFloor]], tmp_path: Path
) -> None:
    assert evaluate(0) == {}
    assert not (tmp_path / "base" / INSTRUMENT_FILE).exists()


def test_an_instrument_that_depends_on_the_batch_is_found_out(
    evaluate: Callable[..., dict[str, InstrumentFloor]], model: Any
) -> None:
    """A planted fault: the more rows a batch has, the larger every logit but the likeliest."""
    head = model.get_output_embeddings()

    def depend(_: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        rows = inputs[0].shape[0] * inputs[0].shape[1]
        return output * (1.0 + 0.02 * rows)

    hook = head.register_forward_hook(depend)
    try:
        floors = evaluate(10)
    finally:
        hook.remove()
    assert floors["test.loss"].floor > 1e-2
    assert floors["test.perplexity"].floor > floors["test.loss"].floor
    # Greedy answers do not depend on how large logits are, as long as their order is the same.
    assert floors["answers.chrf"].differing == 0


def test_answers_that_take_another_turn_are_counted(
    evaluate: Callable[..., dict[str, InstrumentFloor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalsuite.bench import Bench

    whole = Bench.answers

    def answers(self: Bench, *arguments: Any, **options: Any) -> Any:
        found = whole(self, *arguments, **options)
        return [replace(a, text="x") for a in found] if self.backwards else found

    monkeypatch.setattr(Bench, "answers", answers)
    floors = evaluate(10)
    assert floors["answers.chrf"].differing == 9
    assert floors["answers.chrf"].examples == 9


def observed(name: str, values: Any, weights: Any = None) -> Observed:
    figure = {**LOSS, **GENERATION}[name]
    array = np.asarray(values, dtype=np.float64)
    ones = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    return Observed(metric=f"test.{name}", figure=figure, values=array, weights=ones, clusters=None)


def test_the_floor_is_what_every_change_in_one_direction_would_come_to() -> None:
    first, again = [10.0, 20.0, 30.0], [10.1, 19.8, 30.0]
    tokens = [5.0, 10.0, 15.0]
    loss = moved(observed("loss", first, tokens), observed("loss", again, tokens))
    assert loss == pytest.approx((0.3 / 30, 0.02))
    perplexity = moved(observed("perplexity", first, tokens), observed("perplexity", again, tokens))
    assert perplexity[0] == pytest.approx(math.exp(2.0) * math.expm1(0.01))
    right = moved(observed("exact_match", [1, 0, 1, 1]), observed("exact_match", [0, 1, 1, 1]))
    assert right == (0.5, 1.0)


def test_the_floor_of_a_corpus_figure_is_the_sum_of_the_examples_effects() -> None:
    first = np.array([[9.0, 9.0, 6.0] * 6, [9.0, 9.0, 3.0] * 6, [9.0, 9.0, 9.0] * 6])
    again = first.copy()
    again[0, 2::3] += 1.0
    again[1, 2::3] -= 1.0
    floor, largest = moved(observed("chrf", first), observed("chrf", again))
    one = 100.0 / 27.0
    assert (floor, largest) == pytest.approx((2 * one, one))
    totals = [part.sum(axis=0)[None] for part in (first, again)]
    assert chrf(totals[0])[0] == pytest.approx(chrf(totals[1])[0])  # the two cancel out


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / INSTRUMENT_FILE).write_text('[{"metric": "test.loss"}]')
    with pytest.raises(EvidenceError, match=r"instrument.json\[0\]: key differing is missing"):
        read_floors(tmp_path)
    (tmp_path / INSTRUMENT_FILE).write_text("{}")
    with pytest.raises(EvidenceError, match=r"instrument\.json: expected a list"):
        read_floors(tmp_path)
