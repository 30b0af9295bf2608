from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.corpus_scores import figure_values
from evalsuite.errors import EvaluationError, EvidenceError
from evalsuite.examples import Example
from evalsuite.generation import Answer
from evalsuite.records import Decoding, Extraction, GenerationTask, MetricSpec
from evalsuite.results import read_task, write_task
from evalsuite.task_scoring import AnswerScores, score_answers, task_metrics
from tests.evalsuite.conftest import make_example

OWN = """
from evalsuite.figures import Figure
from evalsuite.metrics.item_metric import ItemMetric


class Odd(ItemMetric):
    description = "Gives what it is told to."
    figures = {"odd": Figure(kind="mean", unit="", higher_is_better=True)}
    signature = "odd"

    def __init__(self, *, given, **settings):
        self.given = given
        super().__init__(**settings)

    def scores(self, predictions, references, **columns):
        return self.given
"""


def answer(text: str) -> Answer:
    return Answer(text=text, token_ids=(5, 2), finished=True)


def task(*metrics: str | MetricSpec, **more: Any) -> GenerationTask:
    return GenerationTask(
        name="answers", data="test", decoding=Decoding(max_new_tokens=4), metrics=metrics, **more
    )


def scored(task: GenerationTask, examples: Sequence[Example], *texts: str) -> AnswerScores:
    with task_metrics(task) as metrics:
        return score_answers(task, metrics, examples, [answer(text) for text in texts])


@pytest.fixture
def examples() -> list[Example]:
    made = [make_example(i, range(3, 9), 3) for i in range(3)]
    answers = ["#### 4", "#### 1,000", "So #### 7"]
    return [replace(e, answer=a) for e, a in zip(made, answers, strict=True)]


def test_metrics_are_given_what_was_extracted(examples: list[Example]) -> None:
    number = Extraction(preset="last_number")
    extracting = task("exact_match", "rouge", extract=number, extract_reference=number)
    found = scored(extracting, examples, "2 + 2 is 4.", "I do not know.", "#### 7")
    assert found.scores["exact_match"] == [1.0, 0.0, 1.0]
    assert found.scores["rouge1"] == [1.0, 0.0, 1.0]
    assert found.not_extracted == 1
    whole = scored(task("exact_match"), examples, "#### 4", "4", "7")
    assert whole.scores["exact_match"] == [1.0, 0.0, 0.0]
    assert whole.not_extracted is None


def test_a_task_may_have_a_metric_twice_under_two_names(examples: list[Example]) -> None:
    lenient = MetricSpec(
        name="exact_match", options={"ignore": ["number_format"]}, renamed="lenient"
    )
    found = scored(task("exact_match", lenient), examples, "#### 4", "#### 1000.0", "x")
    assert found.scores == {"exact_match": [1.0, 0.0, 0.0], "lenient": [1.0, 1.0, 0.0]}
    with pytest.raises(EvaluationError, match="two of its metrics are called exact_match"):
        scored(task("exact_match", "exact_match"), examples, "", "", "")
    named = MetricSpec(name="chrf", renamed="prompt")
    with pytest.raises(EvaluationError, match="no figure can be called prompt"):
        scored(task(named), examples, "", "", "")


def test_pass_at_k_counts_what_another_metric_calls_right(examples: list[Example]) -> None:
    twice = [e for e in examples[:2] for _ in range(4)]
    both = task(MetricSpec(name="pass_at_k", options={"k": (1, 2), "of": "exact_match"}),
                "exact_match")  # fmt: skip
    found = scored(both, twice, "#### 4", "x", "#### 4", "y", "1", "2", "3", "#### 1,000")
    assert found.scores["exact_match"] == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert found.scores["pass@1"] == [0.5] * 4 + [0.25] * 4
    # Of two answers drawn from four, of which two (one) are right, at least one is.
    assert found.scores["pass@2"] == pytest.approx([1 - 1 / 6] * 4 + [0.5] * 4)
    alone = task(MetricSpec(name="pass_at_k", options={"of": "exact_match"}))
    with pytest.raises(EvaluationError, match=r"pass@1 is made from exact_match; add that to"):
        scored(alone, examples, "", "", "")
    more = task(
        "exact_match", MetricSpec(name="pass_at_k", options={"k": (2,), "of": "exact_match"})
    )
    with pytest.raises(EvaluationError, match=r"pass@2: example example-000 has 1 answers"):
        scored(more, examples, "", "", "")
    of_overlap = task("rouge", MetricSpec(name="pass_at_k", options={"of": "rouge1"}))
    with pytest.raises(EvaluationError, match=r"pass_at_k: rouge1 is 0\.6.*, not 0 or 1"):
        scored(of_overlap, examples, "4 x", "", "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"odd": [1.0, 2.0]}, "odd: 2 scores for 3 answers"),
        ({"odd": [1.0, math.nan, 2.0]}, "odd of answer 1 is nan, not a number"),
        ({"even": [1.0, 1.0, 1.0]}, "promises the figures odd and gives even"),
    ],
)
def test_a_metric_that_does_not_keep_its_word(
    tmp_path: Path, examples: list[Example], given: Any, told: str
) -> None:
    path = tmp_path / "odd.py"
    path.write_text(OWN)
    spec = MetricSpec(name="Odd", file=path, options={"given": given})
    with pytest.raises(EvaluationError, match=told):
        scored(task(spec), examples, "a", "b", "c")


@pytest.mark.parametrize("name", ["row", "chrf_statistics"])
def test_no_figure_is_called_as_a_column_of_the_stored_answers(
    examples: list[Example], name: str
) -> None:
    spec = MetricSpec(name="exact_match", renamed=name)
    with pytest.raises(EvaluationError, match=f"no figure can be called {name}"):
        scored(task("chrf", spec), examples, "a", "b", "c")


def stored(path: Path, examples: Sequence[Example], found: AnswerScores, *texts: str) -> None:
    write_task(
        path,
        examples,
        [answer(text) for text in texts],
        figures=found.figures,
        scores=found.scores,
        statistics=found.statistics,
        conditions={"data": "test"},
        extracted=found.texts.columns,
    )


def test_several_answers_are_one_number_an_example(tmp_path: Path, examples: list[Example]) -> None:
    """Means of scores, sums of statistics: corpus figures are those of all answers."""
    texts = ["#### 4", "4", "#### 1,000", "#### 1,000", "So", "So #### 7"]
    twice = [e for e in examples for _ in range(2)]
    found = scored(task("exact_match", "bleu", "chrf", "ter", "token_f1"), twice, *texts)
    stored(tmp_path / "answers.parquet", twice, found, *texts)
    read = read_task(tmp_path / "answers.parquet")
    assert read.example_ids == tuple(e.example_id for e in examples)
    assert read.scores["exact_match"].tolist() == [0.5, 1.0, 0.5]
    assert read.figures["exact_match"].kind == "mean"
    assert read.figures["exact_match"].unit == "share of items"
    whole = figure_values(found.figures, found.scores, found.statistics)
    by_example = figure_values(
        read.figures,
        {name: list(values) for name, values in read.scores.items()},
        {name: rows.tolist() for name, rows in read.statistics.items()},
    )
    assert by_example == pytest.approx(whole)
    from sacrebleu.metrics import BLEU

    references = [e.answer for e in twice]
    assert whole["bleu"] == pytest.approx(BLEU().corpus_score(texts, [references]).score)


def test_one_answer_an_example_stays_right_or_wrong(
    tmp_path: Path, examples: list[Example]
) -> None:
    texts = ["#### 4", "x", "y"]
    found = scored(task("exact_match", "ter"), examples, *texts)
    stored(tmp_path / "answers.parquet", examples, found, *texts)
    read = read_task(tmp_path / "answers.parquet")
    assert read.figures["exact_match"].kind == "binary"
    assert read.scores["exact_match"].tolist() == [1.0, 0.0, 0.0]
    assert read.statistics["ter"].shape == (3, 2)
    assert np.isfinite(read.statistics["ter"]).all()


def test_answers_that_are_not_as_many_for_every_example(
    tmp_path: Path, examples: list[Example]
) -> None:
    path, texts = tmp_path / "answers.parquet", ["a", "b", "c"]
    for rows, told in (
        ([examples[0], examples[0], examples[1]], "have 1 answers and some 2"),
        ([examples[0], examples[1], examples[0]], "answers to one example are apart"),
    ):
        stored(path, rows, scored(task("exact_match"), rows, *texts), *texts)
        with pytest.raises(EvidenceError, match=told):
            read_task(path)


def test_what_was_extracted_is_stored(tmp_path: Path, examples: list[Example]) -> None:
    import pyarrow.parquet as pq

    number = Extraction(preset="last_number")
    texts = ["It is 4", "none", "7"]
    found = scored(task("exact_match", extract=number, extract_reference=number), examples, *texts)
    stored(tmp_path / "answers.parquet", examples, found, *texts)
    rows = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert [row["extracted"] for row in rows] == ["4", "", "7"]
    assert [row["extraction_found"] for row in rows] == [True, False, True]
    assert [row["extracted_reference"] for row in rows] == ["4", "1000", "7"]
    assert [row["answer"] for row in rows] == texts


def test_a_rate_over_references_without_words_is_no_number(examples: list[Example]) -> None:
    empty = [replace(example, answer="") for example in examples]
    found = scored(task("ter"), empty, "a", "b", "c")
    with pytest.raises(EvidenceError, match="ter: the references hold no words"):
        figure_values(found.figures, found.scores, found.statistics)
